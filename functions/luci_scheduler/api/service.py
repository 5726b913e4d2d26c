"""The methods of ``scheduler.Scheduler`` as functions over plain records; errors have the original's texts.

Nothing is launched or aborted here. Pausing and resuming are commits; every other action is recorded as a deferred
task, which ``on_task`` runs. Every function may raise ``ApiError``, and ``TransientError`` or ``ComeAgainError`` if a
retry may succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import BadMemberError, Code, InvalidCursorError, no_such_invocation, no_such_job
from luci_scheduler.core.errors import JobNotFoundError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job, JobState
from luci_scheduler.core.page_cursor import BadCursorError, decode_cursor, encode_cursor
from luci_scheduler.engine.deferral import abort_work, defer_all
from luci_scheduler.engine.jobs import pause_job as engine_pause
from luci_scheduler.engine.jobs import resume_job as engine_resume
from luci_scheduler.engine.runtime import Runtime

__all__ = [
    "MAX_PAGE",
    "InvocationLog",
    "InvocationsPage",
    "abort_invocation",
    "abort_job",
    "get_definitions",
    "get_invocation",
    "get_invocation_log",
    "get_invocations",
    "get_job",
    "get_jobs",
    "invocations_page",
    "pause_job",
    "resume_job",
    "state_of",
    "visible_targets",
]

MAX_PAGE = 50
"""The default and the largest number of invocations on a page, as in the original."""

_MAX_REASON = 500  # characters; the job's or invocation's document stores it


@frozen
class InvocationsPage:
    """One page of a job's history, newest first."""

    invocations: tuple[Invocation, ...]
    next_cursor: str = ""
    """The cursor of the next page; empty on the last page."""


@frozen
class InvocationLog:
    """An invocation with its job and its debug log."""

    job: Job
    invocation: Invocation
    log: str


def state_of(job: Job) -> JobState:
    """Return the state of a job as pages and clients show it."""
    return job.state


def get_jobs(context: Context, project: str = "") -> list[Job]:
    """Return the enabled jobs that the caller may see in one project or in all, sorted by ID.

    A project that does not exist has no jobs. Costs one read for each project and one for each of its jobs, in two
    calls. Jobs of projects in which the caller may see nothing are not read.
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
    """Return the revision of a project's active config and its visible jobs; both are empty for an unknown project.

    For a caller who does not see the whole project, each definition names only the visible jobs that it triggers.
    Costs one read for the project and one for each job.

    Raises:
        ApiError: INVALID_ARGUMENT: no project is named.
    """
    if not project:
        raise BadMemberError("project", "must name a project")
    found = context.runtime.store.project(project) if context.sees_some(project) else None
    if found is None:
        return "", []
    jobs = context.runtime.store.jobs(list(found.value.job_ids))
    visible = [job for job in jobs if job.enabled and context.may(Permission.GET, job)]
    if not context.sees_all(project):
        names = {job.id for job in visible}
        visible = [_without_others(job, names) for job in visible]
    return (found.value.revision if visible else ""), sorted(visible, key=lambda job: job.id)


def _without_others(job: Job, visible: Collection[JobId]) -> Job:
    """Return a job whose definition names only the visible jobs that it triggers."""
    named = tuple(job_id for job_id in job.definition.triggered_jobs if job_id in visible)
    return replace(job, definition=replace(job.definition, triggered_jobs=named))


def visible_targets(context: Context, job: Job) -> list[JobId]:
    """Return the jobs that a job triggers, if the caller may see them.

    Costs one read for each of them, or none if the caller sees the whole project.
    """
    named = job.definition.triggered_jobs
    if not named or context.sees_all(project_of(job.id)):
        return list(named)
    targets = context.runtime.store.jobs(named)
    return sorted(item.id for item in targets if item.enabled and context.may(Permission.GET, item))


def get_job(context: Context, job_id: JobId) -> Job:
    """Return a job; costs one read.

    Raises:
        NoSuchJobError: it does not exist or is not visible.
    """
    return context.visible_job(job_id)


def get_invocations(context: Context, job_id: JobId, cursor: str = "", page_size: int = 0) -> InvocationsPage:
    """Return a page of a job's invocations, newest first.

    An invocation is on one page only, even if others start or end between two calls. Costs one read for the job, one
    for each invocation on the page, and one for the first invocation after it.

    Args:
        context: the caller's context.
        job_id: the job.
        cursor: ``next_cursor`` of the previous page; empty for the first page.
        page_size: the number of invocations; 50 if it is not between 1 and 50.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        InvalidCursorError: the cursor is malformed; INTERNAL, as in the original.
    """
    context.visible_job(job_id)
    return invocations_page(context, job_id, cursor, page_size)


def invocations_page(
    context: Context, job_id: JobId, cursor: str = "", page_size: int = 0, status: Status | None = None
) -> InvocationsPage:
    """Return a page of the invocations of a job that is known to be visible, as `get_invocations` does.

    ``status`` selects invocations with this status. Costs one read for each invocation on the page, and one for the
    first invocation after it.

    Raises:
        InvalidCursorError: the cursor is malformed; INTERNAL, as in the original.
    """
    size = page_size if 0 < page_size <= MAX_PAGE else MAX_PAGE
    try:
        after = decode_cursor(cursor)
    except BadCursorError as error:
        raise InvalidCursorError(Code.INTERNAL, f"internal error: {error}") from error
    found = tuple(context.runtime.store.invocations(job_id, size + 1, after, status))
    page = found[:size]
    return InvocationsPage(page, encode_cursor(page[-1].id) if len(found) > size else "")


def get_invocation(context: Context, job_id: JobId, invocation_id: InvocationId) -> Invocation:
    """Return an invocation without its log; costs two reads.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        NoSuchInvocationError: the invocation does not exist.
    """
    context.visible_job(job_id)
    return context.invocation(job_id, invocation_id)


def get_invocation_log(context: Context, job_id: JobId, invocation_id: InvocationId) -> InvocationLog:
    """Return an invocation with its job, which may be removed, and its debug log; costs two reads.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        NoSuchInvocationError: the invocation does not exist.
    """
    job = context.known_job(job_id)
    found = context.runtime.store.invocation_with_log(job_id, invocation_id)
    if found is None:
        raise no_such_invocation()
    return InvocationLog(job, found[0].value, found[1])


def pause_job(context: Context, job_id: JobId, reason: str = "") -> bool:
    """Pause a job: discard its pending triggers and let active invocations finish. A paused job does not change.

    Returns:
        Whether the job changed.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        ApiError: PERMISSION_DENIED.
    """
    return _change(context, Permission.PAUSE, engine_pause, job_id, _reason(reason) or "paused through RPC API")


def resume_job(context: Context, job_id: JobId, reason: str = "") -> bool:
    """Resume a paused job; a job that is not paused does not change.

    Returns:
        Whether the job changed.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        ApiError: PERMISSION_DENIED.
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
    key = context.fresh_key()
    try:
        changed = change(context.runtime, job_id, context.caller, reason, key)
    except JobNotFoundError as error:  # removed after the permission check
        raise no_such_job() from error
    context.audit(permission, job_id=job_id, reason=reason, key=key)
    return changed


def abort_job(context: Context, job_id: JobId, reason: str = "") -> tuple[InvocationId, ...]:
    """Request the abort of all active invocations of a job, and return them; ``on_task`` performs it.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        ApiError: PERMISSION_DENIED.
    """
    job = context.job_to(Permission.ABORT, job_id)
    return _abort(context, job_id, job.active_invocations, _reason(reason))


def abort_invocation(
    context: Context, job_id: JobId, invocation_id: InvocationId, reason: str = ""
) -> tuple[InvocationId, ...]:
    """Request the abort of an invocation, and return it; a finished invocation does not change, and none is returned.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        NoSuchInvocationError: the invocation does not exist.
        ApiError: PERMISSION_DENIED.
    """
    context.job_to(Permission.ABORT, job_id)
    invocation = context.invocation(job_id, invocation_id)
    return _abort(context, job_id, () if invocation.status.is_final else (invocation_id,), _reason(reason))


def _abort(
    context: Context, job_id: JobId, invocation_ids: tuple[InvocationId, ...], reason: str
) -> tuple[InvocationId, ...]:
    now = context.runtime.clock.now()
    works = [abort_work(job_id, item, context.caller, reason, now) for item in invocation_ids]
    defer_all(context.runtime, works)
    names = [str(item) for item in invocation_ids]
    context.audit(Permission.ABORT, job_id=job_id, invocation_ids=names, reason=reason)
    return invocation_ids


def _reason(text: str) -> str:
    """Return a reason as it is stored: one line of bounded length."""
    return " ".join(text.split())[:_MAX_REASON]
