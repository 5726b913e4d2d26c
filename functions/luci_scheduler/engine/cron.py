"""Cron ticks: a job's own schedule triggers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luci_scheduler.core import cron_machine
from luci_scheduler.core.cron_machine import StartInvocation
from luci_scheduler.core.errors import SchedulerError, StoreConflictError
from luci_scheduler.core.identifiers import NO_INVOCATION, JobId
from luci_scheduler.core.instants import MILLISECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.job_changes import effective_schedule, stepped
from luci_scheduler.core.request import Request
from luci_scheduler.core.triage import has_free_slot, inactive_reason, new_invocation, with_pending
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.jobs import put_job, rewound, with_tick
from luci_scheduler.engine.launch import launch_all
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.triage import TriageOp, commit_triage, list_pending
from luci_scheduler.managers.controller import CallCache
from luci_scheduler.ports import CreateTrigger, Versioned

__all__ = ["on_cron_tick"]


def on_cron_tick(runtime: Runtime, job_id: JobId, nonce: int, generation: int, created: Instant, key: str) -> None:
    """Handle a tick of a job's schedule. Only the awaited tick has an effect.

    Raises:
        EarlyTickError: the tick is a little early; deliver again.
        ComeAgainError: the commit that records the tick is not visible yet (for five minutes from ``created``).
        TransientError: the store or the queue failed; deliver again.
    """
    # The answer to "is there any news?" is kept over lost races, and passed on to the launch of the invocation.
    calls, has_lost = CallCache(), False

    def attempt(found: Versioned[Job] | None) -> Sequence[Versioned[Invocation]]:
        nonlocal has_lost
        if found is None or found.value.cron.generation < generation:
            missing = f"a tick of {job_id} is ahead of the commit that records it"
            about = {"job_id": job_id, "reason": "it was never recorded"}
            runtime.wait_for_commit(created, missing, event="tick_dropped", generation=generation, **about)
            return ()
        try:
            return _take_tick(runtime, found, nonce, generation, calls, key, has_lost=has_lost)
        except StoreConflictError:
            has_lost = True
            raise

    launch_all(runtime, runtime.update_job(job_id, "take its tick", attempt), key, calls)


def _take_tick(
    runtime: Runtime,
    found: Versioned[Job],
    nonce: int,
    generation: int,
    calls: CallCache,
    key: str,
    *,
    has_lost: bool,
) -> Sequence[Versioned[Invocation]]:
    job, started = found.value, runtime.clock.now()
    step = cron_machine.tick(job.cron, effective_schedule(job), started, runtime.entropy.nonce, nonce)
    # Each effective tick changes the machine's state; a stale, repeated or disabled one leaves it as it is.
    if step[0] == job.cron:
        logger.info("tick_stale", job_id=job.id, generation=generation)
        return ()
    if job.tick_at is not None:
        logger.info("tick_came", job_id=job.id, lateness_ms=(started - job.tick_at) // MILLISECOND)
    starts = [action for action in step[1] if isinstance(action, StartInvocation)]
    job = with_tick(runtime, stepped(job, step, started), started)
    if not starts:
        runtime.store.commit([put_job(job, found, key)])
        return ()
    fired = starts[0].generation
    trigger = Trigger(f"cron:v1:{fired}", started, PayloadKind.CRON, {"generation": fired})
    # A conflict may mean that a caller emitted a trigger under this ID. The first attempt need not read it.
    is_taken = has_lost and runtime.store.trigger(job.id, trigger.id) is not None
    return _start(runtime, found, job, trigger, calls, key, is_taken=is_taken)


def _start(
    runtime: Runtime,
    found: Versioned[Job],
    job: Job,
    trigger: Trigger,
    calls: CallCache,
    key: str,
    *,
    is_taken: bool,
) -> Sequence[Versioned[Invocation]]:
    """Commit the job after its tick, with an invocation, with a pending trigger, or alone if the task is idle.

    The trigger needs no marker: the same commit uses up the tick's nonce. If a caller has emitted a trigger with its ID
    (``is_taken``), the tick counts as a repetition of it: it starts nothing, and the schedule continues.
    """
    records = _new_records(job, trigger, key, is_taken=is_taken)
    if not has_free_slot(job):
        runtime.store.commit([*map(CreateTrigger, records), put_job(with_pending(job), found, key)])
        return ()
    if _is_idle(runtime, job, trigger, calls):
        job = rewound(runtime, replace(job, last_poll=trigger.created, failed_polls=0), runtime.clock.now())
        runtime.store.commit([put_job(job, found, key)])
        return ()
    pending = list_pending(runtime, job)
    if any(stored.value.trigger.id == trigger.id for stored in pending):
        records = ()  # a caller's trigger with this ID is pending already
    own = [record.trigger.id for record in records]
    # The triage also rewinds the cron machine: if the tick's trigger is discarded, no invocation ends to do it.
    op = TriageOp(found=found, job=job, pending=pending, started=trigger.created, key=key, new=records, unmarked=own)
    return commit_triage(runtime, op)


def _new_records(job: Job, trigger: Trigger, key: str, *, is_taken: bool) -> Sequence[TriggerRecord]:
    if is_taken:
        logger.warning("tick_refused", job_id=job.id, trigger_id=trigger.id)
        return ()
    return (TriggerRecord(job.id, trigger, deliveries=(key,)),)


def _is_idle(runtime: Runtime, job: Job, trigger: Trigger, calls: CallCache) -> bool:
    """Return whether the job's task would find nothing to do; the call creates no invocation."""
    if runtime.limits.keep_idle or job.active_invocations or job.triggers_wait or inactive_reason(job):
        return False
    try:
        provisional = new_invocation(job, Request((trigger,)), NO_INVOCATION, trigger.created)
        return runtime.manager(provisional.task).idle(runtime.controller(provisional, calls))
    except SchedulerError as error:
        logger.info("idle_unknown", job_id=job.id, reason=str(error))
        return False
