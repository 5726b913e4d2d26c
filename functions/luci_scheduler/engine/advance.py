"""Advance: start what waits for a job, and launch what was created."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luci_scheduler.core.errors import ComeAgainError, SchedulerError, StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.triage import has_free_slot, inactive_reason
from luci_scheduler.engine.allocation import PENDING_READ, allocate
from luci_scheduler.engine.jobs import put_job, rewound
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import Answers
from luci_scheduler.ports import Found, TriggerRecord

__all__ = ["advance", "launch_all", "take_up_waiting"]

_LAUNCHING = 30 * SECOND
"""Launches begun later than this in one delivery get tasks: a notification is answered within two minutes, and one launch
may take one."""


def advance(runtime: Runtime, job_id: JobId, key: str) -> None:
    """Start what waits for a job, as far as slots are free; safe to repeat.

    Raises:
        ComeAgainError: the race for the job's document was lost too often.
    """
    launch_all(runtime, take_up_waiting(runtime, job_id, key, asked_for=True), key)


def take_up_waiting(runtime: Runtime, job_id: JobId, key: str, *, asked_for: bool = False) -> list[Found[Invocation]]:
    """Triage a job's stored triggers and commit the outcome; return the invocations that are to be launched now.

    Where nothing is pending the job is read only if a triage was ``asked_for``, which its document then says.
    """
    for _ in range(runtime.limits.races):
        pending = runtime.store.pending_triggers(job_id, PENDING_READ)
        started = runtime.clock.now()
        found = runtime.store.job(job_id) if pending or asked_for else None
        if found is None or not _needs_triage(found.value, pending):
            return []
        asking = replace(found.value, triage_due=None)
        plan = allocate(runtime, asking, pending, (), started=started, key=key)
        # Where something was pending a moment ago the flag stays set: a later look that finds nothing clears it.
        waits = found.value.triggers_wait or bool(pending)
        changed = rewound(runtime, replace(plan.job, triggers_wait=waits), runtime.clock.now())
        try:
            versions = runtime.store.commit([*plan.writes, put_job(changed, found, key, plan.log)])
        except StoreConflictError:
            continue
        return plan.created(versions)
    raise ComeAgainError(f"job {job_id} changes too fast to be triaged")


def _needs_triage(job: Job, pending: Sequence[Found[TriggerRecord]]) -> bool:
    if job.triage_due is not None:
        return True
    return bool(pending) and (has_free_slot(job) or bool(inactive_reason(job)) or not job.triggers_wait)


def launch_all(
    runtime: Runtime, created: Sequence[Found[Invocation]], key: str, answers: Answers | None = None
) -> None:
    """Launch invocations that were just created; one that fails becomes a launch task of its own.

    ``answers`` holds what was asked for the first of them before it was created.

    So does one that there is no time for. What even the queue does not take is left to the sweep: every invocation has
    its ``next_due`` from its creation.
    """
    from luci_scheduler.engine import launch  # noqa: PLC0415 - a launch that ends at once advances the job in turn

    until = Instant(runtime.clock.now() + _LAUNCHING)
    for found in created:
        invocation, trouble = found.value, "no time left"
        if runtime.clock.now() < until:
            try:
                launch.launch(runtime, found, key, answers if found is created[0] else None)
            except SchedulerError as error:
                trouble = str(error)
            else:
                continue
        logger.warning("launch_postponed", job_id=invocation.job_id, invocation_id=str(invocation.id), error=trouble)
        now = runtime.clock.now()
        runtime.queue.enqueue(launch_task(invocation, now, now))
