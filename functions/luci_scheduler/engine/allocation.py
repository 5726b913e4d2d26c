"""Allocation: turning a triage's decision into the writes of one commit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.identifiers import InvocationId, make_invocation_id
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.request import Request
from luci_scheduler.core.triage import Triage, first_log, new_invocation, triage, with_new_invocations
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.ports import CreateInvocation, CreateTrigger, Found, PutJob, TriggerRecord, UpdateTrigger, Write

__all__ = ["Allocation", "allocate", "put_job"]


@dataclass(frozen=True, slots=True)
class Allocation:
    """New invocations and markers, ready to be committed together with the job."""

    job: Job
    invocations: tuple[Invocation, ...]
    writes: tuple[Write, ...]
    """The creations first, in the order of ``invocations``; then the markers. The job's own write is not among them."""
    left: int
    """Triggers that stay pending."""


def allocate(
    runtime: Runtime,
    job: Job,
    pending: Sequence[Found[TriggerRecord]],
    new: Sequence[TriggerRecord],
    *,
    started: Instant,
    key: str,
) -> Allocation:
    """Triage ``job`` over its pending triggers and the new ones, and draw up what is to be written.

    Args:
        runtime: ports and limits.
        job: the job without what has finished.
        pending: triggers that are stored already.
        new: triggers that arrive with this delivery; each is written, consumed or pending.
        started: the clock reading that the new invocations' IDs and start are made of.
        key: the delivery's key.
    """
    stored = {found.value.trigger.id: found for found in pending}
    fresh = {record.trigger.id: record for record in new}
    triggers = [found.value.trigger for found in pending] + [record.trigger for record in new]
    now = runtime.clock.now()
    fitting = _what_fits(triggers, runtime.limits.batch_bytes)
    decision = triage(job, fitting, runtime.era_of(job.definition.task), now)
    invocations, creations, resolved = _invocations(runtime, job, decision, started=started, now=now, key=key)
    markers = _markers(resolved, stored, fresh, now)
    waiting = [CreateTrigger(record) for record in new if record.trigger.id not in resolved]
    return Allocation(
        job=with_new_invocations(job, [invocation.id for invocation in invocations]),
        invocations=tuple(invocations),
        writes=(*creations, *markers, *waiting),
        left=len(triggers) - len(resolved),
    )


def put_job(job: Job, found: Found[Job], key: str) -> PutJob:
    """Return the write that replaces a job under the version it was read at, counter raised."""
    return PutJob(replace(job, mutations=found.value.mutations + 1, last_event=key), found.version)


Resolutions = dict[str, tuple[InvocationId, str]]
"""Trigger ID → the invocation that consumed it, or 0 and the reason why it was discarded."""


def _invocations(
    runtime: Runtime, job: Job, decision: Triage, *, started: Instant, now: Instant, key: str
) -> tuple[list[Invocation], list[Write], Resolutions]:
    invocations: list[Invocation] = []
    creations: list[Write] = []
    resolved: Resolutions = {trigger.id: (InvocationId(0), reason) for trigger, reason in decision.discarded}
    taken = set(job.active_invocations)
    for request in decision.requests:
        identifier = _draw_id(runtime, started, taken)
        try:
            invocation = new_invocation(job, request, identifier, started)
        except PermanentError as error:
            resolved.update(_all_of(request, InvocationId(0), str(error)))
            continue
        log = first_log(request, now)
        due = Instant(now + runtime.limits.claim_lease)
        invocation = replace(invocation, last_event=key, next_due=due, log_size=len(log.encode()))
        invocations.append(invocation)
        creations.append(CreateInvocation(invocation, log))
        resolved.update(_all_of(request, identifier, ""))
    return invocations, creations, resolved


def _draw_id(runtime: Runtime, started: Instant, taken: set[InvocationId]) -> InvocationId:
    while True:
        identifier = make_invocation_id(started, runtime.chance.invocation_suffix())
        if identifier not in taken:
            taken.add(identifier)
            return identifier


def _all_of(request: Request, invocation_id: InvocationId, reason: str) -> Resolutions:
    return {trigger.id: (invocation_id, reason) for trigger in request.incoming_triggers}


def _markers(
    resolved: Resolutions,
    stored: Mapping[str, Found[TriggerRecord]],
    fresh: Mapping[str, TriggerRecord],
    now: Instant,
) -> Iterable[Write]:
    for trigger_id, (invocation_id, reason) in resolved.items():
        if trigger_id in stored:
            found = stored[trigger_id]
            marker = replace(found.value, invocation_id=invocation_id, discarded=reason, resolved=now)
            yield UpdateTrigger(marker, found.version)
        else:
            record = fresh[trigger_id]
            yield CreateTrigger(replace(record, invocation_id=invocation_id, discarded=reason, resolved=now))


def _what_fits(triggers: Sequence[Trigger], limit: int) -> list[Trigger]:
    """Return the oldest triggers whose JSON fits into one invocation; the others wait for the next triage."""
    total = 0
    fitting: list[Trigger] = []
    for trigger in triggers:
        total += len(json.dumps(trigger.public()))
        if total > limit and fitting:
            break
        fitting.append(trigger)
    return fitting
