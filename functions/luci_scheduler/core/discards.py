"""Why triggers are discarded: the words that markers keep, and that people read."""

from __future__ import annotations

__all__ = [
    "BY_POLICY",
    "JOB_DISABLED",
    "JOB_MISSING",
    "JOB_PAUSED",
    "NOT_SERVED",
    "TOO_MANY",
]

JOB_MISSING = "the job does not exist"
JOB_DISABLED = "the job is disabled"
JOB_PAUSED = "the job is paused"
TOO_MANY = "more than 1000 triggers were pending"
"""The number is `core.triage.MAX_PENDING`; markers that are stored have it too."""
BY_POLICY = "the policy NEWEST_FIRST discarded it, as it was pending for longer than its pending_timeout"
NOT_SERVED = "the repository's host does not serve the commit"
"""What the host said follows."""
