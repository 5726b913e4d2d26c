"""Explanations of the outcome of a commit: the reasons, and the records that hold them."""

from __future__ import annotations

from enum import StrEnum

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import NO_INVOCATION, InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import Job
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.ports import GitCommit

__all__ = [
    "CommitFacts",
    "CommitQuery",
    "ExplainedCommit",
    "Explanation",
    "Origin",
    "Reason",
    "WatchingJob",
    "paused_by",
]


class Reason(StrEnum):
    """The outcome of a commit in a job."""

    INVOCATION = "INVOCATION"
    BATCHED = "BATCHED"
    PENDING = "PENDING"
    WAITING_FOR_INVOCATION = "WAITING_FOR_INVOCATION"
    SLOT_LIMIT = "SLOT_LIMIT"
    DISCARDED_BY_AGE = "DISCARDED_BY_AGE"
    DISCARDED_AS_SURPLUS = "DISCARDED_AS_SURPLUS"
    DISCARDED = "DISCARDED"
    JOB_PAUSED = "JOB_PAUSED"
    JOB_DISABLED = "JOB_DISABLED"
    PATH_FILTERED = "PATH_FILTERED"
    PATTERNS_TOO_COSTLY = "PATTERNS_TOO_COSTLY"
    REF_NOT_WATCHED = "REF_NOT_WATCHED"
    TRIGGER_PAUSED = "TRIGGER_PAUSED"
    WAITING_FOR_COMMIT = "WAITING_FOR_COMMIT"
    NOT_SERVED = "NOT_SERVED"
    NOT_ON_REF = "NOT_ON_REF"
    NOT_POLLED = "NOT_POLLED"
    POLL_FAILED = "POLL_FAILED"
    TAG_EXISTED = "TAG_EXISTED"
    NEVER_ARRIVED = "NEVER_ARRIVED"


class Origin(StrEnum):
    """The origin of the trigger that an explanation is about."""

    COMMIT = ""
    """The commit itself: its event, or the poll that found it."""
    RERUN = "RERUN"
    """A user ran an invocation again."""
    BACKFILL = "BACKFILL"
    """A user ran a range of commits."""
    EMITTED = "EMITTED"
    """A client emitted the trigger over the API, with an ID that the client chose."""


@frozen
class Explanation:
    """The outcome of a commit in one job, or of a trigger that a user requested for that commit."""

    job_id: JobId
    reason: Reason
    sentence: str
    """The reason as a sentence."""
    ref: str = ""
    """The ref of the trigger; empty if there is no trigger."""
    trigger_id: str = ""
    invocation_id: InvocationId = NO_INVOCATION
    """The invocation that took the trigger; 0 if there is none."""
    status: str = ""
    """The status of that invocation; empty if it is no longer stored."""
    summary: str = ""
    """Why that invocation failed, or the words of its build, in one line; empty if there are none."""
    started: Instant | None = None
    finished: Instant | None = None
    """When that invocation ended; None while it is active."""
    since: Instant | None = None
    """When a pending trigger arrived, or when a discarded trigger was discarded."""
    waiting_for: tuple[InvocationId, ...] = ()
    """The invocations that occupy the job's slots."""
    origin: Origin = Origin.COMMIT
    asked_by: str = ""
    """The user who requested the trigger, such as ``user:<e-mail>``; empty for the commit itself."""
    poll_job: JobId | None = None
    """The gitiles job whose polls decide; None if they are not the reason, or the caller may not see it."""
    poll_invocation: InvocationId = NO_INVOCATION
    """Its poll that failed or is running; 0 if there is none."""
    next_poll: Instant | None = None
    """When it polls next; None if that is not known."""


@frozen
class CommitFacts:
    """The commit itself, as its repository's host describes it."""

    revision: str
    """The full hash; empty if no visible job watches the repository."""
    commit: GitCommit | None = None
    """The commit with its changed files; None if the host does not return it, or the caller may not read it here."""
    problem: str = ""
    """Why the host did not return it."""

    @property
    def note(self) -> str:
        """How path filters treat the commit, if its host does not list all its changes; else empty."""
        if self.commit is None or not self.commit.diff_cut:
            return ""
        return (
            f"The repository's host lists only {len(self.commit.diff)} of its changes. "
            "Any path may be among the others, so the commit passes every path filter."
        )


@frozen
class ExplainedCommit:
    """The answer to the question why a commit did or did not run."""

    facts: CommitFacts
    repo: str = ""
    """The repository in the spelling of a config; empty if no visible job watches it."""
    explanations: tuple[Explanation, ...] = ()
    """Sorted by job; the commit's own outcome first, then requested triggers, oldest first."""


@frozen
class WatchingJob:
    """A job and all the ways in which it watches a repository."""

    job: Job
    watchers: tuple[Watcher, ...]


@frozen
class CommitQuery:
    """The commit to explain; an empty ref means all refs."""

    repo: RepoUrl
    revision: str
    ref: str


def paused_by(job: Job, at: Instant | None = None) -> str:
    """Return who paused a job and why, as the end of a sentence.

    Empty if the job is not paused, or was paused after ``at``: nothing is stored about earlier pauses.
    """
    began = job.changed_when
    if not job.paused or not job.changed_by or (at is not None and began is not None and began > at):
        return ""
    return f" by {job.changed_by.removeprefix('user:')} ({job.change_reason})"
