"""Allocation: turning a triage's decision into the writes of one commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.identifiers import InvocationId, make_invocation_id
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import MAX_PENDING, Job
from luci_scheduler.core.policy.registry import policy_class
from luci_scheduler.core.request import Request
from luci_scheduler.core.sizes import MAX_DEFINITION_BYTES, check_invocation, definition_bytes
from luci_scheduler.core.triage import (
    Triage,
    first_log,
    inactive_reason,
    may_triage,
    new_invocation,
    triage,
    triaged,
)
from luci_scheduler.core.triage_log import TriageLog
from luci_scheduler.core.trigger import Trigger, sort_key
from luci_scheduler.core.trigger_json import stored_bytes
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.outbox import triage_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.ports import CreateInvocation, CreateTrigger, UpdateTrigger, Version, Versioned, Write
from luci_scheduler.tracing import current_trace

__all__ = ["PENDING_READ", "Allocation", "allocate", "commit_allocation"]

PENDING_READ = MAX_PENDING + 200
"""Pending triggers read for one triage: enough to see a surplus, which it then discards; the rest is seen by the next."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """New invocations and markers, ready to be committed together with the job."""

    job: Job
    invocations: tuple[Invocation, ...]
    writes: tuple[Write, ...]
    """The creations first, in the order of ``invocations``; then the markers. The job's own write is not among them."""
    left: int
    """Triggers that stay pending."""
    log: str
    """The triage log."""

    def created(self, versions: Sequence[Version]) -> list[Versioned[Invocation]]:
        """Return the new invocations as they were committed, from the versions of a commit that begins with ``writes``."""
        return [Versioned(*pair) for pair in zip(self.invocations, versions[: len(self.invocations)], strict=True)]


def allocate(
    runtime: Runtime,
    job: Job,
    pending: Sequence[Versioned[TriggerRecord]],
    new: Sequence[TriggerRecord],
    *,
    started: Instant,
    key: str,
    unmarked: Collection[str] = (),
    acknowledged: Sequence[InvocationId] = (),
    refusal: str = "",
) -> Allocation:
    """Triage ``job`` over its pending triggers and the new ones, and draw up what is to be written.

    Where more waits than one triage can take up, and the job could do with more, the next triage is put on the queue.

    Args:
        runtime: ports and limits.
        job: the job without what has finished.
        pending: triggers that are stored already.
        new: triggers that arrive with this delivery; each is written, consumed or pending.
        started: the clock reading that the new invocations' IDs and start are made of.
        key: the delivery's key.
        unmarked: IDs among ``new`` that need no marker once they are resolved, as nothing brings them twice.
        acknowledged: invocations whose end is committed together with the outcome; the log tells of them.
        refusal: why the store would not take what came of this before; instead of starting anything the triggers that
            would have been consumed are discarded with it.
    """
    stored = {found.value.trigger.id: found for found in pending}
    fresh = {record.trigger.id: record for record in new}
    triggers = [found.value.trigger for found in pending] + [record.trigger for record in new]
    now = runtime.clock.now()
    surplus, ordered = _surplus(runtime, job, sorted(triggers, key=sort_key), is_all=len(pending) < PENDING_READ)
    fitting = [*surplus, *_what_fits(runtime, job, ordered, started)]
    decision = triage(job, fitting, runtime.era_of(job.definition.task), now, len(surplus))
    decision = _affordable(job, decision, runtime.limits.commit_bytes, started)
    invocations, creations, resolved = _invocations(
        runtime, job, decision, started=started, now=now, key=key, refusal=refusal
    )
    marked = {name: outcome for name, outcome in resolved.items() if name not in unmarked}
    markers = _markers(marked, stored, fresh, now, runtime.limits.expiry(now))
    waiting = [CreateTrigger(record) for record in new if record.trigger.id not in resolved]
    changed = triaged(job, [invocation.id for invocation in invocations], now)
    left = len(triggers) - len(resolved)
    if (left or len(pending) >= PENDING_READ) and resolved and may_triage(changed):
        # Something was cut off, or what would have started was refused. Neither the end of an invocation nor another trigger
        # need ever come: the job's document asks for the rest.
        changed = replace(changed, triage_due=now)
        runtime.offer(triage_task(job.id, now))
    return Allocation(
        job=changed,
        invocations=tuple(invocations),
        writes=(*creations, *markers, *waiting),
        left=left,
        # What the store would not take may be the job with its log.
        log=""
        if refusal
        else _triage_log(
            runtime,
            changed,
            decision,
            started=started,
            pending=len(triggers),
            available=len(fitting),
            acknowledged=acknowledged,
        ),
    )


def commit_allocation(
    runtime: Runtime, draw_up: Callable[[str], tuple[Allocation, Sequence[Write]]]
) -> list[Versioned[Invocation]]:
    """Commit an allocation with all that belongs to it, and return what it created.

    Where the store can never take it, what was to be started is not: its triggers are discarded with the reason, so that
    neither the end of an invocation hangs on its successor nor a trigger is lost without a trace.

    Args:
        runtime: ports and limits.
        draw_up: returns an allocation and all writes of the commit, which begin with its own; given the `refusal` that
            `allocate` takes.

    Raises:
        StoreConflictError: nothing was written; decide again.
        PermanentError: what is refused is not the allocation; nothing was written.
    """
    allocation, writes = draw_up("")
    try:
        return allocation.created(runtime.store.commit(writes))
    except PermanentError as error:
        allocation, writes = draw_up(f"what it starts cannot be stored: {error}")
        return allocation.created(runtime.store.commit(writes))


def _triage_log(
    runtime: Runtime,
    job: Job,
    decision: Triage,
    *,
    started: Instant,
    pending: int,
    available: int,
    acknowledged: Sequence[InvocationId],
) -> str:
    """Return the triage log in the original's words; what ends an invocation frees its slot before any triage."""
    log, now = TriageLog(started), runtime.clock.now()
    log.prepared(started, pending=pending, finished=len(acknowledged))
    active = len(job.active_invocations) - len(decision.requests)
    log.transaction(now, active=active, acknowledged=acknowledged, recently_finished=len(acknowledged))
    log.decided(now, decision, available=available)
    log.enqueued(now, decision)
    if not job.active_invocations:
        log.poking_cron(now)
    log.landing(now)
    log.done(now)
    return log.text


Resolutions = dict[str, tuple[InvocationId, str]]
"""Trigger ID → the invocation that consumed it, or 0 and the reason why it was discarded."""


def _invocations(
    runtime: Runtime, job: Job, decision: Triage, *, started: Instant, now: Instant, key: str, refusal: str
) -> tuple[list[Invocation], list[Write], Resolutions]:
    invocations: list[Invocation] = []
    creations: list[Write] = []
    resolved: Resolutions = {trigger.id: (InvocationId(0), reason) for trigger, reason in decision.discarded}
    taken = set(job.active_invocations)
    for request in decision.requests:
        identifier = _draw_id(runtime, started, taken)
        try:
            invocation = _allocated(job, request, identifier, started, refusal)
        except PermanentError as error:
            resolved.update(_all_of(request, InvocationId(0), str(error)))
            _tell(job, request, str(error))
            continue
        log = first_log(request, now)
        due = Instant(now + runtime.limits.claim_lease)
        invocation = replace(
            invocation, last_event=key, next_due=due, log_size=len(log.encode()), last_line=now, trace=current_trace()
        )
        invocations.append(invocation)
        creations.append(CreateInvocation(invocation, log))
        resolved.update(_all_of(request, identifier, ""))
    return invocations, creations, resolved


def _affordable(job: Job, decision: Triage, limit: int, started: Instant) -> Triage:
    """Leave out the requests that one commit cannot take beside the first ones: each invocation has a copy of the job's task.

    Their triggers stay pending; the next triage, which the job asks for then, takes them up.
    """
    total = 0
    for place, request in enumerate(decision.requests if len(decision.requests) > 1 else ()):
        total += definition_bytes(new_invocation(job, request, InvocationId(0), started))
        if place and total > limit:
            return replace(decision, requests=decision.requests[:place])
    return decision


def _allocated(job: Job, request: Request, identifier: InvocationId, started: Instant, refusal: str) -> Invocation:
    invocation = new_invocation(job, request, identifier, started)
    check_invocation(invocation)
    if refusal:
        raise PermanentError(refusal)
    return invocation


def _tell(job: Job, request: Request, reason: str) -> None:
    for trigger in request.incoming_triggers:
        logger.warning("trigger_discarded", job_id=job.id, trigger_id=trigger.id, reason=reason)


def _draw_id(runtime: Runtime, started: Instant, taken: set[InvocationId]) -> InvocationId:
    while True:
        identifier = make_invocation_id(started, runtime.entropy.invocation_suffix())
        if identifier not in taken:
            taken.add(identifier)
            return identifier


def _all_of(request: Request, invocation_id: InvocationId, reason: str) -> Resolutions:
    return {trigger.id: (invocation_id, reason) for trigger in request.incoming_triggers}


def _markers(
    resolved: Resolutions,
    stored: Mapping[str, Versioned[TriggerRecord]],
    fresh: Mapping[str, TriggerRecord],
    now: Instant,
    expires: Instant,
) -> Iterable[Write]:
    for trigger_id, (invocation_id, reason) in resolved.items():
        changes: Any = {"invocation_id": invocation_id, "discarded": reason, "resolved": now, "expires": expires}
        if trigger_id in stored:
            found = stored[trigger_id]
            yield UpdateTrigger(replace(found.value, **changes), found.version)
        else:
            yield CreateTrigger(replace(fresh[trigger_id], **changes))


def _surplus(
    runtime: Runtime, job: Job, ordered: Sequence[Trigger], *, is_all: bool
) -> tuple[Sequence[Trigger], Sequence[Trigger]]:
    """Return the oldest triggers that are too many, as far as one commit can discard them, and those that the policy is asked about.

    The policy is asked about none while more triggers than the job keeps are, or may be, left after this triage: the newest ones
    count, and the next triages find them. More may be left if more are pending than were read.
    """
    count = 0 if inactive_reason(job) else max(0, len(ordered) - job.definition.max_pending)
    surplus, others = ordered[:count], ordered[count:]
    limit = runtime.limits.commit_bytes
    if count and not (is_all and sum(map(stored_bytes, surplus)) <= limit // 6):
        return _up_to(surplus, limit), ()
    return surplus, others


def _what_fits(runtime: Runtime, job: Job, ordered: Sequence[Trigger], started: Instant) -> list[Trigger]:
    """Return those of the triggers, oldest first, that one triage can take up; the others wait for the next.

    A batch has to fit into one invocation, beside its task: the oldest go first. Where triggers are not batched the commit
    is the limit, and under NEWEST_FIRST it is the newest that count.
    """
    limits = runtime.limits
    if inactive_reason(job):
        return _up_to(ordered, limits.commit_bytes)
    if policy_class(job.definition.policy.kind).takes_newest:
        return _up_to(reversed(ordered), limits.commit_bytes)[::-1]
    bare = new_invocation(job, Request(), InvocationId(0), started)
    return _up_to(ordered, MAX_DEFINITION_BYTES - definition_bytes(bare))


def _up_to(triggers: Iterable[Trigger], limit: int) -> list[Trigger]:
    """Return the first triggers, one at least; the last of a batch counts twice, as its properties are the request's."""
    total = 0
    fitting: list[Trigger] = []
    for trigger in triggers:
        size = stored_bytes(trigger)
        if total + 2 * size > limit and fitting:
            break
        total += size
        fitting.append(trigger)
    return fitting
