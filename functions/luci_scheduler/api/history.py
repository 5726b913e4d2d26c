"""Invocations and jobs with commit, cause and result, as the command lists them."""

from __future__ import annotations

from collections.abc import Sequence

from luci_scheduler.api.causes import Cause, CommitRef, cause_of, commit_of, result_cause, result_commit
from luci_scheduler.api.commit_titles import Titles, titles_of
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import InvalidCursorError, invalid
from luci_scheduler.api.overviews import FILTERS, get_project_overview
from luci_scheduler.api.service import MAX_PAGE, invocations_page
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import PROJECT_NAME, InvocationId, JobId
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job, Result
from luci_scheduler.ports import GitCommit

__all__ = [
    "Described",
    "HistoryPage",
    "JobsPage",
    "ListedJob",
    "describe_all",
    "describe_invocation",
    "get_history",
    "list_jobs",
]


@frozen
class Described:
    """An invocation with its newest commit and its cause."""

    invocation: Invocation
    commit: CommitRef | None
    """The newest commit of its triggers; None without one."""
    title: GitCommit | None
    """Subject and author of the commit; None if they are not known quickly."""
    cause: Cause


@frozen
class HistoryPage:
    """A page of a job's history, newest first."""

    invocations: tuple[Described, ...]
    next_cursor: str
    """The cursor of the next page; empty at the end of the history."""


@frozen
class ListedJob:
    """A job with its latest result, which its document keeps."""

    job: Job
    result: Result | None
    """The invocation that ended last; None before the first end."""
    commit: CommitRef | None
    title: GitCommit | None
    cause: Cause | None


@frozen
class JobsPage:
    """A part of a project's jobs: failing jobs first, then the others by name, then the jobs that poll."""

    jobs: tuple[ListedJob, ...]
    next_cursor: str


def get_history(context: Context, job_id: JobId, status: str = "", cursor: str = "", page_size: int = 0) -> HistoryPage:
    """Return a page of a job's invocations with their commits, newest first.

    Costs one read for the job, one for each invocation on the page, one for the first invocation after it, and what
    `commit_titles` costs.

    Args:
        context: the caller's context.
        job_id: the job; the history of a removed job stays readable.
        status: only invocations with this status; empty: all.
        cursor: ``next_cursor`` of the previous page; empty for the first page.
        page_size: the number of invocations; 50 if it is not between 1 and 50.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        ApiError: INVALID_ARGUMENT: the status or the cursor is unknown.
    """
    if status and status not in set(Status):
        raise invalid(f"status must be one of {', '.join(Status)}")
    context.known_job(job_id)
    try:
        page = invocations_page(context, job_id, cursor, page_size, Status(status) if status else None)
    except InvalidCursorError as error:
        raise invalid("cursor must be next_cursor of the previous page") from error
    return HistoryPage(tuple(describe_all(context, page.invocations)), page.next_cursor)


def describe_invocation(context: Context, job_id: JobId, invocation_id: InvocationId) -> Described:
    """Return an invocation with its commit and cause; costs two reads, and what `commit_titles` costs.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        NoSuchInvocationError: the invocation does not exist.
    """
    context.known_job(job_id)
    (found,) = describe_all(context, [context.invocation(job_id, invocation_id)])
    return found


def describe_all(context: Context, invocations: Sequence[Invocation]) -> list[Described]:
    """Return invocations of visible jobs with their commits and causes; costs what `commit_titles` costs."""
    commits = [commit_of(item) for item in invocations]
    titles = titles_of(context, commits)
    pairs = zip(invocations, commits, strict=True)
    return [Described(item, commit, _title(titles, commit), cause_of(context, item)) for item, commit in pairs]


def list_jobs(
    context: Context, project: str, wanted: str = "", cursor: str = "", page_size: int = 0
) -> JobsPage | None:
    """Return a part of a project's visible jobs with their latest results; None without a visible job.

    Costs at most 56 reads for any number of jobs, and what `commit_titles` costs.

    Args:
        context: the caller's context.
        project: its name.
        wanted: the name of a filter (`overviews.FILTERS`); empty: all jobs.
        cursor: ``next_cursor`` of the previous part; empty for the first part.
        page_size: the number of jobs; 50 if it is not between 1 and 50.

    Raises:
        ApiError: INVALID_ARGUMENT: there is no such filter.
    """
    if wanted and wanted not in FILTERS:
        raise invalid(f"filter must be one of {', '.join(FILTERS)}")
    size = page_size if 0 < page_size <= MAX_PAGE else MAX_PAGE
    is_name = PROJECT_NAME.fullmatch(project) is not None
    found = get_project_overview(context, project, wanted, cursor, size) if is_name else None
    if found is None:
        return None
    results = [job.recent[0] if job.recent else None for job in found.page.jobs]
    titles = titles_of(context, [result_commit(item) for item in results if item], found.repos)
    pairs = zip(found.page.jobs, results, strict=True)
    return JobsPage(tuple(_listed(job, result, titles) for job, result in pairs), found.page.next_cursor)


def _listed(job: Job, result: Result | None, titles: Titles) -> ListedJob:
    commit = result_commit(result) if result else None
    return ListedJob(job, result, commit, _title(titles, commit), result_cause(job, result) if result else None)


def _title(titles: Titles, commit: CommitRef | None) -> GitCommit | None:
    return titles.get((commit.repo, commit.revision)) if commit else None
