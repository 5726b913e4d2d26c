"""Intake: a trigger reaches a job, and ends in exactly one invocation or is visibly discarded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luci_scheduler.core.errors import ComeAgainError, PermanentError, StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import Job
from luci_scheduler.core.kv_lists import check_kv_list
from luci_scheduler.core.triage import has_free_slot, inactive_reason
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.advance import PENDING_READ, advance, launch_all, take_up_waiting
from luci_scheduler.engine.allocation import allocate, put_job
from luci_scheduler.engine.launch import launch, launch_task, needs_launch
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.ports import CreateTrigger, Found, TriggerRecord, UpdateTrigger, Write

__all__ = ["accept_trigger"]


def accept_trigger(runtime: Runtime, job_id: JobId, trigger: Trigger, key: str) -> None:
    """Bring a trigger to a job: run it at once where a slot is free, otherwise let it wait.

    ``key`` names the delivery. The same delivery again, or another one with the same trigger ID within 30 minutes of
    the trigger's end, has no further effect but to take up a launch that nobody is at.

    Raises:
        TransientError: nothing, or not everything, is committed; deliver again.
        ComeAgainError: the race for the job's document was lost too often; deliver again.
    """
    started = runtime.clock.now()
    marker: Found[TriggerRecord] | None = None
    for _ in range(runtime.limits.races):
        found = runtime.store.job(job_id)
        if found is None:
            logger.info("trigger_for_unknown_job", job_id=job_id, trigger_id=trigger.id)
            return
        try:
            waits = _record(runtime, found, _new_record(runtime, job_id, trigger, marker, key), marker, started, key)
        except StoreConflictError:
            known = runtime.store.trigger(job_id, trigger.id)
            if known is None:
                continue
            if _counts_as_new(known.value, key, runtime.clock.now(), runtime.limits.deduplication):
                marker = known
                continue
            _repeat(runtime, known.value, key)
            return
        if waits:
            _see_that_it_is_taken_up(runtime, job_id, key)
        return
    raise ComeAgainError(f"job {job_id} changes too fast to record a trigger")


def _record(
    runtime: Runtime,
    found: Found[Job],
    record: TriggerRecord,
    marker: Found[TriggerRecord] | None,
    started: Instant,
    key: str,
) -> bool:
    """Commit the trigger with all that follows from it at once; return whether it waits."""
    job = found.value
    reason = inactive_reason(job) or _fault(record.trigger)
    if reason:
        discarded = replace(record, discarded=reason, resolved=runtime.clock.now())
        runtime.store.commit([_write(discarded, marker)])
        logger.info("trigger_discarded", job_id=job.id, trigger_id=record.trigger.id, reason=reason)
        return False
    if not has_free_slot(job):
        writes: list[Write] = [_write(record, marker)]
        if not job.triggers_wait:
            writes.append(put_job(replace(job, triggers_wait=True), found, key))
        runtime.store.commit(writes)
        return True
    pending: Sequence[Found[TriggerRecord]] = (
        runtime.store.pending_triggers(job.id, PENDING_READ) if job.triggers_wait else ()
    )
    plan = allocate(runtime, job, pending, (record,), started=started, key=key)
    job = replace(plan.job, triggers_wait=job.triggers_wait or plan.left > 0)
    creations = [_write(w.record, marker) if isinstance(w, CreateTrigger) else w for w in plan.writes]
    versions = runtime.store.commit([*creations, put_job(job, found, key)])
    created = [Found(*pair) for pair in zip(plan.invocations, versions[: len(plan.invocations)], strict=True)]
    launch_all(runtime, created, key)
    return False


def _write(record: TriggerRecord, marker: Found[TriggerRecord] | None) -> Write:
    return CreateTrigger(record) if marker is None else UpdateTrigger(record, marker.version)


def _new_record(
    runtime: Runtime, job_id: JobId, trigger: Trigger, marker: Found[TriggerRecord] | None, key: str
) -> TriggerRecord:
    earlier = marker.value.deliveries if marker else ()
    deliveries = (*earlier, key)[-runtime.limits.marker_deliveries :]
    return TriggerRecord(job_id, trigger, deliveries=deliveries)


def _fault(trigger: Trigger) -> str:
    try:
        check_kv_list("tag", trigger.payload.get("tags") or ())
    except PermanentError as error:
        return str(error)
    return ""


def _counts_as_new(known: TriggerRecord, key: str, now: Instant, deduplication: int) -> bool:
    """Whether a trigger under a known ID is a deliberate new request and not the old one delivered once more."""
    return known.resolved is not None and key not in known.deliveries and now - known.resolved >= deduplication


def _repeat(runtime: Runtime, known: TriggerRecord, key: str) -> None:
    """Act on a trigger that was recorded before: whatever its first delivery left undone is taken up."""
    if known.is_pending:
        _see_that_it_is_taken_up(runtime, known.job_id, key)
        return
    if not known.invocation_id:
        return
    found = runtime.store.invocation(known.job_id, known.invocation_id)
    if found is None:
        logger.warning("marker_without_invocation", job_id=known.job_id, trigger_id=known.trigger.id)
        return
    now, claim_until = runtime.clock.now(), found.value.claim_until
    if needs_launch(found.value, now):
        launch(runtime, found, key)
    elif claim_until is not None and found.value.status.is_initial:
        runtime.queue.enqueue(launch_task(found.value, claim_until, now))


def _see_that_it_is_taken_up(runtime: Runtime, job_id: JobId, key: str) -> None:
    """Read the job after its trigger was recorded: a slot that came free meanwhile is used now.

    Whoever ends an invocation looks for triggers before the commit that frees the slot: a trigger that was recorded
    after that look is seen here, by its own delivery, because this read follows its commit.
    """
    for _ in range(runtime.limits.races):
        found = runtime.store.job(job_id)
        if found is None:
            return
        job = found.value
        if has_free_slot(job) or inactive_reason(job):
            advance(runtime, job_id, key)
            return
        if job.triggers_wait:
            return
        # The flag was cleared after the last look of whoever cleared it and before our commit: set it again.
        try:
            runtime.store.commit([put_job(replace(job, triggers_wait=True), found, key)])
        except StoreConflictError:
            continue
        return
    launch_all(runtime, take_up_waiting(runtime, job_id, key), key)
