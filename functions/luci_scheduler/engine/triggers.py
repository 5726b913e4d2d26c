"""Intake: a trigger reaches a job, and ends in exactly one invocation or is visibly discarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from luci_scheduler.core.errors import ComeAgainError, PermanentError, StoreConflictError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import Job
from luci_scheduler.core.kv_lists import check_kv_list
from luci_scheduler.core.triage import has_free_slot, inactive_reason, may_triage
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import MAX_TRIGGER_BYTES, stored_bytes
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.advance import launch_all
from luci_scheduler.engine.allocation import PENDING_READ, Allocation, allocate, commit_allocation
from luci_scheduler.engine.jobs import put_job
from luci_scheduler.engine.launch import needs_launch
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.waiting import take_up_waiting
from luci_scheduler.ports import CreateTrigger, UpdateTrigger, Versioned, Write

__all__ = ["accept_triggers"]


def accept_triggers(runtime: Runtime, job_id: JobId, triggers: Sequence[Trigger], key: str) -> None:
    """Bring triggers to a job in one triage: they run at once where a slot is free, otherwise they wait.

    ``key`` names the delivery. The same delivery again, or another one with the same trigger ID within 30 minutes of
    the trigger's end, has no further effect but to take up a launch that nobody is at.

    Raises:
        TransientError: nothing, or not everything, is committed; deliver again.
        ComeAgainError: the race for the job's document was lost too often; deliver again.
    """
    started = runtime.clock.now()
    new = {trigger.id: trigger for trigger in triggers}
    markers: dict[str, Versioned[TriggerRecord]] = {}
    known: list[TriggerRecord] = []
    for _ in range(runtime.limits.races):
        found = runtime.store.job(job_id)
        if found is None:
            logger.info("trigger_for_unknown_job", job_id=job_id, trigger_ids=list(new))
            return
        records = [_new_record(runtime, job_id, trigger, markers.get(trigger.id), key) for trigger in new.values()]
        try:
            waits = _record(runtime, found, records, markers, started, key) if records else False
        except StoreConflictError:
            repeated = _look_up(runtime, job_id, new, markers, key)
            known += repeated
            for record in repeated:
                del new[record.trigger.id]
            if new:
                continue
            waits = False
        _repeat(runtime, job_id, known, key)
        if waits:
            _see_that_it_is_taken_up(runtime, job_id, key)
        return
    raise ComeAgainError(f"job {job_id} changes too fast to record a trigger")


def _look_up(
    runtime: Runtime,
    job_id: JobId,
    new: Mapping[str, Trigger],
    markers: dict[str, Versioned[TriggerRecord]],
    key: str,
) -> list[TriggerRecord]:
    """Return those of the triggers that were recorded before; the markers of those that count as new are noted."""
    repeated = []
    for trigger_id in new:
        found = runtime.store.trigger(job_id, trigger_id)
        if found is None:
            continue
        if _counts_as_new(found.value, new[trigger_id], key, runtime.clock.now(), runtime.limits.deduplication):
            markers[trigger_id] = found
        else:
            repeated.append(found.value)
    return repeated


def _record(
    runtime: Runtime,
    found: Versioned[Job],
    records: Sequence[TriggerRecord],
    markers: Mapping[str, Versioned[TriggerRecord]],
    started: Instant,
    key: str,
) -> bool:
    """Commit the triggers with all that follows from them at once; return whether they wait."""
    job = found.value
    bad = [record for record in records if inactive_reason(job) or _fault(record.trigger)]
    good = [record for record in records if record not in bad]
    writes = [_write(_discarded(runtime, job, record), markers) for record in bad]
    if not good:
        runtime.store.commit(writes)
        return False
    if not has_free_slot(job):
        writes += [_write(record, markers) for record in good]
        if not job.triggers_wait:
            writes.append(put_job(replace(job, triggers_wait=True), found, key))
        runtime.store.commit(writes)
        return True
    pending: Sequence[Versioned[TriggerRecord]] = (
        runtime.store.pending_triggers(job.id, PENDING_READ) if job.triggers_wait else ()
    )
    if {stored.value.trigger.id for stored in pending} & {record.trigger.id for record in good}:
        # A repeated delivery of what waits already: taken for new it would run twice.
        raise StoreConflictError(f"job {job.id} has some of the triggers already")

    def draw_up(refusal: str) -> tuple[Allocation, Sequence[Write]]:
        plan = allocate(runtime, job, pending, good, started=started, key=key, refusal=refusal)
        changed = replace(plan.job, triggers_wait=job.triggers_wait or plan.left > 0)
        planned = [_write(w.record, markers) if isinstance(w, CreateTrigger) else w for w in plan.writes]
        return plan, [*planned, *writes, put_job(changed, found, key, plan.log)]

    launch_all(runtime, commit_allocation(runtime, draw_up), key)
    return False


def _write(record: TriggerRecord, markers: Mapping[str, Versioned[TriggerRecord]]) -> Write:
    marker = markers.get(record.trigger.id)
    return CreateTrigger(record) if marker is None else UpdateTrigger(record, marker.version)


def _discarded(runtime: Runtime, job: Job, record: TriggerRecord) -> TriggerRecord:
    inactive, now = inactive_reason(job), runtime.clock.now()
    reason = inactive or _fault(record.trigger)
    logger.info("trigger_discarded", job_id=job.id, trigger_id=record.trigger.id, reason=reason)
    # What an inactive job did not take does not keep the same ID from it later, as in the original.
    expires = runtime.limits.expiry(now)
    return replace(record, discarded=reason, resolved=now, expires=expires, refused=bool(inactive))


def _new_record(
    runtime: Runtime, job_id: JobId, trigger: Trigger, marker: Versioned[TriggerRecord] | None, key: str
) -> TriggerRecord:
    earlier = marker.value.deliveries if marker else ()
    deliveries = (*earlier, key)[-runtime.limits.marker_deliveries :]
    return TriggerRecord(job_id, trigger, deliveries=deliveries)


def _fault(trigger: Trigger) -> str:
    if (size := stored_bytes(trigger)) > MAX_TRIGGER_BYTES:
        return f"the trigger has {size} bytes, an invocation can hold {MAX_TRIGGER_BYTES}"
    try:
        check_kv_list("tag", trigger.payload.get("tags") or ())
    except PermanentError as error:
        return str(error)
    return ""


def _counts_as_new(known: TriggerRecord, trigger: Trigger, key: str, now: Instant, deduplication: int) -> bool:
    """Whether a trigger under a known ID is a deliberate new request and not the old one delivered once more.

    A commit that an event told of is found by the next poll too, however late that is; and an event counts from its
    publication, however late it is delivered.
    """
    if known.resolved is None or key in known.deliveries:
        return False
    if known.refused:
        return True
    if trigger.is_commit and trigger.job_id and not known.trigger.job_id:
        return False
    is_event = trigger.is_commit and not trigger.job_id and not trigger.emitted_by_user
    return (trigger.created if is_event else now) - known.resolved >= deduplication


def _repeat(runtime: Runtime, job_id: JobId, known: Sequence[TriggerRecord], key: str) -> None:
    """Act on triggers that were recorded before: whatever their first delivery left undone is taken up."""
    for invocation_id in dict.fromkeys(record.invocation_id for record in known if record.invocation_id):
        _repeat_launch(runtime, job_id, invocation_id, key)
    if any(record.is_pending for record in known):
        _see_that_it_is_taken_up(runtime, job_id, key)


def _repeat_launch(runtime: Runtime, job_id: JobId, invocation_id: InvocationId, key: str) -> None:
    found = runtime.store.invocation(job_id, invocation_id)
    if found is None:  # its marker may outlive it by the hours that the store takes to delete what has expired
        logger.info("marker_without_invocation", job_id=job_id, invocation_id=str(invocation_id))
        return
    now, claim_until = runtime.clock.now(), found.value.claim_until
    if needs_launch(found.value, now):
        launch_all(runtime, [found], key)
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
        if may_triage(job):
            break
        if job.triggers_wait:
            return
        # The flag was cleared after the last look of whoever cleared it and before our commit: set it again.
        try:
            runtime.store.commit([put_job(replace(job, triggers_wait=True), found, key)])
        except StoreConflictError:
            continue
        return
    launch_all(runtime, take_up_waiting(runtime, job_id, key), key)
