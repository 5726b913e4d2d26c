"""Cron ticks: a job's own schedule starts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luci_scheduler.core import cron_machine
from luci_scheduler.core.cron_machine import StartInvocation
from luci_scheduler.core.errors import ComeAgainError, SchedulerError, StoreConflictError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import MILLISECOND, Instant
from luci_scheduler.core.job import Job
from luci_scheduler.core.job_changes import effective_schedule, stepped
from luci_scheduler.core.request import Request
from luci_scheduler.core.triage import has_free_slot, inactive_reason, new_invocation
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.advance import launch_all
from luci_scheduler.engine.allocation import PENDING_READ, Allocation, allocate, commit_allocation
from luci_scheduler.engine.jobs import put_job, rewound, with_tick
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import CallCache
from luci_scheduler.ports import CreateTrigger, Versioned, Write

__all__ = ["on_cron_tick"]


def on_cron_tick(runtime: Runtime, job_id: JobId, nonce: int, generation: int, created: Instant, key: str) -> None:
    """Take a tick of a job's schedule; one that is not the awaited one does nothing.

    Raises:
        EarlyTickError: a little before its time; deliver again.
        ComeAgainError: the commit that records the tick is not visible yet (for five minutes from ``created``).
        TransientError: the store or the queue failed; deliver again.
    """
    calls, has_lost = CallCache(), False
    for _ in range(runtime.limits.races):
        started = runtime.clock.now()
        found = runtime.store.job(job_id)
        if found is None or found.value.cron.generation < generation:
            missing = f"a tick of {job_id} is ahead of the commit that records it"
            about = {"job_id": job_id, "reason": "it was never recorded"}
            runtime.wait_for_commit(created, missing, event="tick_dropped", generation=generation, **about)
            return
        job = found.value
        step = cron_machine.tick(job.cron, effective_schedule(job), started, runtime.entropy.nonce, nonce)
        if step[0] == job.cron:
            logger.info("tick_stale", job_id=job_id, generation=generation)
            return
        if job.tick_at is not None:
            logger.info("tick_came", job_id=job_id, lateness_ms=(started - job.tick_at) // MILLISECOND)
        starts = [action for action in step[1] if isinstance(action, StartInvocation)]
        job = with_tick(runtime, stepped(job, step, started), started)
        try:
            if starts:
                trigger = _trigger(starts[0].generation, started)
                is_taken = has_lost and runtime.store.trigger(job_id, trigger.id) is not None
                _start(runtime, found, job, trigger, calls, key, is_taken=is_taken)
            else:
                runtime.store.commit([put_job(job, found, key)])
        except StoreConflictError:
            has_lost = True
            continue
        return
    raise ComeAgainError(f"job {job_id} changes too fast to take its tick")


def _trigger(generation: int, started: Instant) -> Trigger:
    return Trigger(f"cron:v1:{generation}", started, PayloadKind.CRON, {"generation": generation})


def _start(
    runtime: Runtime,
    found: Versioned[Job],
    job: Job,
    trigger: Trigger,
    calls: CallCache,
    key: str,
    *,
    is_taken: bool,
) -> None:
    """Commit the job with what its tick starts: an invocation, a trigger that waits, or nothing where nothing is to do.

    The trigger needs no marker: the tick's nonce is used up by the same commit. One whose ID ``is_taken`` (somebody has
    emitted a trigger under it) counts as a repetition of that: the tick goes by, and the schedule goes on.
    """
    records = () if is_taken else (TriggerRecord(job.id, trigger, deliveries=(key,)),)
    if is_taken:
        logger.warning("tick_refused", job_id=job.id, trigger_id=trigger.id)
    if not has_free_slot(job):
        waiting = replace(job, triggers_wait=True)
        runtime.store.commit([*(CreateTrigger(record) for record in records), put_job(waiting, found, key)])
        return
    if _is_idle(runtime, job, trigger, calls):
        job = rewound(runtime, replace(job, last_poll=trigger.created), runtime.clock.now())
        runtime.store.commit([put_job(job, found, key)])
        return
    pending: Sequence[Versioned[TriggerRecord]] = (
        runtime.store.pending_triggers(job.id, PENDING_READ) if job.triggers_wait else ()
    )
    if any(stored.value.trigger.id == trigger.id for stored in pending):
        records = ()  # it waits already, in somebody's name
    own = [record.trigger.id for record in records]

    def draw_up(refusal: str) -> tuple[Allocation, Sequence[Write]]:
        plan = allocate(runtime, job, pending, records, started=trigger.created, key=key, unmarked=own, refusal=refusal)
        changed = replace(plan.job, triggers_wait=job.triggers_wait or plan.left > 0)
        # Where what the tick brings is discarded nothing ends, and nothing else would go on with the schedule.
        changed = rewound(runtime, changed, runtime.clock.now())
        return plan, [*plan.writes, put_job(changed, found, key, plan.log)]

    launch_all(runtime, commit_allocation(runtime, draw_up), key, calls)


def _is_idle(runtime: Runtime, job: Job, trigger: Trigger, calls: CallCache) -> bool:
    """Whether the job's task would find nothing to do, asked without an invocation being kept for it."""
    if runtime.limits.keep_idle or job.active_invocations or job.triggers_wait or inactive_reason(job):
        return False
    try:
        provisional = new_invocation(job, Request((trigger,)), InvocationId(0), trigger.created)
        return runtime.manager(provisional.task).idle(runtime.controller(provisional, calls))
    except SchedulerError as error:
        logger.info("idle_unknown", job_id=job.id, reason=str(error))
        return False
