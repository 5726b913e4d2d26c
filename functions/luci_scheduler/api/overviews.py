"""Reads for the lists of projects and jobs, and for the page of a job.

Pages and the command read lists only through these functions. Each one has a bounded number of reads for any number
of jobs, and checks the caller's permission before it reads anything that the permission protects. A caller who sees
only some realms of a project gets the rows and the numbers of these realms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context
from luci_scheduler.api.service import MAX_PAGE, InvocationsPage, invocations_page, visible_targets
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of
from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job, JobState
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.project_record import JOB_LAYOUT, ProjectRecord
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.managers.task_kind import PolledRepo
from luci_scheduler.ports import JobList

__all__ = [
    "FILTERS",
    "MAX_COUNT",
    "MAX_LISTED_PENDING",
    "JobDetails",
    "JobFilter",
    "JobOverview",
    "JobsPage",
    "ProjectOverview",
    "ProjectSummary",
    "get_job_overview",
    "get_project_overview",
    "get_project_summaries",
    "is_job_unchanged",
    "is_project_unchanged",
    "visible_sources",
]

MAX_COUNT = 1000
"""The largest number that a count returns: it stands for this number or more. A count up to it costs one read."""
MAX_LISTED_PENDING = 50
"""The number of pending triggers in an overview, at most."""

_MAX_UPSTREAM = 10  # jobs that trigger a job; most jobs have one
_LASTS = 5 * MINUTE  # an unchanged page is shown this long before its relative times are renewed
_LASTS_ACTIVE = MINUTE

T = TypeVar("T")


@frozen
class JobFilter:
    """A condition on the jobs of a list; the default is no condition."""

    state: JobState | None = None
    failing: bool = False

    def list_of(self, project: str, realms: tuple[str, ...] | None) -> JobList:
        """Return the list of a project's jobs that meet the condition."""
        return JobList(project, realms, self.state, self.failing)


FILTERS: Mapping[str, JobFilter] = MappingProxyType(
    {
        "failing": JobFilter(failing=True),
        "running": JobFilter(JobState.RUNNING),
        "scheduled": JobFilter(JobState.SCHEDULED),
        "waiting": JobFilter(JobState.WAITING),
        "paused": JobFilter(JobState.PAUSED),
    }
)
"""Name of a filter → the condition."""

_COUNTED = ("failing", "running", "paused")
"""The filters whose jobs are counted."""


@frozen
class ProjectSummary:
    """A project in the list of projects."""

    project: str
    jobs: int
    """The number of visible jobs."""
    counts: Mapping[str, int]
    """Filter → the number of visible jobs that pass it, at most `MAX_COUNT`."""
    has_problems: bool
    """Whether a newer config is not active because it is not valid."""
    is_complete: bool
    """False while the jobs that an older release stored are not yet listed and counted."""


@frozen
class JobsPage:
    """A part of a list of jobs: failing jobs first, then the other jobs, then the jobs that poll; each by name."""

    jobs: tuple[Job, ...]
    next_cursor: str
    """The cursor of the next part; empty for the last part."""
    version: str
    """Changes with every change of these jobs and of the project's config (see `is_project_unchanged`)."""


@frozen
class ProjectOverview:
    """A part of a project's visible jobs, and the state of its config."""

    summary: ProjectSummary
    page: JobsPage
    revision: str
    """The revision of the active config; empty if no config has been active yet."""
    revision_url: str
    repos: tuple[str, ...]
    """The repositories (normalized URLs) that its jobs watch. Not for display: only hidden jobs may watch some."""
    warning_count: int
    shows_texts: bool
    """Whether `problems` and `warnings` hold the texts.

    The texts quote the config and may name hidden jobs, so only a caller who sees the whole project gets them.
    """
    problems: tuple[str, ...]
    has_warnings: bool
    warnings: tuple[str, ...]


@frozen
class JobDetails:
    """The documents of a job that only the first page of its history shows."""

    pending: tuple[Trigger, ...]
    """The oldest pending triggers."""
    has_more_pending: bool
    triage_log: str
    targets: tuple[JobId, ...]
    """The visible jobs that this job triggers."""
    sources: tuple[Job, ...]
    """The visible jobs that trigger this job."""
    polled: PolledRepo | None
    """The repository that the job polls; None for a job that does not poll."""
    poller: PollerRecord | None
    """The state of the polls; None before the first poll, and for a job that does not poll."""


@frozen
class JobOverview:
    """A job and one page of its history."""

    job: Job
    page: InvocationsPage
    unlisted: tuple[Invocation, ...]
    """On the first page: the active invocations that started before every invocation of `page`."""
    failed: int
    """The number of failed invocations in the store, at most `MAX_COUNT`."""
    details: JobDetails | None
    """None on every page but the first, and for a removed job."""
    version: str
    """Changes with the job and its active invocations (see `is_job_unchanged`)."""

    @property
    def active(self) -> tuple[Invocation, ...]:
        """The invocations that have not ended, newest first, read at one time with the page."""
        listed = (item for item in self.page.invocations if not item.status.is_final)
        return tuple(sorted((*self.unlisted, *listed), key=lambda item: item.id))


def get_project_summaries(context: Context) -> list[ProjectSummary]:
    """Return the projects in which the caller sees a job or the problems of a config, sorted by name.

    Costs one read for each project, three counts for each project in which the caller may see jobs, and a fourth one
    unless the caller sees the whole project.
    """
    if not context.sees_some():
        return []
    records = [record for record in context.runtime.store.projects() if context.sees_some(record.id)]
    found = _at_once(context, [partial(_summary, context, record) for record in records])
    return [summary for summary in found if _is_shown(summary)]


def _is_shown(summary: ProjectSummary) -> bool:
    return summary.jobs > 0 or summary.has_problems


def _summary(context: Context, record: ProjectRecord) -> ProjectSummary:
    realms = context.realms(record.id)
    jobs = len(record.job_ids) if realms is None else _count(context, JobList(record.id, realms))
    counts = {name: _count(context, FILTERS[name].list_of(record.id, realms)) for name in _COUNTED} if jobs else {}
    return ProjectSummary(
        project=record.id,
        jobs=jobs,
        counts={name: counts.get(name, 0) for name in _COUNTED},
        # Only callers who see the whole project may learn of a project without visible jobs.
        has_problems=bool(record.problems) and (jobs > 0 or realms is None),
        is_complete=record.job_layout == JOB_LAYOUT,
    )


def _count(context: Context, wanted: JobList) -> int:
    return context.runtime.store.count_jobs(wanted, MAX_COUNT)


def get_project_overview(
    context: Context, project: str, wanted: str = "", cursor: str = "", size: int = MAX_PAGE
) -> ProjectOverview | None:
    """Return a part of a project's jobs, or None if the caller sees neither jobs nor problems of the project.

    Costs one read for the project, up to four counts, and up to 51 reads for jobs: at most 56.

    Args:
        context: the caller's context.
        project: its name.
        wanted: the name of a filter; any other text selects all jobs.
        cursor: ``next_cursor`` of the previous part; empty for the first part.
        size: the largest number of jobs, at most 50.
    """
    found = context.runtime.store.project(project) if context.sees_some(project) else None
    if found is None:
        return None
    record, shows_texts = found.value, context.sees_all(project)
    summary = _summary(context, record)
    if not _is_shown(summary):
        return None
    return ProjectOverview(
        summary=summary,
        page=_jobs_page(context, record, FILTERS.get(wanted, JobFilter()), cursor, size),
        revision=record.revision,
        revision_url=record.revision_url,
        repos=record.repos,
        warning_count=record.warning_count,
        shows_texts=shows_texts,
        problems=tuple(record.problems) if shows_texts else (),
        has_warnings=bool(record.warnings),
        warnings=tuple(record.warnings) if shows_texts else (),
    )


def _jobs_page(context: Context, record: ProjectRecord, wanted: JobFilter, cursor: str, size: int) -> JobsPage:
    listed = wanted.list_of(record.id, context.realms(record.id))
    found = list(context.runtime.store.listed_jobs(listed, size + 1, cursor))
    jobs = [job for job in found[:size] if job.enabled and context.may(Permission.GET, job)]
    following = found[size - 1].place if len(found) > size else ""
    now = context.runtime.clock.now()
    version = _version(now, _LASTS, record.commits, sum(job.commits for job in jobs), following)
    return JobsPage(tuple(jobs), following, version)


def is_project_unchanged(context: Context, project: str, wanted: str, cursor: str, version: str) -> bool:
    """Return whether a part of a project's jobs still has this ``JobsPage.version``; at most two reads.

    The numbers of jobs in other parts may have changed. Every version is out of date after five minutes.
    """
    last = _last_part(version)
    found = context.runtime.store.project(project) if context.sees_some(project) else None
    if found is None:
        return False
    listed = FILTERS.get(wanted, JobFilter()).list_of(project, context.realms(project))
    commits = context.runtime.store.count_job_commits(listed, cursor, last)
    return version == _version(context.runtime.clock.now(), _LASTS, found.value.commits, commits, last)


def _version(now: Instant, lasts: int, *parts: int | str) -> str:
    return ".".join(str(part) for part in (now // lasts, *parts))


def _last_part(version: str) -> str:
    """Return the last part of a version, which may contain dots itself; empty if there is none."""
    parts = version.split(".", maxsplit=3)
    return parts[3] if len(parts) == 4 else ""  # noqa: PLR2004 - time, two numbers, place


def _at_once(context: Context, reads: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of independent reads, in their order."""
    if not reads:
        return []
    with ThreadPoolExecutor(context.runtime.limits.concurrency, thread_name_prefix="list") as pool:
        # The copied context carries the request's time budget into the threads.
        futures = [pool.submit(copy_context().run, read) for read in reads]
        return [future.result() for future in futures]


def get_job_overview(context: Context, job_id: JobId, cursor: str = "", status: Status | None = None) -> JobOverview:
    """Return a job and one page of its history. The history of a job that no config defines any more stays readable.

    Costs one read for the job, up to 51 for invocations, and one count. The first page without a ``status`` also costs
    one read for each unlisted active invocation, up to 51 for pending triggers, one for the triage log, one for the
    poller, up to 10 for jobs that trigger this job, and one for each triggered job unless the caller sees the whole
    project.

    Args:
        context: the caller's context.
        job_id: the job.
        cursor: ``next_cursor`` of the previous page; empty for the first page.
        status: only invocations with this status; None: all.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        InvalidCursorError: the cursor is malformed.
    """
    job = context.known_job(job_id)
    page = invocations_page(context, job_id, cursor, status=status)
    failed = context.runtime.store.count_invocations(job_id, Status.FAILED, MAX_COUNT)
    if cursor or status:
        return JobOverview(job, page, (), failed, None, "")
    unlisted = _unlisted(context, job, page)
    details = _details(context, job) if job.enabled else None
    version = _job_version(context, job, _active_of(job, [*unlisted, *page.invocations]))
    return JobOverview(job, page, unlisted, failed, details, version)


def is_job_unchanged(context: Context, job_id: JobId, version: str) -> bool:
    """Return whether the first page of a job's history still has this ``JobOverview.version``.

    Costs one read, and one for each active invocation. Every version is out of date after five minutes, and after one
    minute if the job has active invocations, whose new pending triggers a version does not show.
    """
    job = context.known_job(job_id)
    active = _invocations(context, job, job.active_invocations)
    return version == _job_version(context, job, active)


def _active_of(job: Job, invocations: Sequence[Invocation]) -> list[Invocation]:
    return [item for item in invocations if item.id in job.active_invocations]


def _job_version(context: Context, job: Job, active: Sequence[Invocation]) -> str:
    lasts = _LASTS_ACTIVE if job.active_invocations or job.triggers_wait else _LASTS
    return _version(context.runtime.clock.now(), lasts, job.commits, sum(item.commits for item in active))


def _unlisted(context: Context, job: Job, page: InvocationsPage) -> tuple[Invocation, ...]:
    listed = {item.id for item in page.invocations}
    return _invocations(context, job, [item for item in job.active_invocations if item not in listed])


def _invocations(context: Context, job: Job, ids: Sequence[InvocationId]) -> tuple[Invocation, ...]:
    return tuple(context.runtime.store.invocations_by_id([(job.id, item) for item in ids])) if ids else ()


def _details(context: Context, job: Job) -> JobDetails:
    store = context.runtime.store
    pending = [item.value.trigger for item in store.pending_triggers(job.id, MAX_LISTED_PENDING + 1)]
    triage_log = store.triage_log(job.id)
    targets = tuple(visible_targets(context, job))
    polled = kind_of(job.definition.task).polled_repo(job.definition.task)
    poller = store.poller(job.id) if polled else None
    return JobDetails(
        pending=tuple(pending[:MAX_LISTED_PENDING]),
        has_more_pending=len(pending) > MAX_LISTED_PENDING,
        triage_log=triage_log,
        targets=targets,
        sources=visible_sources(context, job),
        polled=polled,
        poller=poller.value if poller else None,
    )


def visible_sources(context: Context, job: Job) -> tuple[Job, ...]:
    """Return the jobs that trigger a job, if the caller may see them: at most ten; costs one read for each."""
    found = context.runtime.store.jobs_that_trigger(job.id, _MAX_UPSTREAM)
    is_here = [item for item in found if item.enabled and project_of(item.id) == project_of(job.id)]
    return tuple(item for item in is_here if context.may(Permission.GET, item))
