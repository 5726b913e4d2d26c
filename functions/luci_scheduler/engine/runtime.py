"""The ports and managers that every step of the engine uses, the limits that bound it, and its optimistic loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import field, replace
from typing import TypeVar

import structlog

from luci_scheduler.core.cleanup import BUILD_LIFE
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import ComeAgainError, PermanentError, StoreConflictError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import DAY, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job, TaskDefinition
from luci_scheduler.managers.controller import CallCache, Controller, offer
from luci_scheduler.managers.task_manager import TaskManager
from luci_scheduler.ports import Clock, Entropy, Gitiles, Queue, QueueTask, Store, Topic, Turns, Versioned
from luci_scheduler.tracing import bind_invocation

__all__ = ["Limits", "Runtime", "logger"]

logger = structlog.stdlib.get_logger("luci_scheduler")

T = TypeVar("T")


@frozen
class Limits:
    """Numbers that bound the engine; durations in nanoseconds."""

    claim_lease: int = 75 * SECOND
    """How long a launch is claimed: a little longer than the deadline of its build request."""
    max_attempts: int = 50
    """Launch attempts of one invocation (the original's limit)."""
    retry_backoff_min: int = 5 * SECOND
    """Pause after the first failed launch attempt; it doubles each time (the original's queue ``launches``)."""
    retry_backoff_max: int = 600 * SECOND
    """The longest pause between launch attempts (the same queue)."""
    abort_patience: int = 10 * MINUTE
    """How long an abort waits, from its request, for a running build to be canceled. Then it ends the invocation."""
    silence: int = BUILD_LIFE + DAY
    """How long a running invocation waits for its build service to answer: longer than any build lives."""
    races: int = 8
    """How many times a handler tries to commit before it gives up and requests another delivery."""
    launches_at_once: int = 8
    """Invocations of a job that one delivery launches itself, in sequence; the others get tasks."""
    concurrency: int = 16
    """Jobs that one delivery handles in parallel."""
    early_task_patience: int = 5 * MINUTE
    """How long a task that precedes its own commit is retried."""
    deduplication: int = 30 * MINUTE
    """How long the ID of a resolved trigger counts as a duplicate (the original's limit)."""
    sweep_grace: int = 2 * MINUTE
    """How overdue a document must be before the sweep enqueues its task again."""
    sweep_batch: int = 300
    """Overdue documents in one page of the sweep, which reads pages until none is left."""
    keep_idle: bool = False
    """Whether a poll without news is recorded as an invocation."""
    retention: int = 90 * DAY
    """How long finished invocations and markers of triggers are kept."""
    marker_deliveries: int = 10
    """How many delivery keys a trigger's marker holds."""
    handled_notifications: int = 16
    """How many notification message IDs an invocation holds; a build sends three."""
    commit_wait: int = DAY
    """How long a commit event waits for its commit, from its publication. 0: no event waits; revisions are trusted."""
    trust_publishers: bool = False
    """Whether the ref that an event names is trusted if the host serves the commit."""
    events_at_once: int = 16
    """Watched refs of one message that its delivery handles itself; the others are deferred."""
    commit_bytes: int = 3_000_000
    """Size of the triggers that one triage resolves, as JSON. Firestore takes ten mebibytes in a commit, which stores a
    trigger up to three times. Surplus triggers are stored once; they share a commit only up to a sixth of this."""

    def expiry(self, ended: Instant) -> Instant:
        """Return when a record that ended at ``ended`` may be deleted, in whole seconds."""
        return Instant((ended + self.retention) // SECOND * SECOND)


@frozen
class Runtime:
    """The ports, managers and limits of a handler."""

    store: Store
    queue: Queue
    clock: Clock
    entropy: Entropy
    gitiles: Gitiles
    managers: Mapping[str, TaskManager]
    era_of: Callable[[TaskDefinition], Era]
    """Returns the era of a task (for buildbucket: the protocol of its server)."""
    launch_time: Callable[[TaskDefinition], int]
    """Returns how long a launch may block on the task itself, in nanoseconds; such launches always get a queue task."""
    limits: Limits = field(default_factory=Limits)
    topic: Topic | None = None
    """Where starts and ends of invocations are announced; None: nowhere."""
    console_url: str = ""
    """The base URL of the links in announcements."""
    turns: Turns | None = None
    """The turns of deliveries in this process; None: deliveries do not wait for each other."""
    hosts: CommitHosts = DEFAULT_HOSTS
    """The commit hosts of the installation."""

    def manager(self, task: TaskDefinition) -> TaskManager:
        """Return the manager of a task.

        Raises:
            PermanentError: this version has no manager of that kind.
        """
        manager = self.managers.get(task.kind)
        if manager is None:
            raise PermanentError(f"no task manager for the task kind {task.kind!r}")
        return manager

    def offer(self, task: QueueTask) -> None:
        """Enqueue a task that a document records; if the queue refuses it, the sweep enqueues it later."""
        offer(self.queue, task)

    def retry_conflicts(self, subject: str, step: str, attempt: Callable[[], T], *, races: int | None = None) -> T:
        """Repeat ``attempt`` until no other commit interferes, at most ``races`` times (`Limits.races`).

        ``attempt`` reads, decides and commits; its result is returned. It raises StoreConflictError if a document has
        changed since it was read, and then runs again from the read. The error names the ``subject`` and the ``step``.
        Attempts about one ``subject`` take turns (see `turns`).

        Raises:
            ComeAgainError: each attempt met a conflict.
            Others: as ``attempt`` raises them.
        """
        # Without a bound, a delivery about a busy document could lose race after race until its deadline.
        for _ in range(races or self.limits.races):
            try:
                with nullcontext() if self.turns is None else self.turns.of(subject):
                    return attempt()
            except StoreConflictError:
                continue
        raise ComeAgainError(f"{subject} changes too fast to {step}")

    def update_invocation(
        self,
        job_id: JobId,
        invocation_id: InvocationId,
        step: str,
        attempt: Callable[[Versioned[Invocation] | None], T],
        found: Versioned[Invocation] | None = None,
    ) -> T:
        """Call ``attempt`` with the current invocation until it commits without a conflict (see `retry_conflicts`).

        ``found`` is the invocation for the first attempt, if the caller has read it already.
        """

        def once() -> T:
            nonlocal found
            current, found = found or self.store.invocation(job_id, invocation_id), None
            return attempt(current)

        return self.retry_conflicts(f"invocation {invocation_id} of {job_id}", step, once)

    def update_job(self, job_id: JobId, step: str, attempt: Callable[[Versioned[Job] | None], T]) -> T:
        """Call ``attempt`` with the current job until it commits without a conflict (see `retry_conflicts`)."""
        return self.retry_conflicts(f"job {job_id}", step, lambda: attempt(self.store.job(job_id)))

    def wait_for_commit(self, created: Instant, missing: str, *, event: str, **about: str | int) -> None:
        """Retry a task that precedes its own commit for five minutes from ``created``; then drop it and log ``event``.

        ``missing`` describes the record that the task did not find; ``about`` holds the fields of the log line.

        Raises:
            ComeAgainError: the commit may still become visible.
        """
        if self.clock.now() - created < self.limits.early_task_patience:
            raise ComeAgainError(missing)
        logger.info(event, **about)

    def controller(self, invocation: Invocation, calls: CallCache) -> Controller:
        """Return a new controller of an invocation that was just read or written, and bind the log to it."""
        bind_invocation(invocation.job_id, invocation.id, invocation.attempts, invocation.trace)
        return Controller(invocation, self.clock, self.entropy, self.queue, calls)

    def stamped(self, invocation: Invocation, key: str) -> Invocation:
        """Prepare an invocation for a commit: raise the commit counter, set a unique name and ``next_due``.

        ``key`` names the delivery. Two deliveries may have the same key, so the name also holds a random number: a
        handler that reads the document must recognize its own commit.
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
    # The earlier of the two: the sweep looks at both whenever the document is due.
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
        # The abort's task may be lost, and the next launch attempt may be hours away.
        return invocation.abort_requested_at
    if invocation.pending_timers:
        return min(timer.eta for timer in invocation.pending_timers)
    return invocation.next_due
