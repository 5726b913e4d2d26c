"""Jobs: what is defined in the config, and what the scheduler keeps of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from luci_scheduler.core.cron_machine import CronState
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import DAY, Instant

__all__ = ["MAX_PENDING", "Flavor", "Job", "JobDefinition", "TaskDefinition", "TriggeringPolicy"]


MAX_PENDING = 1000
"""More pending triggers of a job than these lose their oldest without starting anything (the original's limit)."""


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """The work of a job's invocations: a task kind and its fields as in ``luci-scheduler.cfg``.

    Everything else about a kind is in its ``managers.task_kind.TaskKind``.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class TriggeringPolicy:
    """How pending triggers become invocations; the values are the original's defaults."""

    kind: str = "GREEDY_BATCHING"
    """The ``kind`` of a policy in ``core.policy.registry``, or one that only another version of the functions knows."""
    max_concurrent_invocations: int = 1
    max_batch_size: int = 1000
    """Of the batching kinds: as many triggers at most become one invocation."""
    log_base: float = 0.0
    """Of LOGARITHMIC_BATCHING, which cannot do without it: at least 1.0001."""
    pending_timeout: int = 7 * DAY
    """Of NEWEST_FIRST, nanoseconds: a trigger that has waited as long is discarded."""


class Flavor(StrEnum):
    """What sort of job it is, for people."""

    PERIODIC = "periodic"
    TRIGGERED = "triggered"
    TRIGGER = "trigger"


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """A job as its project's config defines it; plain data, replaced as a whole when the config changes it."""

    task: TaskDefinition
    schedule: str = "triggered"
    flavor: Flavor = Flavor.TRIGGERED
    realm: str = "@legacy"
    policy: TriggeringPolicy = field(default_factory=TriggeringPolicy)
    triggered_jobs: tuple[JobId, ...] = ()
    """The jobs that this job's triggers reach, sorted."""
    revision: str = ""
    """The config revision of the last real change of this definition."""
    revision_url: str = ""
    max_pending: int = MAX_PENDING
    """Pending triggers that the job keeps: its share of what its project may have, at most the original's limit."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job's record. The pending triggers are documents of their own; ``triggers_wait`` only tells that there may be some."""

    id: JobId
    definition: JobDefinition
    enabled: bool = True
    paused: bool = False
    changed_by: str = ""
    """Who paused or resumed it last; empty if nobody ever did."""
    changed_when: Instant | None = None
    change_reason: str = ""
    """Why, in the words of whoever paused or resumed it."""
    cron: CronState = field(default_factory=CronState)
    tick_at: Instant | None = None
    """When the queue brings the awaited tick, or a link of the chain to a far one; None when none is awaited."""
    triage_due: Instant | None = None
    """Since when a triage is asked for that nobody has carried out yet (after a change of policy, pause or removal)."""
    last_triage: Instant | None = None
    """When the last triage decided; its log and this are one commit."""
    triaged_revision: str = ""
    """The revision of the definition that the last triage went by."""
    last_poll: Instant | None = None
    """When a gitiles job last looked and found nothing new; such a look leaves no invocation."""
    active_invocations: tuple[InvocationId, ...] = ()
    """Invocations that are not final yet, in the order of their creation."""
    triggers_wait: bool = False
    """Whether pending triggers may exist; set with the first one, cleared when a look found none."""
    commits: int = 0
    """Raised by every commit that touches the record."""
    last_event: str = ""
    """Key of the delivery that made the last commit: tells a commit of unknown outcome from another's."""

    @property
    def next_due(self) -> Instant | None:
        """When the sweep looks at the job: the awaited tick or the triage that is asked for, whichever is earlier."""
        return min((due for due in (self.tick_at, self.triage_due) if due is not None), default=None)
