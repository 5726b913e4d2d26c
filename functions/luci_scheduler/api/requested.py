"""Requests and their outcome: the invocation that took a trigger, and the names that a caller can see."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import invalid
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import NO_INVOCATION, PROJECT_NAME, InvocationId, JobId, split_job_id
from luci_scheduler.core.trigger_record import TriggerRecord

__all__ = ["MAX_NAMES", "MAX_TRIGGERS", "TriggerOutcome", "TriggerState", "get_names", "get_triggers"]

MAX_TRIGGERS = 100
"""Triggers of one request."""

MAX_NAMES = 5000
"""Names in one answer: the first ones in the order of the alphabet."""

_MAX_READ = 500  # jobs that are read for a caller who sees only some realms of a project


class TriggerState(StrEnum):
    """The outcome of a trigger."""

    UNKNOWN = "UNKNOWN"
    """It has not reached the job yet, or its marker is no longer stored."""
    PENDING = "PENDING"
    """It waits for a triage that starts an invocation."""
    TAKEN = "TAKEN"
    """An invocation runs or ran for it."""
    DISCARDED = "DISCARDED"
    """It starts nothing."""


@frozen
class TriggerOutcome:
    """The outcome of one trigger."""

    trigger_id: str
    state: TriggerState
    invocation_id: InvocationId = NO_INVOCATION
    """The invocation that took it."""
    reason: str = ""
    """Why it was discarded."""


def get_triggers(context: Context, job_id: JobId, trigger_ids: Sequence[str]) -> list[TriggerOutcome]:
    """Return the outcomes of triggers, in the order of the request; costs one read for the job and one for each.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        ApiError: INVALID_ARGUMENT: there are no triggers, or too many.
    """
    if not 0 < len(trigger_ids) <= MAX_TRIGGERS or not all(trigger_ids):
        raise invalid(f"trigger_ids must name 1 to {MAX_TRIGGERS} triggers")
    context.visible_job(job_id)
    found = {item.trigger.id: item for item in context.runtime.store.triggers([(job_id, one) for one in trigger_ids])}
    return [_outcome(one, found.get(one)) for one in trigger_ids]


def _outcome(trigger_id: str, record: TriggerRecord | None) -> TriggerOutcome:
    if record is None:
        return TriggerOutcome(trigger_id, TriggerState.UNKNOWN)
    if record.is_pending:
        return TriggerOutcome(trigger_id, TriggerState.PENDING)
    if record.invocation_id:
        return TriggerOutcome(trigger_id, TriggerState.TAKEN, record.invocation_id)
    return TriggerOutcome(trigger_id, TriggerState.DISCARDED, reason=record.discarded)


def get_names(context: Context, project: str = "") -> tuple[list[str], bool]:
    """Return the names of a project's visible jobs, or of the projects, and whether there are more.

    Costs one read for each project that is looked at. For a caller who sees only some realms of a project it also costs
    one read for each of its first 500 jobs.
    """
    store = context.runtime.store
    if not context.sees_some(project):
        return [], False
    if not project:
        names = [record.id for record in store.projects() if record.job_ids and context.sees_some(record.id)]
        return names[:MAX_NAMES], len(names) > MAX_NAMES
    found = store.project(project) if PROJECT_NAME.fullmatch(project) else None
    return _job_names(context, project, found.value.job_ids) if found else ([], False)


def _job_names(context: Context, project: str, job_ids: Sequence[JobId]) -> tuple[list[str], bool]:
    sees_all = context.sees_all(project)
    most = MAX_NAMES if sees_all else _MAX_READ
    shown = sorted(job_ids)[:most]
    if not sees_all:
        jobs = context.runtime.store.jobs(shown) if shown else []
        shown = sorted(job.id for job in jobs if job.enabled and context.may(Permission.GET, job))
    return [split_job_id(job_id)[1] for job_id in shown], len(job_ids) > most
