"""Explanations of triggers that have reached a job."""

from __future__ import annotations

from dataclasses import replace

from luci_scheduler.api.explanation import Explanation, Origin, Reason, paused_by
from luci_scheduler.core import discards
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation, summary_line
from luci_scheduler.core.job import Job
from luci_scheduler.core.triage import has_free_slot
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.managers.registry import kind_of

__all__ = ["explain_trigger", "origin_of"]

_REQUESTED = {Origin.RERUN: "Run again", Origin.BACKFILL: "Backfilled", Origin.EMITTED: "Emitted"}


def origin_of(trigger: Trigger) -> Origin:
    """Return the origin of a commit's trigger, which its ID reveals."""
    own = f"{trigger.payload.get('repo')}/+/{trigger.payload.get('ref')}@{trigger.payload.get('revision')}"
    if trigger.id == own:
        return Origin.COMMIT
    if trigger.id.startswith(f"{own}#backfill:"):
        return Origin.BACKFILL
    return Origin.RERUN if trigger.id.startswith("rerun:") else Origin.EMITTED


def explain_trigger(job: Job, record: TriggerRecord, invocation: Invocation | None, now: Instant) -> Explanation:
    """Return the outcome of a trigger.

    Args:
        job: the job that the trigger has reached.
        record: the trigger's record.
        invocation: the invocation that took it; None if there is none, or if it is no longer stored.
        now: the current time.
    """
    base = Explanation(
        job.id,
        Reason.INVOCATION,
        "",
        ref=str(record.trigger.payload.get("ref", "")),
        trigger_id=record.trigger.id,
    )
    if record.invocation_id:
        found = _taken(base, record, invocation)
    elif record.is_pending:
        found = _pending(base, job, record, now)
    else:
        found = _discarded(base, job, record)
    return _with_origin(found, record.trigger)


def _with_origin(explanation: Explanation, trigger: Trigger) -> Explanation:
    """Add who requested a trigger that is not the commit's own."""
    origin, who = origin_of(trigger), trigger.emitted_by_user
    if origin is Origin.COMMIT:
        return explanation
    by = f" by {who.removeprefix('user:')}" if who else ""
    sentence = f"{_REQUESTED[origin]}{by}: {explanation.sentence[:1].lower()}{explanation.sentence[1:]}"
    return replace(explanation, sentence=sentence, origin=origin, asked_by=who)


def _taken(base: Explanation, record: TriggerRecord, invocation: Invocation | None) -> Explanation:
    base = replace(base, invocation_id=record.invocation_id)
    if invocation is None:
        sentence = f"It ran in invocation {record.invocation_id}, which is no longer stored."
        return replace(base, sentence=sentence)
    base = replace(
        base,
        status=str(invocation.status),
        summary=summary_line(invocation),
        started=invocation.started,
        finished=invocation.finished,
    )
    newest = invocation.incoming_triggers[-1]
    if newest.id == record.trigger.id:
        return replace(base, sentence=_ran_sentence(invocation))
    sentence = (
        f"It was batched into invocation {invocation.id} ({invocation.status}), which runs the newest of "
        f"{len(invocation.incoming_triggers)} triggers, {newest.title or newest.id}."
    )
    return replace(base, reason=Reason.BATCHED, sentence=sentence)


def _ran_sentence(invocation: Invocation) -> str:
    older = len(invocation.incoming_triggers) - 1
    batch = f", together with {older} older trigger{'s' if older > 1 else ''}" if older else ""
    past, present = kind_of(invocation.task).verbs
    verb = past if invocation.status.is_final else present
    return f"It {verb} in invocation {invocation.id}{batch}: {invocation.status}."


def _pending(base: Explanation, job: Job, record: TriggerRecord, now: Instant) -> Explanation:
    base = replace(base, since=record.trigger.created, waiting_for=job.active_invocations)
    pending = _pending_since(record.trigger.created, now)
    if has_free_slot(job) or not job.active_invocations:
        sentence = f"{pending}: the job's next triage decides."
        return replace(base, reason=Reason.PENDING, sentence=sentence)
    names = ", ".join(str(item) for item in job.active_invocations)
    limit = job.definition.policy.max_concurrent_invocations
    if limit == 1:
        sentence = f"{pending}: it is waiting for the running invocation {names}."
        return replace(base, reason=Reason.WAITING_FOR_INVOCATION, sentence=sentence)
    sentence = f"{pending}: the policy allows {limit} concurrent invocations, and that many are running ({names})."
    return replace(base, reason=Reason.SLOT_LIMIT, sentence=sentence)


def _pending_since(created: Instant, now: Instant) -> str:
    since = format_rfc3339(Instant(created // SECOND * SECOND))
    return f"It has been pending since {since} ({format_duration((now - created) // SECOND * SECOND)})"


def _discarded(base: Explanation, job: Job, record: TriggerRecord) -> Explanation:
    match record.discarded:
        case text if discards.is_too_many(text):
            reason = Reason.DISCARDED_AS_SURPLUS
            why = f" because {text}: the oldest triggers are dropped"
        case discards.JOB_PAUSED:
            reason, why = Reason.JOB_PAUSED, f" because the job was paused{paused_by(job, record.resolved)}"
        case discards.JOB_DISABLED:
            reason, why = Reason.JOB_DISABLED, " because the config had removed or disabled the job"
        case text if discards.is_by_age(text):
            reason, why = Reason.DISCARDED_BY_AGE, f": {text}"
        case text if text.startswith(discards.NOT_SERVED):
            reason, why = Reason.NOT_SERVED, f" because {text}"
        case discards.TOO_COSTLY:
            reason, why = Reason.PATTERNS_TOO_COSTLY, f" because {discards.TOO_COSTLY}"
        case text if text.startswith(discards.NOT_ON_REF):
            reason, why = Reason.NOT_ON_REF, f" because {text}"
        case text:
            reason, why = Reason.DISCARDED, f": {text}"
    return replace(base, since=record.resolved, reason=reason, sentence=f"It was discarded{why}.")
