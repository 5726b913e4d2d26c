"""What waits for a job: its stored triggers, triaged when a slot has come free or somebody asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luci_scheduler.core.errors import ComeAgainError, SchedulerError, StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.triage import may_triage
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.allocation import PENDING_READ, Allocation, allocate, commit_allocation
from luci_scheduler.engine.jobs import put_job, rewound
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.ports import Versioned, Write

__all__ = ["look_again", "take_up_waiting"]


def take_up_waiting(
    runtime: Runtime, job_id: JobId, key: str, *, asked_for: bool = False
) -> list[Versioned[Invocation]]:
    """Triage a job's stored triggers and commit the outcome; return the invocations that are to be launched now.

    Where nothing is pending the job is read only if a triage was ``asked_for``, which its document then says.
    """
    for _ in range(runtime.limits.races):
        pending = runtime.store.pending_triggers(job_id, PENDING_READ)
        started = runtime.clock.now()
        found = runtime.store.job(job_id) if pending or asked_for else None
        if found is None or not _needs_triage(found.value, pending):
            return []
        try:
            return _triaged(runtime, found, pending, started, key)
        except StoreConflictError:
            continue
    raise ComeAgainError(f"job {job_id} changes too fast to be triaged")


def look_again(runtime: Runtime, job_id: JobId, asked: Instant, key: str) -> list[Versioned[Invocation]]:
    """Take up what was recorded just before a slot came free, and return what is to be launched; safe to repeat.

    The job's document has asked for it since ``asked``. Where nothing was recorded the request is withdrawn, and the triage
    log goes on telling of the triage that decided something. Raises nothing of the store's: what fails is left to the sweep,
    as the request stands.
    """
    try:
        if runtime.store.pending_triggers(job_id, 1):
            return take_up_waiting(runtime, job_id, key, asked_for=True)
        found = runtime.store.job(job_id)
        if found is not None and found.value.triage_due == asked:
            runtime.store.commit([put_job(replace(found.value, triage_due=None), found, key)])
    except SchedulerError as error:
        logger.warning("second_look_failed", job_id=job_id, error=str(error))
    return []


def _triaged(
    runtime: Runtime, found: Versioned[Job], pending: Sequence[Versioned[TriggerRecord]], started: Instant, key: str
) -> list[Versioned[Invocation]]:
    asking = replace(found.value, triage_due=None)
    # Where something was pending a moment ago the flag stays set: a later look that finds nothing clears it.
    waits = found.value.triggers_wait or bool(pending)

    def draw_up(refusal: str) -> tuple[Allocation, Sequence[Write]]:
        plan = allocate(runtime, asking, pending, (), started=started, key=key, refusal=refusal)
        changed = rewound(runtime, replace(plan.job, triggers_wait=waits), runtime.clock.now())
        return plan, [*plan.writes, put_job(changed, found, key, plan.log)]

    return commit_allocation(runtime, draw_up)


def _needs_triage(job: Job, pending: Sequence[Versioned[TriggerRecord]]) -> bool:
    if job.triage_due is not None:
        return True
    return bool(pending) and (may_triage(job) or not job.triggers_wait)
