"""Tasks made from documents: handlers queue them before their commits, and the sweep queues lost tasks again.

Each function picks the task's time, and its name where the queue must drop duplicates.
"""

from __future__ import annotations

from luci_scheduler.core.cleanup import Cleanup
from luci_scheduler.core.cron_machine import TickLater
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.queue_tasks import (
    AbortTask,
    CleanupTask,
    DeferredTask,
    DispatchTask,
    DispatchToTask,
    LaunchTask,
    SweepTask,
    TickTask,
    TriageTask,
)
from luci_scheduler.core.triage_throttle import triage_kick
from luci_scheduler.ports import QueueTask

__all__ = [
    "abort_task",
    "cleanup_task",
    "deferred_task",
    "dispatch_task",
    "dispatch_to_task",
    "launch_task",
    "sweep_task",
    "tick_task",
    "triage_task",
]


def launch_task(invocation: Invocation, eta: Instant, now: Instant) -> QueueTask:
    """Return the task that launches an invocation at ``eta``, unless another attempt is made before."""
    return QueueTask.of(LaunchTask(invocation.job_id, invocation.id, invocation.attempts, now), eta)


def tick_task(job: Job, tick: TickLater, now: Instant) -> QueueTask:
    """Return the task of a job's awaited tick, or of a link in the chain to it.

    The task takes effect once ``job`` is committed.
    """
    task = TickTask(job.id, tick.nonce, job.cron.generation, now)
    return QueueTask.of(task, now if job.tick_at is None else max(now, job.tick_at))


def triage_task(job_id: JobId, now: Instant) -> QueueTask:
    """Return the task that triages a job. The queue runs at most one in two seconds, however many are requested."""
    eta, name = triage_kick(job_id, now)
    return QueueTask.of(TriageTask(job_id, now), eta, name=name)


def abort_task(invocation: Invocation, now: Instant) -> QueueTask:
    """Return the task for the abort that an invocation's document requests."""
    return QueueTask.of(AbortTask(invocation.job_id, invocation.id, now), now)


def cleanup_task(invocation: Invocation, cleanup: Cleanup, now: Instant) -> QueueTask:
    """Return the task that cancels the build of an ended invocation. It takes effect once ``cleanup`` is committed."""
    task = CleanupTask(invocation.job_id, invocation.id, cleanup.attempts, now)
    return QueueTask.of(task, max(now, cleanup.next_try))


def dispatch_task(invocation: Invocation, now: Instant) -> QueueTask:
    """Return the task that dispatches an invocation's emitted triggers.

    The task takes effect once ``invocation`` is committed.
    """
    return QueueTask.of(DispatchTask(invocation.job_id, invocation.id, invocation.mutations, now), now)


def dispatch_to_task(invocation: Invocation, target: JobId, first: int, now: Instant) -> QueueTask:
    """Return the task that dispatches an invocation's emitted triggers, from the number ``first`` on, to one job."""
    return QueueTask.of(DispatchToTask(invocation.job_id, invocation.id, target, first, now), now)


def sweep_task(after: DueCursor, now: Instant) -> QueueTask:
    """Return the task that continues a sweep that ran out of time."""
    return QueueTask.of(SweepTask(after, now), now)


def deferred_task(work: Deferred, now: Instant) -> QueueTask:
    """Return the task that tries deferred work when it is due, unless another try is made before."""
    return QueueTask.of(DeferredTask(work.id, work.tries, now), max(now, work.next_due))
