"""The stored state of a job, for administrators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import no_such_job
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.job import Job

__all__ = ["DebugState", "debug_job_state"]

_PENDING = 100  # pending triggers in a reply, the oldest of them


@frozen
class DebugState:
    """A job's documents."""

    job: Job
    pending_triggers: tuple[str, ...] = ()
    """IDs of the oldest pending triggers, at most a hundred."""
    triage_log: str = ""
    known_refs: Mapping[str, str] = field(default_factory=dict)
    """For a gitiles job: ref → revision."""


def debug_job_state(context: Context, job_id: JobId) -> DebugState:
    """Return the stored state of a job, even a disabled one; costs three reads, and one for each pending trigger.

    Raises:
        ApiError: PERMISSION_DENIED: the caller is not an administrator.
        NoSuchJobError: the job does not exist.
    """
    context.require_admin()
    store = context.runtime.store
    found = store.job(job_id)
    if found is None:
        raise no_such_job()
    poller = store.poller(job_id)
    return DebugState(
        job=found.value,
        pending_triggers=tuple(item.value.trigger.id for item in store.pending_triggers(job_id, _PENDING)),
        triage_log=store.triage_log(job_id),
        known_refs=poller.value.known if poller else {},
    )
