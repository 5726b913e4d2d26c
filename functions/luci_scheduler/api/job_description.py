"""A job as the command shows it: its task, the jobs that trigger it, pending triggers, next run and latest results."""

from __future__ import annotations

from luci_scheduler.api.context import Context
from luci_scheduler.api.history import Described, describe_all
from luci_scheduler.api.overviews import visible_sources
from luci_scheduler.api.service import visible_targets
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import Job
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.schedule import DISTANT_FUTURE
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.managers.registry import kind_of

__all__ = ["MAX_PENDING_SHOWN", "JobDescription", "describe_job"]

MAX_PENDING_SHOWN = 10
"""Pending triggers in a description: the oldest ones."""

_LATEST = 10  # invocations in a description


@frozen
class JobDescription:
    """A job with everything that a person asks about it first."""

    job: Job
    targets: tuple[JobId, ...]
    """The visible jobs that it triggers."""
    sources: tuple[JobId, ...]
    """The visible jobs that trigger it."""
    next_run: Instant | None
    """When its schedule fires next; None if it does not."""
    last_poll: Instant | None
    """When its last poll ended; None before it, and for a job that does not poll."""
    pending: tuple[Trigger, ...]
    has_more_pending: bool
    poller: PollerRecord | None
    """The state of its polls; None before the first poll, and for a job that does not poll."""
    invocations: tuple[Described, ...]
    """The latest invocations, newest first."""


def describe_job(context: Context, job_id: JobId) -> JobDescription:
    """Return a job with its state.

    Costs one read for the job, up to 10 for invocations and up to 11 for pending triggers, one for the poller, up to 10
    for jobs that trigger it, one for each triggered job unless the caller sees the whole project, and what
    `commit_titles` costs.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
    """
    job, store = context.visible_job(job_id), context.runtime.store
    pending = [item.value.trigger for item in store.pending_triggers(job.id, MAX_PENDING_SHOWN + 1)]
    polls = kind_of(job.definition.task).polled_repo(job.definition.task) is not None
    poller = store.poller(job.id) if polls else None
    latest = store.invocations(job.id, _LATEST)
    tick = job.cron.last_tick_when
    return JobDescription(
        job=job,
        targets=tuple(visible_targets(context, job)),
        sources=tuple(item.id for item in visible_sources(context, job)),
        next_run=None if job.paused or tick in (None, DISTANT_FUTURE) else tick,
        last_poll=_last_poll(job) if polls else None,
        pending=tuple(pending[:MAX_PENDING_SHOWN]),
        has_more_pending=len(pending) > MAX_PENDING_SHOWN,
        poller=poller.value if poller else None,
        invocations=tuple(describe_all(context, latest)),
    )


def _last_poll(job: Job) -> Instant | None:
    ends = [item.finished for item in job.recent[:1]] + [item for item in [job.last_poll] if item is not None]
    return max(ends, default=None)
