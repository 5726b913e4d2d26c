"""The time of a requested triage: at most one triage per job every two seconds."""

from __future__ import annotations

import hashlib

from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant

__all__ = ["task_name", "triage_key", "triage_kick"]

_PERIOD = 2 * SECOND  # the original's
_TRIAGE_MESSAGE = "internal.tq.TriageJobStateTask"  # the original's name of the payload; it is part of the hash


def triage_kick(job_id: JobId, now: Instant) -> tuple[Instant, str]:
    """Return the time of a job's next triage, always later than ``now``, and the name of its task.

    All requests within the same two seconds share one task.
    """
    # The next boundary, never the current time: a task at `now` could run before the commit that records the request.
    eta = Instant((now // _PERIOD + 1) * _PERIOD)
    return eta, task_name(_TRIAGE_MESSAGE, triage_key(job_id, eta))


def triage_key(job_id: JobId, eta: Instant) -> str:
    """Return the key that all requests for one triage share."""
    return f"triage:{job_id}:{eta // SECOND}"


def task_name(message: str, key: str) -> str:
    """Return the name of a task that must exist once per key, among the tasks with the same kind of message."""
    return hashlib.sha256(f"{message}\0{key}".encode()).hexdigest()
