"""Jobs: their definitions in the config, and the state that the scheduler keeps of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from luci_scheduler.core.cron_machine import CronState
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import DAY, Instant
from luci_scheduler.core.schedule import DISTANT_FUTURE

__all__ = [
    "FAILING_PLACES",
    "MAX_PENDING",
    "MAX_RECENT",
    "MAX_RESULT_REVISIONS",
    "Flavor",
    "Job",
    "JobDefinition",
    "JobState",
    "Result",
    "Status",
    "TaskDefinition",
    "TriggeringPolicy",
    "public_state",
]

FAILING_PLACES = ("0", "1")
"""Failing jobs have a `Job.place` between these two."""
MAX_PENDING = 1000
"""The maximum number of pending triggers of a job (the original's limit). Above it, the oldest are discarded."""
MAX_RECENT = 10
"""The number of results that a job's document keeps: enough for a list of jobs, and to recognize a first failure."""
MAX_RESULT_REVISIONS = 10
"""The number of commits that a result names. A batch may have a thousand; the invocation has them all."""


class Status(StrEnum):
    """States of an invocation, as LUCI spells them."""

    STARTING = "STARTING"
    RETRYING = "RETRYING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    OVERRUN = "OVERRUN"  # unused for years, but legal and colored; old records may have it
    ABORTED = "ABORTED"

    @property
    def is_initial(self) -> bool:
        """Whether no launch has succeeded yet."""
        return self in (Status.STARTING, Status.RETRYING)

    @property
    def is_final(self) -> bool:
        """Whether the invocation has ended; its status never changes again."""
        return self in (Status.SUCCEEDED, Status.FAILED, Status.OVERRUN, Status.ABORTED)


@frozen
class TaskDefinition:
    """The task of a job's invocations: a task kind and its fields as in ``luci-scheduler.cfg``.

    Everything else about a kind is in its ``managers.task_kind.TaskKind``.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@frozen
class TriggeringPolicy:
    """How pending triggers become invocations. The default values are the original's."""

    kind: str = "GREEDY_BATCHING"
    """The ``kind`` of a policy in ``core.policy.registry``. A newer version of the functions may store others."""
    max_concurrent_invocations: int = 1
    max_batch_size: int = 1000
    """For batching kinds: the maximum number of triggers that become one invocation."""
    log_base: float = 0.0
    """For LOGARITHMIC_BATCHING, which requires it: at least 1.0001."""
    pending_timeout: int = 7 * DAY
    """For NEWEST_FIRST, in nanoseconds: a trigger that has been pending this long is discarded."""


class JobState(StrEnum):
    """The state of a job as people and API clients see it, in LUCI's spelling."""

    RUNNING = "RUNNING"
    DISABLED = "DISABLED"
    PAUSED = "PAUSED"
    SCHEDULED = "SCHEDULED"
    WAITING = "WAITING"


def public_state(*, active_invocations: int, enabled: bool, paused: bool, next_tick: Instant | None) -> JobState:
    """Return the state of a job. Running invocations outweigh all else.

    Args:
        active_invocations: the number of its invocations that are not final.
        enabled: whether the config defines and enables it.
        paused: whether a person paused it.
        next_tick: when its cron machine expects a tick; None if it expects none.
    """
    if active_invocations:
        return JobState.RUNNING
    if not enabled:
        return JobState.DISABLED
    if paused:
        return JobState.PAUSED
    # A `triggered` job expects a tick in the distant future, which is not a planned run.
    return JobState.WAITING if next_tick in (None, DISTANT_FUTURE) else JobState.SCHEDULED


class Flavor(StrEnum):
    """The sort of a job, as pages show it."""

    PERIODIC = "periodic"
    TRIGGERED = "triggered"
    TRIGGER = "trigger"


@frozen
class JobDefinition:
    """A job as its project's config defines it; plain data, replaced as a whole when the config changes it."""

    task: TaskDefinition
    schedule: str = "triggered"
    flavor: Flavor = Flavor.TRIGGERED
    realm: str = "@legacy"
    policy: TriggeringPolicy = field(default_factory=TriggeringPolicy)
    triggered_jobs: tuple[JobId, ...] = ()
    """The jobs that this job triggers, sorted."""
    revision: str = ""
    """The config revision of the last real change of this definition."""
    revision_url: str = ""
    max_pending: int = MAX_PENDING
    """The limit of pending triggers of the job: its share of the project's limit, at most the original's limit."""


@frozen
class Result:
    """The end of an invocation, as its job's document keeps it: lists show it without a read of the invocation."""

    invocation_id: InvocationId
    status: Status
    started: Instant
    finished: Instant
    triggered_by: str = ""
    """The identity that triggered it; empty for the engine."""
    revisions: tuple[str, ...] = ()
    """The commits of its triggers, newest first, at most `MAX_RESULT_REVISIONS`."""
    repo: str = ""
    """The repository of the newest commit, as its trigger spells it; empty without a commit."""
    ref: str = ""
    """The ref of the newest commit."""
    view_url: str = ""
    """The page of its build; empty without a build."""
    summary: str = ""
    """The reason of a failure in one short line; empty if it is not known."""
    commit_count: int = 0
    """The number of its commits, of which ``revisions`` has the newest."""


@frozen
class Job:
    """A job's record. Pending triggers are separate documents; ``triggers_wait`` says only that some may exist."""

    id: JobId
    definition: JobDefinition
    enabled: bool = True
    paused: bool = False
    changed_by: str = ""
    """The identity that paused or resumed it last; empty if it never was."""
    changed_when: Instant | None = None
    change_reason: str = ""
    """The reason, as the caller stated it when it paused or resumed the job."""
    cron: CronState = field(default_factory=CronState)
    tick_at: Instant | None = None
    """When the queue delivers the awaited tick, or a link of the chain to a distant tick; None without one."""
    triage_due: Instant | None = None
    """When a triage was requested that has not run yet (see `core.triage`); None without a request."""
    last_triage: Instant | None = None
    """When the last triage decided; the same commit stores its log."""
    triaged_revision: str = ""
    """The config revision of the definition that the last triage used."""
    last_poll: Instant | None = None
    """When a gitiles job last polled and found nothing new; such a poll leaves no invocation."""
    failed_polls: int = 0
    """How many polls of a gitiles job have failed since its last successful poll; an aborted poll counts as neither.

    Invocations do not show this number: they expire, and a successful poll that finds nothing new leaves none."""
    active_invocations: tuple[InvocationId, ...] = ()
    """Invocations without a final status, in the order of their creation."""
    recent: tuple[Result, ...] = ()
    """The latest results, at most `MAX_RECENT`; the invocation that ended last comes first.

    The commit that ends an invocation adds its result. A poll that finds nothing new leaves no invocation, so it leaves
    no result either. Functions before this member leave none."""
    triggers_wait: bool = False
    """Whether pending triggers may exist; cleared only after a query finds none (see `core.triage`)."""
    commits: int = 0
    """Raised by every commit that changes the record."""
    last_event: str = ""
    """Key of the delivery that made the last commit: identifies a commit of unknown outcome."""

    @property
    def next_due(self) -> Instant | None:
        """When the sweep must handle the job: at the awaited tick or the requested triage, whichever is earlier."""
        return min((due for due in (self.tick_at, self.triage_due) if due is not None), default=None)

    @property
    def state(self) -> JobState:
        """The state of the job as people and API clients see it."""
        return public_state(
            active_invocations=len(self.active_invocations),
            enabled=self.enabled,
            paused=self.paused,
            next_tick=self.cron.last_tick_when,
        )

    @property
    def is_failing(self) -> bool:
        """Whether the last invocation that was not aborted failed, or for a job that polls: whether its last poll did.

        A poll that finds nothing new leaves no result, so ``failed_polls`` decides.
        """
        if self.definition.flavor is Flavor.TRIGGER:
            return self.failed_polls > 0
        last = next((item.status for item in self.recent if item.status is not Status.ABORTED), None)
        return last in (Status.FAILED, Status.OVERRUN)

    @property
    def place(self) -> str:
        """The sort key of the job in lists of its project; empty for a disabled job, which no list has.

        Failing jobs come first, then the other jobs, then the jobs that poll; each by name.
        """
        if not self.enabled:
            return ""
        group = 0 if self.is_failing else 2 if self.definition.flavor is Flavor.TRIGGER else 1
        return f"{group}{self.id.partition('/')[2]}"

    def with_result(self, result: Result) -> Job:
        """Return the job with one more result; the oldest one beyond `MAX_RECENT` is dropped."""
        return replace(self, recent=(result, *self.recent)[:MAX_RECENT])
