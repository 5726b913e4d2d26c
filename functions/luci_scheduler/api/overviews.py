"""Reads for the pages of a project and of a job.

Pages read the store only through the service layer. Each function here checks the caller's permission before it reads
anything that the permission protects.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

from luci_scheduler.api.context import Context
from luci_scheduler.api.service import InvocationsPage, get_invocations, get_jobs, visible_targets
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.managers.task_kind import PolledRepo

__all__ = [
    "MAX_LISTED_PENDING",
    "JobDetails",
    "JobOverview",
    "ProjectOverview",
    "get_job_overview",
    "get_project_overview",
    "latest_invocations",
]

MAX_LISTED_PENDING = 50
"""The number of pending triggers in an overview, at most."""


@dataclass(frozen=True, slots=True)
class ProjectOverview:
    """A project's visible jobs and the state of its config."""

    jobs: tuple[Job, ...]
    revision: str
    """The revision of the active config; empty if no config has been active yet."""
    revision_url: str
    has_problems: bool
    """Whether a newer config is not active because it is not valid."""
    warning_count: int
    shows_texts: bool
    """Whether `problems` and `warnings` hold the texts.

    The texts quote the config and may name hidden jobs, so only a caller who sees the whole project gets them.
    """
    problems: tuple[str, ...]
    has_warnings: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobDetails:
    """The documents of a job that only the first page of its history shows."""

    pending: tuple[Trigger, ...]
    """The oldest pending triggers."""
    has_more_pending: bool
    triage_log: str
    targets: tuple[JobId, ...]
    """The visible jobs that this job triggers."""
    polled: PolledRepo | None
    """The repository that the job polls; None for a job that does not poll."""
    poller: PollerRecord | None
    """The state of the polls; None before the first poll, and for a job that does not poll."""


@dataclass(frozen=True, slots=True)
class JobOverview:
    """A job and one page of its history."""

    job: Job
    page: InvocationsPage
    unlisted: tuple[Invocation, ...]
    """On the first page: the active invocations that started before every invocation of `page`."""
    details: JobDetails | None
    """None on every page but the first."""


def get_project_overview(context: Context, project: str) -> ProjectOverview | None:
    """Return the overview of a project, or None if it does not exist or the caller sees none of its jobs.

    Costs two reads for the project and one for each of its jobs.
    """
    jobs = get_jobs(context, project)
    # Without a visible job nothing else is read, so a hidden project costs as much as a missing one.
    found = context.runtime.store.project(project) if jobs else None
    if found is None:
        return None
    record, shows_texts = found.value, context.sees_all(project)
    return ProjectOverview(
        jobs=tuple(jobs),
        revision=record.revision,
        revision_url=record.revision_url,
        has_problems=bool(record.problems),
        warning_count=record.warning_count,
        shows_texts=shows_texts,
        problems=tuple(record.problems) if shows_texts else (),
        has_warnings=bool(record.warnings),
        warnings=tuple(record.warnings) if shows_texts else (),
    )


def latest_invocations(context: Context, jobs: Sequence[Job], limit: int) -> list[list[Invocation]]:
    """Return the latest invocations of each job, newest first, read in parallel.

    Costs one read for each invocation, and one for a job without any.

    Raises:
        NoSuchJobError: the caller may not see one of the jobs.
    """
    context.require_visible(jobs)

    def latest(job: Job) -> list[Invocation]:
        return list(context.runtime.store.invocations(job.id, limit))

    if not jobs:
        return []
    with ThreadPoolExecutor(context.runtime.limits.concurrency, thread_name_prefix="trend") as pool:
        # The copied context carries the request's time budget into the threads.
        futures = [pool.submit(copy_context().run, latest, job) for job in jobs]
        return [future.result() for future in futures]


def get_job_overview(context: Context, job_id: JobId, cursor: str = "") -> JobOverview:
    """Return a job and one page of its history.

    Costs two reads for the job and up to 51 for invocations. The first page, whose cursor is empty, also costs one read
    for each unlisted active invocation, up to 51 for pending triggers, one for the triage log, one for the poller, and
    one for each triggered job unless the caller sees the whole project.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        InvalidCursorError: the cursor is malformed.
    """
    job = context.visible_job(job_id)
    page = get_invocations(context, job_id, cursor)
    if cursor:
        return JobOverview(job, page, unlisted=(), details=None)
    return JobOverview(job, page, _unlisted(context, job, page), _details(context, job))


def _unlisted(context: Context, job: Job, page: InvocationsPage) -> tuple[Invocation, ...]:
    listed = {item.id for item in page.invocations}
    keys = [(job.id, item) for item in job.active_invocations if item not in listed]
    return tuple(context.runtime.store.invocations_by_id(keys)) if keys else ()


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
        polled=polled,
        poller=poller.value if poller else None,
    )
