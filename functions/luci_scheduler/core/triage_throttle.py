"""When a triage that is wanted "now" takes place: at most one per job every two seconds."""

from __future__ import annotations

import hashlib

from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant

__all__ = ["task_name", "triage_key", "triage_kick"]

_PERIOD = 2 * SECOND
_TRIAGE_MESSAGE = "internal.tq.TriageJobStateTask"  # the original's name of the task's payload, part of what is hashed


def triage_kick(job_id: JobId, now: Instant) -> tuple[Instant, str]:
    """Return when the next triage of a job takes place, always later than ``now``, and the name of its task.

    All that is asked for within the same two seconds is one task.
    """
    eta = Instant((now // _PERIOD + 1) * _PERIOD)
    return eta, task_name(_TRIAGE_MESSAGE, triage_key(job_id, eta))


def triage_key(job_id: JobId, eta: Instant) -> str:
    """Return the key that all requests for one triage share."""
    return f"triage:{job_id}:{eta // SECOND}"


def task_name(message: str, key: str) -> str:
    """Return the name of a task that is to exist once per key, among the tasks of one kind of payload."""
    return hashlib.sha256(f"{message}\0{key}".encode()).hexdigest()
