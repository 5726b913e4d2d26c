"""Why triggers are discarded: the words that markers keep, and that people read."""

from __future__ import annotations

import re

from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.job import TriggeringPolicy

__all__ = [
    "JOB_DISABLED",
    "JOB_MISSING",
    "JOB_PAUSED",
    "NOT_ON_REF",
    "NOT_SERVED",
    "TOO_COSTLY",
    "by_policy",
    "is_by_policy",
    "is_too_many",
    "too_many",
]

JOB_MISSING = "the job does not exist"
JOB_DISABLED = "the job is disabled"
JOB_PAUSED = "the job is paused"
NOT_SERVED = "the repository's host does not serve the commit"
"""The answer of the host follows."""
NOT_ON_REF = "the commit is not on the ref that is named with it"
"""The name of the ref follows."""
TOO_COSTLY = (
    "the project's patterns of refs and paths cost too much for this commit: simplify them in luci-scheduler.cfg"
)
"""The limits are in `core.pattern_budget`."""

_TOO_MANY = re.compile(r"more than [0-9]+ triggers were pending")
_POLICY = "the policy "


def by_policy(policy: TriggeringPolicy) -> str:
    """Return the reason of what a policy discards: NEWEST_FIRST what has waited too long, the others nothing."""
    timeout = format_duration(policy.pending_timeout)
    return f"{_POLICY}{policy.kind} discarded it, as it was pending for longer than {timeout}"


def is_by_policy(reason: str) -> bool:
    """Whether a policy discarded the trigger."""
    return reason.startswith(_POLICY)


def too_many(limit: int) -> str:
    """Return the reason of the oldest triggers of a job that has more pending ones than it keeps."""
    return f"more than {limit} triggers were pending"


def is_too_many(reason: str) -> bool:
    """Whether the trigger was one of too many."""
    return _TOO_MANY.fullmatch(reason) is not None
