"""Triggers reach jobs. Each trigger ends in exactly one invocation, or is discarded with a visible reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial

from luci_scheduler.core.errors import PermanentError, SchedulerError, StoreConflictError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.kv_lists import check_kv_list
from luci_scheduler.core.triage import has_free_slot, inactive_reason, may_triage
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import MAX_TRIGGER_BYTES, stored_bytes
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.launch import launch_all, resume_launch
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.triage import (
    TriageOp,
    commit_triage,
    list_pending,
    mark_pending,
    put_trigger,
    triage_pending,
)
from luci_scheduler.ports import CreateTrigger, Version, Versioned, Write

__all__ = ["BUDGET", "accept_triggers", "discard_trigger", "fan_out", "triage_job"]

BUDGET = 150 * SECOND
"""Half the ack deadline of the commit subscription: jobs and events that do not start within it are deferred."""


def fan_out(
    runtime: Runtime,
    triggers: Mapping[JobId, Sequence[Trigger]],
    key: str,
    defer: Callable[[JobId, Instant], None],
) -> bool:
    """Deliver triggers to many jobs in parallel; safe to repeat under the same key.

    A job that fails, or that does not start in time, is left to ``defer(job, now)``, which must ensure the delivery. So
    one job's failure does not repeat the work of the others. The error of a single job is raised instead: another
    delivery repeats no other job's work.

    Returns:
        True if every job accepted or permanently refused its triggers; False if some were deferred.

    Raises:
        TransientError, ComeAgainError: the single job failed, or ``defer`` failed; deliver again.
    """
    until = Instant(runtime.clock.now() + BUDGET)
    logger.info("triggers_arrived", jobs=len(triggers))
    if len(triggers) == 1:
        ((job_id, batch),) = triggers.items()
        accept_triggers(runtime, job_id, batch, key)
        return True
    deliver = partial(_deliver_or_defer, runtime, key, defer, until)
    # Each thread gets a copy of the context, so that its log lines carry the delivery's trace.
    with ThreadPoolExecutor(runtime.limits.concurrency, thread_name_prefix="job") as pool:
        futures = [pool.submit(copy_context().run, deliver, job_id, batch) for job_id, batch in triggers.items()]
    done = [future.result() for future in futures]
    return all(done)


def accept_triggers(runtime: Runtime, job_id: JobId, triggers: Sequence[Trigger], key: str) -> None:
    """Deliver triggers to a job in one triage: they start invocations if slots are free, otherwise they stay pending.

    ``key`` names the delivery. A repeated delivery, or another one with the same trigger ID within 30 minutes of the
    trigger's end, is a no-op, except that it resumes a launch whose claim has expired.

    Raises:
        TransientError: not everything is known to be committed; deliver again.
        ComeAgainError: other deliveries changed the job too often; deliver again.
    """
    arrival = _Arrival(job_id, key, runtime.clock.now(), {trigger.id: trigger for trigger in triggers})
    created = runtime.update_job(job_id, "record a trigger", lambda found: _arrive(runtime, found, arrival))
    launch_all(runtime, created, key)
    _handle_duplicates(runtime, arrival)
    if arrival.is_pending:
        _ensure_triaged(runtime, job_id, key)


def discard_trigger(runtime: Runtime, job_id: JobId, trigger: Trigger, key: str, reason: str) -> None:
    """Record a trigger as discarded on arrival; an existing marker stays as it is. Safe to repeat.

    Another delivery of the same ID counts as new at once: a poll, or a simpler config, may accept the commit later.

    Raises:
        TransientError: the trigger is not known to be recorded.
    """
    now = runtime.clock.now()
    record = TriggerRecord(
        job_id,
        trigger,
        discarded=reason,
        resolved=now,
        expires=runtime.limits.expiry(now),
        deliveries=(key,),
        refused=True,
    )
    try:
        runtime.store.commit([CreateTrigger(record)])
    except StoreConflictError:
        # The store also refuses a commit that collides with another commit, so only the marker proves the record.
        if runtime.store.trigger(job_id, trigger.id) is None:
            raise
        return
    logger.warning("trigger_discarded", job_id=job_id, trigger_id=trigger.id, reason=reason)


def triage_job(runtime: Runtime, job_id: JobId, key: str) -> None:
    """Triage a job whose document may request it, and launch the new invocations; safe to repeat.

    Raises:
        ComeAgainError: other deliveries changed the job too often.
    """
    launch_all(runtime, triage_pending(runtime, job_id, key, is_requested=True), key)


@dataclass(slots=True)
class _Arrival:
    """The triggers of one delivery to one job, over all attempts to commit them."""

    job_id: JobId
    key: str
    started: Instant
    new: dict[str, Trigger]
    """Triggers that are not recorded yet, by ID."""
    markers: dict[str, Versioned[TriggerRecord]] = field(default_factory=dict)
    """Older markers of new triggers, by trigger ID; the new triggers replace them."""
    duplicates: list[TriggerRecord] = field(default_factory=list)
    """Records of triggers that an earlier delivery recorded."""
    is_pending: bool = False
    """Whether the triggers were recorded as pending, as no slot was free."""

    @property
    def versions(self) -> Mapping[str, Version]:
        """The versions of the older markers."""
        return {trigger_id: marker.version for trigger_id, marker in self.markers.items()}


def _deliver_or_defer(
    runtime: Runtime,
    key: str,
    defer: Callable[[JobId, Instant], None],
    until: Instant,
    job_id: JobId,
    batch: Sequence[Trigger],
) -> bool:
    """Deliver the triggers of one of many jobs; return whether it accepted or permanently refused them."""
    is_refused = False
    try:
        if runtime.clock.now() < until:
            accept_triggers(runtime, job_id, batch, key)
            return True
        logger.info("triggers_queued", job_id=job_id, triggers=len(batch), reason="no time left")
    except SchedulerError as error:
        is_refused = isinstance(error, PermanentError)
        logger.warning("triggers_queued", job_id=job_id, triggers=len(batch), reason=str(error))
    defer(job_id, runtime.clock.now())
    return is_refused


def _arrive(runtime: Runtime, found: Versioned[Job] | None, arrival: _Arrival) -> Sequence[Versioned[Invocation]]:
    """Record the triggers in one commit; return the new invocations."""
    if found is None:
        logger.info("trigger_for_unknown_job", job_id=arrival.job_id, trigger_ids=list(arrival.new))
        return ()
    if not arrival.new:
        return ()
    try:
        return _record(runtime, found, arrival)
    except StoreConflictError:
        # Either the job has changed, or some of the triggers are recorded already. The latter need no further attempt.
        _find_duplicates(runtime, arrival)
        if arrival.new:
            raise
        return ()


def _record(runtime: Runtime, found: Versioned[Job], arrival: _Arrival) -> Sequence[Versioned[Invocation]]:
    job, versions = found.value, arrival.versions
    records = [_new_record(runtime, arrival, trigger) for trigger in arrival.new.values()]
    bad = [record for record in records if _refusal(job, record.trigger)]
    good = [record for record in records if record not in bad]
    writes = [put_trigger(_discarded(runtime, job, record), versions) for record in bad]
    if good and has_free_slot(job):
        return _triage_new(runtime, found, arrival, good, writes)
    # Without a slot only the triggers are written, and the flag once. Busy jobs get no write per commit, so deliveries
    # rarely conflict.
    writes += [put_trigger(record, versions) for record in good]
    if good and not job.triggers_wait:
        writes.append(mark_pending(found, arrival.key))
    runtime.store.commit(writes)
    arrival.is_pending = bool(good)
    return ()


def _triage_new(
    runtime: Runtime,
    found: Versioned[Job],
    arrival: _Arrival,
    good: Sequence[TriggerRecord],
    others: Sequence[Write],
) -> Sequence[Versioned[Invocation]]:
    pending = list_pending(runtime, found.value)
    if {stored.value.trigger.id for stored in pending} & {record.trigger.id for record in good}:
        # Another delivery recorded the trigger. If it counted as new here, it would start two invocations.
        raise StoreConflictError(f"job {found.value.id} has some of the triggers already")
    started, key, markers = arrival.started, arrival.key, arrival.versions
    op = TriageOp(
        found=found,
        job=found.value,
        pending=pending,
        started=started,
        key=key,
        new=good,
        markers=markers,
        others=others,
        rewinds=False,
    )
    return commit_triage(runtime, op)


def _new_record(runtime: Runtime, arrival: _Arrival, trigger: Trigger) -> TriggerRecord:
    marker = arrival.markers.get(trigger.id)
    earlier = marker.value.deliveries if marker else ()
    deliveries = (*earlier, arrival.key)[-runtime.limits.marker_deliveries :]
    return TriggerRecord(arrival.job_id, trigger, deliveries=deliveries)


def _discarded(runtime: Runtime, job: Job, record: TriggerRecord) -> TriggerRecord:
    now, reason = runtime.clock.now(), _refusal(job, record.trigger)
    logger.info("trigger_discarded", job_id=job.id, trigger_id=record.trigger.id, reason=reason)
    # A job that was inactive accepts the same ID later, as in the original.
    expires = runtime.limits.expiry(now)
    return replace(record, discarded=reason, resolved=now, expires=expires, refused=bool(inactive_reason(job)))


def _refusal(job: Job, trigger: Trigger) -> str:
    """Return why a job must discard a trigger on arrival; empty if it accepts the trigger."""
    if inactive := inactive_reason(job):
        return inactive
    if (size := stored_bytes(trigger)) > MAX_TRIGGER_BYTES:
        return f"the trigger has {size} bytes, an invocation can hold {MAX_TRIGGER_BYTES}"
    try:
        check_kv_list("tag", trigger.payload.get("tags") or ())
    except PermanentError as error:
        return str(error)
    return ""


def _find_duplicates(runtime: Runtime, arrival: _Arrival) -> None:
    """Move the triggers that were recorded before to the duplicates, and note the markers that new triggers replace."""
    for trigger_id, trigger in list(arrival.new.items()):
        found = runtime.store.trigger(arrival.job_id, trigger_id)
        if found is None:
            continue
        if _counts_as_new(found.value, trigger, arrival.key, runtime.clock.now(), runtime.limits.deduplication):
            arrival.markers[trigger_id] = found
        else:
            arrival.duplicates.append(found.value)
            del arrival.new[trigger_id]


def _counts_as_new(known: TriggerRecord, trigger: Trigger, key: str, now: Instant, deduplication: int) -> bool:
    """Return whether a trigger with a known ID is a new request, and not a repeated delivery of the known one.

    A poll finds each commit of an event again, however late, so its trigger is never new. The age of an event counts
    from its publication, however late it is delivered.
    """
    if known.resolved is None or key in known.deliveries:
        return False
    # The job was inactive, or its patterns failed: the trigger was never pending, so the same ID may try again.
    if known.refused:
        return True
    if trigger.is_commit and trigger.job_id and not known.trigger.job_id:
        return False
    is_event = trigger.is_commit and not trigger.job_id and not trigger.emitted_by_user
    return (trigger.created if is_event else now) - known.resolved >= deduplication


def _handle_duplicates(runtime: Runtime, arrival: _Arrival) -> None:
    """Finish the work that the first delivery of a trigger may have left undone: the launch, or the triage."""
    job_id, key = arrival.job_id, arrival.key
    for invocation_id in dict.fromkeys(known.invocation_id for known in arrival.duplicates if known.invocation_id):
        _resume(runtime, job_id, invocation_id, key)
    if any(known.is_pending for known in arrival.duplicates):
        _ensure_triaged(runtime, job_id, key)


def _resume(runtime: Runtime, job_id: JobId, invocation_id: InvocationId, key: str) -> None:
    found = runtime.store.invocation(job_id, invocation_id)
    if found is None:  # a marker may outlive its invocation: the store needs hours to delete expired documents
        logger.info("marker_without_invocation", job_id=job_id, invocation_id=str(invocation_id))
        return
    resume_launch(runtime, found, key)


def _ensure_triaged(runtime: Runtime, job_id: JobId, key: str) -> None:
    """Read the job after a trigger was recorded, and triage it if a slot was freed in the meantime.

    The handler that ends an invocation lists pending triggers before its commit. A trigger recorded after that listing
    is picked up here, because this read follows our own commit.
    """

    def attempt(found: Versioned[Job] | None) -> bool:
        if found is None:
            return False
        if may_triage(found.value):
            return True
        if not found.value.triggers_wait:
            # An end cleared the flag after its last query and before our commit, so set it again.
            runtime.store.commit([mark_pending(found, key)])
        return False

    if runtime.update_job(job_id, "mark its pending triggers", attempt):
        launch_all(runtime, triage_pending(runtime, job_id, key), key)
