"""Deferred tasks: each try finishes the work, or postpones it further."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from luci_scheduler.core.commit_event import CommitEvent, checked_commit, trigger_commit
from luci_scheduler.core.deferred import Deferred, is_abandoned, postponed
from luci_scheduler.core.discards import NOT_ON_REF, NOT_SERVED
from luci_scheduler.core.errors import MalformedError, PermanentError, StoreConflictError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import trigger_from_json, trigger_to_json
from luci_scheduler.core.untrusted import PARSER_ERRORS
from luci_scheduler.engine.announce import KIND as ANNOUNCE
from luci_scheduler.engine.announce import try_announcement
from luci_scheduler.engine.commit import Refusal, discard_commit, find_watching, landed_commit, take_commit
from luci_scheduler.engine.deferral import offer_deferred
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.triggers import BUDGET, accept_triggers, discard_trigger
from luci_scheduler.ports import DeleteDeferred, GitCommit, PutDeferred, Versioned

__all__ = ["on_deferred"]

_MOST_REFUSED = 20
"""Refused commits after which a try of a deferred task checks no more commits; the others wait for a later try."""
_UNCHECKED = Refusal(f"{NOT_SERVED}: too many commits are pending, this one is checked later", transient=True)

CarryOut = Callable[[Deferred, str], None]
"""Runs work that need not wait for a commit, given the key of the delivery."""


def on_deferred(runtime: Runtime, deferred_id: str, tries: int, key: str, carry_out: CarryOut) -> None:
    """Try a deferred task; ``tries`` is the number of the try that the queue's task is for. Safe to repeat.

    Finished work is deleted. Other work is recorded with a longer pause.

    Raises:
        TransientError, ComeAgainError, MalformedError: not done; deliver again. After a week the work is dropped.
        PermanentError: the work can never be done, and is deleted.
    """
    found = runtime.store.deferred(deferred_id)
    # The number of tries names the task that the document waits for; tasks of earlier tries are stale.
    if found is None or found.value.tries != tries:
        return  # the work is done, or another task is for the current try
    work = found.value
    try:
        left = _try(runtime, work, key, carry_out)
    except PermanentError:
        _delete(runtime, found)
        raise
    except Exception as error:  # a defect of this code must not keep the task forever
        if not is_abandoned(work, runtime.clock.now()):
            raise
        logger.error("deferred_dropped", deferred=work.id, task=work.kind, tries=work.tries, error=repr(error))
        left = None
    if left is None:
        _delete(runtime, found)
    else:
        _postpone(runtime, found, left)


def _try(runtime: Runtime, work: Deferred, key: str, carry_out: CarryOut) -> Deferred | None:
    """Return the work that remains, or None."""
    waiting = {"commit": _try_commit, "emit": _try_emitted, ANNOUNCE: try_announcement}.get(work.kind)
    if waiting is not None:
        return waiting(runtime, work)
    carry_out(work, key)
    return None


def _try_commit(runtime: Runtime, work: Deferred) -> Deferred | None:
    event, published, key = _commit_of(runtime, work)
    watching = find_watching(event, runtime.store.watchers(event.repo))
    refusal = take_commit(runtime, event, watching, published, key) if watching else None
    if refusal is None:
        return None
    if not _is_over(runtime, work, refusal):
        return postponed(work, runtime.clock.now(), refusal.reason)
    discard_commit(runtime, event, watching, published, key, refusal.reason)
    return None


def _try_emitted(runtime: Runtime, work: Deferred) -> Deferred | None:
    """Deliver the triggers whose commits have landed. The others wait; unchecked commits come first next time."""
    job_id, triggers, key = _triggers_of(work)
    refusals = _refusals(runtime, triggers)
    if landed := [trigger for trigger in triggers if trigger.id not in refusals]:
        accept_triggers(runtime, job_id, landed, key)
    # Unchecked commits come first in the remaining work, so that refused ones cannot keep them from being checked.
    waits = [trigger for trigger in triggers if refusals.get(trigger.id) is _UNCHECKED]
    for trigger in triggers:
        refusal = refusals.get(trigger.id, _UNCHECKED)
        if refusal is _UNCHECKED:
            continue
        if _is_over(runtime, work, refusal):
            _discard(runtime, job_id, trigger, key, refusal.reason)
        else:
            waits.append(trigger)
    if not waits:
        return None
    payload = {**work.payload, "triggers": [trigger_to_json(trigger) for trigger in waits]}
    return postponed(replace(work, payload=payload), runtime.clock.now(), refusals[waits[0].id].reason)


def _discard(runtime: Runtime, job_id: JobId, trigger: Trigger, key: str, reason: str) -> None:
    named = {name: trigger.payload.get(name) for name in ("repo", "ref", "revision")}
    logger.error("commit_discarded", **named, jobs=1, reason=reason)
    discard_trigger(runtime, job_id, trigger, key, reason)


def _refusals(runtime: Runtime, triggers: Sequence[Trigger]) -> Mapping[str, Refusal]:
    """Return why triggers must wait, by their IDs. Each commit is checked once with its repository's host.

    A caller may name a thousand nonexistent commits in any number of requests. After `_MOST_REFUSED` refusals, or when
    the time is up, this try checks no more commits.
    """
    until = Instant(runtime.clock.now() + BUDGET)
    known: dict[tuple[str, ...], Refusal | None] = {}
    refusals: dict[str, Refusal] = {}
    for trigger in triggers:
        commit = trigger.kind, *(str(trigger.payload.get(member)) for member in ("repo", "ref", "revision"))
        if commit not in known:
            is_open = sum(map(bool, known.values())) < _MOST_REFUSED and runtime.clock.now() < until
            if not is_open and trigger.is_commit:
                refusals[trigger.id] = _UNCHECKED
                continue
            known[commit] = _refusal(runtime, trigger)
        if refusal := known[commit]:
            refusals[trigger.id] = refusal
    return refusals


def _refusal(runtime: Runtime, trigger: Trigger) -> Refusal | None:
    if not trigger.is_commit or not runtime.limits.commit_wait or runtime.limits.trust_publishers:
        return None
    try:
        event = trigger_commit(trigger, runtime.hosts)
    except MalformedError as error:
        return Refusal(f"{NOT_ON_REF}: {error}")
    answer = landed_commit(runtime, event, GitCommit(event.revision, trigger.created))
    return answer if isinstance(answer, Refusal) else None


def _is_over(runtime: Runtime, work: Deferred, refusal: Refusal) -> bool:
    """Return whether a commit has waited long enough: from its publication; from the first try if the host is silent.

    Raises:
        TransientError: commits do not wait, and only a failed call delays this one; deliver again.
    """
    now, wait = runtime.clock.now(), runtime.limits.commit_wait
    if not refusal.transient:
        return now >= work.expires
    if not wait:
        raise TransientError(f"the commit could not be fetched: {refusal.reason}")
    return now >= work.created + wait


def _commit_of(runtime: Runtime, work: Deferred) -> tuple[CommitEvent, Instant, str]:
    payload: Mapping[str, object] = work.payload
    members = (payload.get(name) for name in ("repo", "ref", "revision"))
    event = checked_commit(*members, hosts=runtime.hosts)
    return event, Instant(int(str(payload.get("published", work.created)))), str(payload.get("delivery", work.id))


def _triggers_of(work: Deferred) -> tuple[JobId, list[Trigger], str]:
    try:
        triggers = [trigger_from_json(item) for item in work.payload["triggers"]]
        return JobId(work.payload["job"]), triggers, str(work.payload["delivery"])
    except PARSER_ERRORS as error:
        raise MalformedError(f"bad payload of the deferred task {work.id}: {error!r}") from error


def _postpone(runtime: Runtime, found: Versioned[Deferred], left: Deferred) -> None:
    try:
        runtime.store.commit([PutDeferred(left, found.version)])
    except StoreConflictError:
        return  # another delivery of this try has recorded its result
    offer_deferred(runtime, left)


def _delete(runtime: Runtime, found: Versioned[Deferred]) -> None:
    try:
        runtime.store.commit([DeleteDeferred(found.value.id, found.version)])
    except StoreConflictError:
        return  # another delivery deleted or postponed the work; its task has no effect
