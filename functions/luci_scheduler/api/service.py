"""The methods of ``scheduler.Scheduler``, as functions over plain records; errors have the original's texts.

Nothing is launched or aborted here: pausing and resuming are commits; everything else is recorded as a deferred task, which
``on_task`` carries out. Every function may raise ``ApiError``, and ``TransientError`` or ``ComeAgainError`` where asking again may help.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError, Code, no_such_invocation, no_such_job
from luci_scheduler.core.errors import JobNotFoundError
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.page_cursor import BadCursorError, decode_cursor, encode_cursor
from luci_scheduler.core.public_state import JobState, public_state
from luci_scheduler.engine.deferral import abort_work, defer_all
from luci_scheduler.engine.jobs import pause_job as engine_pause
from luci_scheduler.engine.jobs import resume_job as engine_resume
from luci_scheduler.engine.runtime import Runtime

__all__ = [
    "MAX_PAGE",
    "InvocationsPage",
    "abort_invocation",
    "abort_job",
    "get_definitions",
    "get_invocation",
    "get_invocation_log",
    "get_invocations",
    "get_job",
    "get_jobs",
    "pause_job",
    "resume_job",
    "state_of",
    "visible_targets",
]

MAX_PAGE = 50
"""Invocations on a page, at most and by default (the original's)."""

_MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class InvocationsPage:
    """A part of a job's history, newest first."""

    invocations: tuple[Invocation, ...]
    next_cursor: str = ""
    """Where the next part begins; empty: there is none."""


def state_of(job: Job) -> JobState:
    """Return what a job is doing, for people and clients."""
    return public_state(
        active_invocations=len(job.active_invocations),
        enabled=job.enabled,
        paused=job.paused,
        next_tick=job.cron.last_tick_when,
    )


def get_jobs(context: Context, project: str = "") -> list[Job]:
    """Return the enabled jobs that the caller may see, of one project or of all, sorted by ID.

    A project that does not exist has none. Costs one read for each project and each of its jobs, in two calls; of projects in
    which the caller may see nothing no job is read.
    """
    store = context.runtime.store
    if not context.sees_some(project):
        return []
    if project:
        found = store.project(project)
        records = [found.value] if found else []
    else:
        records = list(store.projects())
    job_ids = [job_id for record in records if context.sees_some(record.id) for job_id in record.job_ids]
    visible = [job for job in store.jobs(job_ids) if job.enabled and context.may(Permission.GET, job)]
    return sorted(visible, key=lambda job: job.id)


def get_definitions(context: Context, project: str) -> tuple[str, list[Job]]:
    """Return the revision of a project's config in force and its visible jobs; nothing for a project that does not exist.

    Of a caller who does not see the whole project, definitions name no jobs to trigger but visible ones. Costs one read for the project and one for each job.
    """
    found = context.runtime.store.project(project) if context.sees_some(project) else None
    if found is None:
        return "", []
    jobs = [job for job in context.runtime.store.jobs(list(found.value.job_ids)) if job.enabled]
    visible = [job for job in jobs if context.may(Permission.GET, job)]
    if not context.sees_all(project):
        visible = [_without_others(job, {item.id for item in visible}) for job in visible]
    return (found.value.revision if visible else ""), sorted(visible, key=lambda job: job.id)


def _without_others(job: Job, visible: Collection[JobId]) -> Job:
    """Return a job whose definition names no jobs to trigger but the visible ones."""
    named = tuple(job_id for job_id in job.definition.triggered_jobs if job_id in visible)
    return replace(job, definition=replace(job.definition, triggered_jobs=named))


def visible_targets(context: Context, job: Job) -> list[JobId]:
    """Return which jobs a job triggers, of those that the caller may see.

    Costs one read for each, and none where the caller sees the whole project.
    """
    named = job.definition.triggered_jobs
    if not named or context.sees_all(project_of(job.id)):
        return list(named)
    targets = context.runtime.store.jobs(named)
    return sorted(item.id for item in targets if item.enabled and context.may(Permission.GET, item))


def get_job(context: Context, job_id: JobId) -> Job:
    """Return a job: one read.

    Raises:
        ApiError: NOT_FOUND.
    """
    return context.visible_job(job_id)


def get_invocations(context: Context, job_id: JobId, cursor: str = "", page_size: int = 0) -> InvocationsPage:
    """Return a page of a job's invocations, newest first: a read for the job and for each invocation, and one more.

    An invocation is on one page only, whatever starts or ends between two calls.

    Args:
        context: who asks.
        job_id: the job.
        cursor: ``next_cursor`` of the page before; empty for the first one.
        page_size: how many; 50 where it is not between 1 and 50.

    Raises:
        ApiError: NOT_FOUND; INTERNAL for a bad cursor, as in the original.
    """
    context.visible_job(job_id)
    size = page_size if 0 < page_size <= MAX_PAGE else MAX_PAGE
    try:
        after = decode_cursor(cursor)
    except BadCursorError as error:
        raise ApiError(Code.INTERNAL, f"internal error: {error}") from error
    found = tuple(context.runtime.store.invocations(job_id, size + 1, after))
    page = found[:size]
    return InvocationsPage(page, encode_cursor(page[-1].id) if len(found) > size else "")


def get_invocation(context: Context, job_id: JobId, invocation_id: InvocationId) -> Invocation:
    """Return an invocation without its log: two reads.

    Raises:
        ApiError: NOT_FOUND.
    """
    context.visible_job(job_id)
    return context.invocation(job_id, invocation_id)


def get_invocation_log(context: Context, job_id: JobId, invocation_id: InvocationId) -> tuple[Invocation, str]:
    """Return an invocation and its debug log: two reads.

    Raises:
        ApiError: NOT_FOUND.
    """
    context.visible_job(job_id)
    found = context.runtime.store.invocation_with_log(job_id, invocation_id)
    if found is None:
        raise no_such_invocation()
    return found[0].value, found[1]


def pause_job(context: Context, job_id: JobId, reason: str = "") -> bool:
    """Pause a job; a paused one stays as it is. Pending triggers are discarded, what runs goes on.

    Returns:
        Whether this has changed it.

    Raises:
        ApiError: NOT_FOUND, PERMISSION_DENIED.
    """
    return _change(context, Permission.PAUSE, engine_pause, job_id, _reason(reason) or "paused through RPC API")


def resume_job(context: Context, job_id: JobId, reason: str = "") -> bool:
    """Resume a paused job; another one stays as it is.

    Returns:
        Whether this has changed it.

    Raises:
        ApiError: NOT_FOUND, PERMISSION_DENIED.
    """
    return _change(context, Permission.RESUME, engine_resume, job_id, _reason(reason) or "resumed through RPC API")


def _change(
    context: Context,
    permission: Permission,
    change: Callable[[Runtime, JobId, str, str, str], bool],
    job_id: JobId,
    reason: str,
) -> bool:
    context.job_to(permission, job_id)
    key = context.delivery()
    try:
        changed = change(context.runtime, job_id, context.caller, reason, key)
    except JobNotFoundError as error:  # removed since
        raise no_such_job() from error
    context.audit(permission, job_id=job_id, reason=reason, key=key)
    return changed


def abort_job(context: Context, job_id: JobId, reason: str = "") -> None:
    """Have all of a job's active invocations aborted; they are when ``on_task`` has got to it.

    Raises:
        ApiError: NOT_FOUND, PERMISSION_DENIED.
    """
    job = context.job_to(Permission.ABORT, job_id)
    _abort(context, job_id, job.active_invocations, _reason(reason))


def abort_invocation(context: Context, job_id: JobId, invocation_id: InvocationId, reason: str = "") -> None:
    """Have an invocation aborted; nothing is to be done for one that is over.

    Raises:
        ApiError: NOT_FOUND, PERMISSION_DENIED.
    """
    context.job_to(Permission.ABORT, job_id)
    invocation = context.invocation(job_id, invocation_id)
    _abort(context, job_id, () if invocation.status.is_final else (invocation_id,), _reason(reason))


def _abort(context: Context, job_id: JobId, invocation_ids: Sequence[InvocationId], reason: str) -> None:
    now = context.runtime.clock.now()
    works = [abort_work(job_id, item, context.caller, reason, now) for item in invocation_ids]
    defer_all(context.runtime, works)
    names = [str(item) for item in invocation_ids]
    context.audit(Permission.ABORT, job_id=job_id, invocation_ids=names, reason=reason)


def _reason(text: str) -> str:
    """Return a reason as it is kept: one line of bounded length."""
    return " ".join(text.split())[:_MAX_REASON]
