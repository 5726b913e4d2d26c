"""Triage: from a job's pending triggers and its free slots to new invocations. Pure; the engine carries it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from luci_scheduler.core import discards, log_lines
from luci_scheduler.core.debug_log import format_line, triage_block
from luci_scheduler.core.era import Era
from luci_scheduler.core.identifiers import InvocationId
from luci_scheduler.core.instants import Instant, truncate_to_microseconds
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import MAX_PENDING, Job, TriggeringPolicy
from luci_scheduler.core.policy.base import Policy
from luci_scheduler.core.policy.registry import make_policy
from luci_scheduler.core.request import Request
from luci_scheduler.core.trigger import Trigger, sort_key

__all__ = [
    "MAX_PENDING",
    "Triage",
    "first_log",
    "has_free_slot",
    "inactive_reason",
    "may_triage",
    "new_invocation",
    "triage",
    "triaged",
]


@dataclass(frozen=True, slots=True)
class Triage:
    """What a triage decided."""

    requests: tuple[Request, ...] = ()
    discarded: tuple[tuple[Trigger, str], ...] = ()
    """Triggers that start nothing, each with the reason."""
    inactive: bool = False
    """Whether the job takes no triggers: all are discarded, and the policy was not asked."""
    surplus: int = 0
    """How many of the discarded triggers, the first ones, were too many."""
    max_pending: int = MAX_PENDING
    """How many pending triggers the job keeps."""
    policy_log: tuple[str, ...] = ()
    """The policy's lines for the triage log."""
    policy_error: str = ""
    """Why the default policy stood in for the job's own; empty if it did not."""


def has_free_slot(job: Job) -> bool:
    """Whether the job may start another invocation."""
    return len(job.active_invocations) < job.definition.policy.max_concurrent_invocations


def may_triage(job: Job) -> bool:
    """Whether a triage would do something with what waits: start it in a free slot, or discard it where the job takes none."""
    return has_free_slot(job) or bool(inactive_reason(job))


def inactive_reason(job: Job | None) -> str:
    """Say why a job takes no triggers; empty if it does."""
    if job is None:
        return discards.JOB_MISSING
    if not job.enabled:
        return discards.JOB_DISABLED
    return discards.JOB_PAUSED if job.paused else ""


def triage(job: Job, pending: Sequence[Trigger], era: Era, now: Instant, surplus: int | None = None) -> Triage:
    """Decide what becomes of a job's pending triggers; finished invocations are no longer among its active ones.

    ``surplus`` is how many of the oldest are too many, where ``pending`` is not all that is pending.
    """
    ordered = sorted(pending, key=sort_key)
    if ordered and (reason := inactive_reason(job)):
        return Triage(discarded=tuple((trigger, reason) for trigger in ordered), inactive=True)
    limit = job.definition.max_pending
    too_many = ordered[: max(0, len(ordered) - limit) if surplus is None else surplus]
    policy, error = _policy(job.definition.policy, era)
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


def _policy(definition: TriggeringPolicy, era: Era) -> tuple[Policy, str]:
    try:
        return make_policy(definition, era), ""
    except ValueError as error:  # the default policy takes its place, as in the original
        return make_policy(TriggeringPolicy(), era), str(error)


def new_invocation(job: Job, request: Request, invocation_id: InvocationId, started: Instant) -> Invocation:
    """Allocate an invocation of ``job``: its record before the first launch attempt.

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
    """Return the job as a triage leaves it: with new invocations among its active ones, and a note of when and by what it went."""
    return replace(
        job,
        active_invocations=(*job.active_invocations, *invocation_ids),
        last_triage=now,
        triaged_revision=job.definition.revision,
    )
