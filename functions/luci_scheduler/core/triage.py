"""Triage: turns a job's pending triggers and free slots into new invocations.

This module is pure. ``engine.triage`` reads the documents, calls the functions here, and commits the result.

Two fields of a job's document request triages. Only this module writes them:

``triggers_wait``
    Set if pending triggers may exist. The handler that ends an invocation queries pending triggers only if it is set.
``triage_due``
    Set to the instant of a requested triage that has not run yet. The sweep finds the job by it.

`with_pending`, `request_triage`, `end_request` and `after_triage` are the only transitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from luci_scheduler.core import discards, log_lines
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.debug_log import format_line, triage_block
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import NO_INVOCATION, InvocationId
from luci_scheduler.core.instants import Instant, truncate_to_microseconds
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import MAX_PENDING, Job, TriggeringPolicy
from luci_scheduler.core.policy.base import Policy
from luci_scheduler.core.policy.registry import make_policy, policy_class
from luci_scheduler.core.request import Request
from luci_scheduler.core.sizes import MAX_DEFINITION_BYTES, definition_bytes
from luci_scheduler.core.trigger import Trigger, sort_key
from luci_scheduler.core.trigger_json import stored_bytes

__all__ = [
    "Triage",
    "after_triage",
    "end_request",
    "first_log",
    "fit_requests",
    "has_free_slot",
    "has_more",
    "inactive_reason",
    "may_triage",
    "needs_triage",
    "new_invocation",
    "request_triage",
    "select_triggers",
    "triage",
    "triaged",
    "with_pending",
]


@frozen
class Triage:
    """The decision of one triage."""

    requests: tuple[Request, ...] = ()
    discarded: tuple[tuple[Trigger, str], ...] = ()
    """Triggers that start nothing, each with the reason."""
    inactive: bool = False
    """Whether the job is disabled or paused: all triggers are discarded, and the policy is not consulted."""
    surplus: int = 0
    """How many of the discarded triggers, counted from the first, exceeded the job's limit."""
    max_pending: int = MAX_PENDING
    """The job's limit of pending triggers."""
    policy_log: tuple[str, ...] = ()
    """The policy's lines for the triage log."""
    policy_error: str = ""
    """Why the default policy replaced the job's policy; empty if it did not."""


def has_free_slot(job: Job) -> bool:
    """Return whether the job may start another invocation."""
    return len(job.active_invocations) < job.definition.policy.max_concurrent_invocations


def may_triage(job: Job) -> bool:
    """Return whether a triage could resolve pending triggers: start them in a free slot, or discard them."""
    return has_free_slot(job) or bool(inactive_reason(job))


def inactive_reason(job: Job | None) -> str:
    """Return why a job accepts no triggers; empty if it accepts them."""
    if job is None:
        return discards.JOB_MISSING
    if not job.enabled:
        return discards.JOB_DISABLED
    return discards.JOB_PAUSED if job.paused else ""


def needs_triage(job: Job, *, has_pending: bool) -> bool:
    """Return whether a job must be triaged now: a triage was requested, or pending triggers can be resolved."""
    if job.triage_due is not None:
        return True
    # A pending trigger without the flag gets a triage even without a slot: that triage sets the flag.
    return has_pending and (may_triage(job) or not job.triggers_wait)


def with_pending(job: Job) -> Job:
    """Return the job with the mark that pending triggers may exist."""
    return replace(job, triggers_wait=True)


def request_triage(job: Job, now: Instant) -> Job:
    """Return the job with a request for a triage; the sweep repeats the request until a triage ends it."""
    return replace(job, triage_due=now)


def end_request(job: Job) -> Job:
    """Return the job without a request: the triage that follows fulfills it, or there is nothing to triage."""
    return replace(job, triage_due=None)


def has_more(job: Job, *, is_left: bool, has_resolved: bool) -> bool:
    """Return whether another triage must follow a triage that left pending triggers.

    A triage that resolved nothing would repeat itself. Without a slot, the end of an invocation triages the job.
    """
    return is_left and has_resolved and may_triage(job)


def after_triage(
    job: Job, *, has_read: bool, is_left: bool, has_resolved: bool, is_end: bool, now: Instant
) -> tuple[Job, bool]:
    """Return the job with the flags that the commit of a triage must write, and whether a recheck must follow it.

    The invariant (decision 1): after each commit that frees a slot, either the slot is filled, or ``triage_due`` is set
    until a later query has looked for pending triggers.

    * ``triggers_wait`` is set if the triage read pending triggers, or leaves some. Only the end of an invocation clears
      it, and only if its query found nothing. A trigger recorded after that query sets it again itself.
    * ``triage_due`` is set if more triggers can be resolved. Another trigger, or the end of an invocation, may never
      come.
    * ``triage_due`` is set if the end of an invocation leaves a free slot. A trigger recorded between the query and
      this commit found no slot and relied on ``triggers_wait``. The recheck finds it; if the process dies, the sweep
      does.

    Args:
        job: the job with its new invocations; ``triage_due`` is None if this triage fulfills a request.
        has_read: whether the query found pending triggers.
        is_left: whether triggers stay pending, or may exist beyond the page that was read.
        has_resolved: whether the triage consumes or discards any trigger.
        is_end: whether the same commit ends an invocation.
        now: the instant of a new request.
    """
    waits = has_read if is_end else job.triggers_wait or has_read or is_left
    if has_more(job, is_left=is_left, has_resolved=has_resolved):
        return replace(job, triggers_wait=waits, triage_due=now), False
    if is_end and may_triage(job) and job.triage_due is None:
        return replace(job, triggers_wait=waits, triage_due=now), True
    return replace(job, triggers_wait=waits), False


def select_triggers(
    job: Job, triggers: Iterable[Trigger], started: Instant, commit_bytes: int, *, is_all: bool
) -> tuple[list[Trigger], int]:
    """Return the triggers that one triage can resolve, and how many of them, from the first, exceed the job's limit.

    The other triggers stay pending for the next triage. The policy gets no triggers while more than the job's limit
    are, or may be, left: the newest triggers count, and later triages find them.

    Args:
        job: the job without finished invocations.
        triggers: pending and new triggers, in any order.
        started: when the triage started.
        commit_bytes: how many bytes of triggers one commit resolves.
        is_all: whether ``triggers`` holds all pending triggers.
    """
    ordered = sorted(triggers, key=sort_key)
    count = 0 if inactive_reason(job) else max(0, len(ordered) - job.definition.max_pending)
    surplus, others = ordered[:count], ordered[count:]
    # A discarded surplus trigger is stored once, and a consumed trigger up to three times. A sixth leaves room for
    # both.
    if count and not (is_all and sum(map(stored_bytes, surplus)) <= commit_bytes // 6):
        surplus = _take_bytes(surplus, commit_bytes)
        return surplus, len(surplus)
    return [*surplus, *_fit_batch(job, others, started, commit_bytes)], count


def fit_requests(job: Job, decision: Triage, commit_bytes: int, started: Instant) -> Triage:
    """Drop the requests that exceed one commit; each invocation holds a copy of the job's task.

    Their triggers stay pending, and the job then requests another triage.
    """
    # A single request always goes through: `core.sizes` keeps each invocation below the limit of a commit.
    total = 0
    for place, request in enumerate(decision.requests if len(decision.requests) > 1 else ()):
        total += definition_bytes(new_invocation(job, request, NO_INVOCATION, started))
        if place and total > commit_bytes:
            return replace(decision, requests=decision.requests[:place])
    return decision


def triage(
    job: Job,
    pending: Sequence[Trigger],
    era: Era,
    now: Instant,
    surplus: int | None = None,
    hosts: CommitHosts = DEFAULT_HOSTS,
) -> Triage:
    """Decide about a job's pending triggers; finished invocations must not be among its active ones.

    ``surplus`` is the number of oldest triggers that exceed the limit, if ``pending`` does not hold all of them.
    """
    ordered = sorted(pending, key=sort_key)
    if ordered and (reason := inactive_reason(job)):
        return Triage(discarded=tuple((trigger, reason) for trigger in ordered), inactive=True)
    limit = job.definition.max_pending
    too_many = ordered[: max(0, len(ordered) - limit) if surplus is None else surplus]
    # The surplus goes first, so the policy decides about the newest triggers only.
    policy, error = _policy(job.definition.policy, era, hosts)
    decision = policy.decide(ordered[len(too_many) :], len(job.active_invocations), now)
    dropped = [(trigger, discards.too_many(limit)) for trigger in too_many]
    dropped += [(item.trigger, item.reason) for item in decision.discards]
    return Triage(
        requests=decision.requests,
        discarded=tuple(dropped),
        surplus=len(too_many),
        max_pending=limit,
        policy_log=decision.log,
        policy_error=error,
    )


def new_invocation(job: Job, request: Request, invocation_id: InvocationId, started: Instant) -> Invocation:
    """Return a new invocation of ``job``: its record before the first launch attempt.

    Raises:
        PermanentError: a tag of the request is not ``key:value``.
    """
    definition = job.definition
    return Invocation(
        id=invocation_id,
        job_id=job.id,
        started=truncate_to_microseconds(started),
        task=definition.task,
        realm=definition.realm,
        revision=definition.revision,
        revision_url=definition.revision_url,
        triggered_by=request.triggered_by,
        properties=request.properties,
        tags=request.stored_tags(),
        incoming_triggers=request.incoming_triggers,
        triggered_jobs=definition.triggered_jobs,
    )


def first_log(request: Request, now: Instant) -> str:
    """Return the debug log that an invocation is created with."""
    log = triage_block(request.log_lines) if request.log_lines else ""
    log += format_line(now, log_lines.QUEUED.format())
    if request.triggered_by:
        log += format_line(now, log_lines.TRIGGERED_BY.format(who=request.triggered_by))
    return log


def triaged(job: Job, invocation_ids: Sequence[InvocationId], now: Instant) -> Job:
    """Return the job with new active invocations, and with the time and config revision of this triage."""
    return replace(
        job,
        active_invocations=(*job.active_invocations, *invocation_ids),
        last_triage=now,
        triaged_revision=job.definition.revision,
    )


def _policy(definition: TriggeringPolicy, era: Era, hosts: CommitHosts) -> tuple[Policy, str]:
    try:
        return make_policy(definition, era, hosts), ""
    except ValueError as error:  # the original also falls back to the default policy
        return make_policy(TriggeringPolicy(), era, hosts), str(error)


def _fit_batch(job: Job, ordered: Sequence[Trigger], started: Instant, commit_bytes: int) -> list[Trigger]:
    """Return the triggers, oldest first, that fit into one triage.

    A batch must fit into one invocation together with its task, so the oldest go first. Without batches only the
    commit limits them, and a policy that takes the newest first keeps the newest.
    """
    if inactive_reason(job):
        return _take_bytes(ordered, commit_bytes)
    if policy_class(job.definition.policy.kind).takes_newest:
        return _take_bytes(reversed(ordered), commit_bytes)[::-1]
    bare = new_invocation(job, Request(), NO_INVOCATION, started)
    return _take_bytes(ordered, MAX_DEFINITION_BYTES - definition_bytes(bare))


def _take_bytes(triggers: Iterable[Trigger], limit: int) -> list[Trigger]:
    """Return the first triggers within ``limit`` bytes, at least one trigger."""
    total = 0
    fitting: list[Trigger] = []
    for trigger in triggers:
        size = stored_bytes(trigger)
        # The last trigger of a batch counts twice: its properties are stored again as the request's.
        if total + 2 * size > limit and fitting:
            break
        total += size
        fitting.append(trigger)
    return fitting
