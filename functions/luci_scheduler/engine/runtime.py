"""What every step of the engine works with, and the numbers that bound it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from luci_scheduler.core.cleanup import BUILD_LIFE
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import ComeAgainError, PermanentError
from luci_scheduler.core.instants import DAY, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.managers.controller import CallCache, Controller, offer
from luci_scheduler.managers.task_manager import TaskManager
from luci_scheduler.ports import Clock, Entropy, Gitiles, Queue, QueueTask, Store
from luci_scheduler.tracing import bind_invocation

__all__ = ["Limits", "Runtime", "logger"]

logger = structlog.stdlib.get_logger("luci_scheduler")


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers that bound the engine; durations in nanoseconds."""

    claim_lease: int = 75 * SECOND
    """How long a launch is claimed: a little longer than the deadline of the request that it covers."""
    max_attempts: int = 50
    """Launch attempts of one invocation (the original's limit)."""
    retry_backoff_min: int = 5 * SECOND
    """Pause after the first failed launch attempt; doubles (the original's queue ``launches``)."""
    retry_backoff_max: int = 600 * SECOND
    abort_patience: int = 10 * MINUTE
    """How long, from its request, an abort waits until a running build can be canceled; then the invocation ends without it."""
    silence: int = BUILD_LIFE + DAY
    """How long a running invocation waits for an answer of its build service: longer than any build lives."""
    races: int = 8
    """How often a handler that lost a race decides again before it asks to be delivered again."""
    launches_at_once: int = 8
    """Invocations that one delivery launches itself for a job, one after the other; more go to the queue."""
    concurrency: int = 16
    """Jobs that one delivery works on side by side."""
    early_task_patience: int = 5 * MINUTE
    """How long a task that is ahead of its own commit is asked to come again."""
    deduplication: int = 30 * MINUTE
    """How long a consumed trigger's ID is refused to a new request (the original's)."""
    sweep_grace: int = 2 * MINUTE
    """How overdue a thing must be before the sweep puts it on the queue again."""
    sweep_batch: int = 300
    """Overdue things that one read of the sweep finds; it reads on until there are no more."""
    keep_idle: bool = False
    """Whether a poll that finds nothing new is kept as an invocation."""
    retention: int = 90 * DAY
    """How long a finished invocation and the marker of a trigger are kept."""
    marker_deliveries: int = 10
    """Delivery keys that a trigger's marker remembers."""
    handled_notifications: int = 16
    """Notification message IDs that an invocation remembers; a build sends three."""
    commit_wait: int = DAY
    """How long, from its publication, a commit event waits for its commit; 0: no event waits, and revisions are believed."""
    trust_publishers: bool = False
    """Whether the ref that is named with a served commit is believed."""
    events_at_once: int = 16
    """Watched refs of one message that its delivery handles itself; more are deferred."""
    commit_bytes: int = 3_000_000
    """Triggers that one triage resolves, as JSON: a commit may have ten mebibytes, and holds some of them up to three times;
    what is discarded as too many is held once, and shares a commit with others only up to a sixth of this."""

    def expiry(self, ended: Instant) -> Instant:
        """Return when what ended at ``ended`` may be deleted, in whole seconds."""
        return Instant((ended + self.retention) // SECOND * SECOND)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The ports, the managers and the limits that a handler works with."""

    store: Store
    queue: Queue
    clock: Clock
    entropy: Entropy
    gitiles: Gitiles
    managers: Mapping[str, TaskManager]
    era_of: Callable[[TaskDefinition], Era]
    """Which era a task belongs to (for buildbucket: the protocol of its server)."""
    launch_time: Callable[[TaskDefinition], int]
    """How long launching a task may block on the task itself (nanoseconds); such launches get tasks of their own."""
    limits: Limits = field(default_factory=Limits)

    def manager(self, task: TaskDefinition) -> TaskManager:
        """Return the manager of a task.

        Raises:
            PermanentError: this version has none of that kind.
        """
        manager = self.managers.get(task.kind)
        if manager is None:
            raise PermanentError(f"no task manager for the task kind {task.kind!r}")
        return manager

    def offer(self, task: QueueTask) -> None:
        """Put a task of a document on the queue; the sweep does it if the queue refuses (see `managers.controller.offer`)."""
        offer(self.queue, task)

    def wait_for_commit(self, created: Instant, missing: str, *, event: str, **about: str | int) -> None:
        """Let a task that is ahead of its commit come again for five minutes from ``created``; then drop it and log ``event``.

        ``missing`` names the record that the task did not find; ``about`` has the members of the log line.

        Raises:
            ComeAgainError: the commit may still become visible.
        """
        if self.clock.now() - created < self.limits.early_task_patience:
            raise ComeAgainError(missing)
        logger.info(event, **about)

    def controller(self, invocation: Invocation, calls: CallCache) -> Controller:
        """Return a fresh controller around an invocation that was just read or written; from here on the log is about it."""
        bind_invocation(invocation.job_id, invocation.id, invocation.attempts, invocation.trace)
        return Controller(invocation, self.clock, self.entropy, self.queue, calls)

    def stamped(self, invocation: Invocation, key: str) -> Invocation:
        """Return the invocation as a commit shall write it: counter raised, commit named, the sweep's instant set.

        The name is the commit's own, and not just its delivery's: two deliveries may have the same one, and whoever finds a
        commit must know whether it was its own.
        """
        expires = None if invocation.finished is None else self.limits.expiry(invocation.finished)
        return replace(
            invocation,
            commits=invocation.commits + 1,
            last_event=f"{key}/{self.entropy.nonce()}",
            next_due=_next_due(invocation),
            expires=expires,
        )


def _next_due(invocation: Invocation) -> Instant | None:
    due, cleanup = _due_without_cleanup(invocation), invocation.cleanup
    if cleanup is None:
        return due
    return cleanup.next_try if due is None else min(due, cleanup.next_try)


def _due_without_cleanup(invocation: Invocation) -> Instant | None:
    if invocation.status.is_final:
        return invocation.finished if invocation.has_undispatched else None
    if invocation.claim_until is not None:
        return invocation.claim_until
    if invocation.abort_requested_at is not None:
        return invocation.abort_requested_at  # its task may be lost, and the pause before the next attempt may be hours
    if invocation.pending_timers:
        return min(timer.eta for timer in invocation.pending_timers)
    return invocation.next_due
