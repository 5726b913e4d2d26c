"""The sweep: it enqueues overdue tasks again, created from the documents, which record when each task is due.

Cloud Scheduler calls the sweep directly, so that it continues while the queue fails. The sweep itself runs the tasks
that the queue refuses, and tasks that are an hour overdue.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TypeVar

from luci_scheduler.core.cron_machine import TickLater
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.errors import SchedulerError, TransientError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.engine.outbox import (
    abort_task,
    cleanup_task,
    deferred_task,
    dispatch_task,
    launch_task,
    sweep_task,
    tick_task,
    triage_task,
)
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import timer_task
from luci_scheduler.ports import QueueTask

__all__ = ["BUDGET", "CARRYING_OUT", "Swept", "sweep"]

T = TypeVar("T")

BUDGET = 170 * SECOND
"""How long one sweep handles invocations, jobs, and deferred tasks, each. With ``CARRYING_OUT`` they fit into a task's
ten minutes."""

# In graces of two minutes. After ten minutes a task has been delivered, or is being retried, or is lost.
_AGAIN = 5
# After an hour: the queue retries forever, so each task that is added in a long outage stays in it.
_AND_AGAIN = 30


CARRYING_OUT = 60 * SECOND
"""How long one sweep runs tasks itself, in sequence; the next sweep finds the remaining tasks."""

CarryOut = Callable[[QueueTask], None]


@frozen
class Swept:
    """The counts of one sweep: overdue documents, and tasks enqueued again."""

    invocations: int
    jobs: int
    tasks: int
    deferred: int


def sweep(runtime: Runtime, after: DueCursor | None = None, carry_out: CarryOut | None = None) -> Swept:
    """Enqueue a task for each document that is overdue by more than the grace; safe to repeat.

    ``carry_out`` gets the tasks that the queue refuses or has not delivered for an hour, for one minute in total. It is
    the only part that writes documents.

    A sweep may run out of time. A task then continues ``after`` the last invocation, job or deferred task that was
    handled. Without ``after``, the sweep covers all three.

    Raises:
        TransientError: the store failed, or the queue failed without ``carry_out``. The enqueued tasks are harmless.
    """
    now = runtime.clock.now()
    before = Instant(now - runtime.limits.sweep_grace)
    broom = _Broom(runtime, now, carry_out)
    invocations = jobs = deferred = 0
    if after is None or after.invocation_id:
        invocations = _sweep_invocations(broom, before, after)
    if after is None or not (after.invocation_id or after.deferred):
        jobs = _sweep_jobs(broom, before, after)
    if after is None or after.deferred:
        deferred = _sweep_deferred(broom, before, after)
    broom.carry_out()
    return Swept(invocations, jobs, broom.tasks, deferred)


def _sweep_invocations(broom: _Broom, before: Instant, after: DueCursor | None) -> int:
    count = 0
    for invocation in _overdue(broom.runtime, before, after, broom.runtime.store.due_invocations, _place_of_invocation):
        count += 1
        _sweep_invocation(broom, invocation, before)
    return count


def _sweep_jobs(broom: _Broom, before: Instant, after: DueCursor | None) -> int:
    count = 0
    for job in _overdue(broom.runtime, before, after, broom.runtime.store.due_jobs, _place_of_job):
        count += 1
        for task in _tasks_of_job(job, before, broom.now):
            broom.put(task, job.next_due or broom.now, job_id=job.id)
    return count


def _sweep_deferred(broom: _Broom, before: Instant, after: DueCursor | None) -> int:
    count = 0
    for work in _overdue(broom.runtime, before, after, broom.runtime.store.due_deferred, _place_of_deferred):
        count += 1
        broom.put(deferred_task(work, broom.now), work.next_due, deferred=work.id)
    return count


def _overdue(
    runtime: Runtime,
    before: Instant,
    after: DueCursor | None,
    read: Callable[[Instant, int, DueCursor | None], Sequence[T]],
    place_of: Callable[[T, Instant], DueCursor],
) -> Iterator[T]:
    """Yield documents that are due before ``before``, page by page, until the time is up."""
    until = Instant(runtime.clock.now() + BUDGET)
    while page := read(before, runtime.limits.sweep_batch, after):
        yield from page
        after = place_of(page[-1], before)
        if _is_over(runtime, until, after):
            return


def _place_of_invocation(invocation: Invocation, before: Instant) -> DueCursor:
    return DueCursor(invocation.next_due or before, invocation.job_id, invocation.id)


def _place_of_job(job: Job, before: Instant) -> DueCursor:
    return DueCursor(job.next_due or before, job.id)


def _place_of_deferred(work: Deferred, _: Instant) -> DueCursor:
    return DueCursor(work.next_due, JobId(""), deferred=work.id)


def _is_over(runtime: Runtime, until: Instant, after: DueCursor) -> bool:
    """Return whether the time is up; if it is, enqueue a task that continues after this place."""
    now = runtime.clock.now()
    if now < until:
        return False
    period = _AGAIN * runtime.limits.sweep_grace
    # Each minute's sweep may reach this point. The task's name lets one of them continue every ten minutes.
    runtime.offer(_named(runtime, sweep_task(after, now), Instant(now // period * period), now))
    return True


def _sweep_invocation(broom: _Broom, invocation: Invocation, before: Instant) -> None:
    overdue = list(_tasks_of_invocation(invocation, before, broom.now))
    about = {"job_id": invocation.job_id, "invocation_id": str(invocation.id)}
    if not overdue and not invocation.status.is_final:
        # No version of this code leaves such a document. An alert on this line asks a person to examine it.
        logger.error("invocation_hangs", **about)
    for task in overdue:
        broom.put(task, invocation.next_due or broom.now, **about)


class _Broom:
    """Enqueues the overdue tasks of one sweep, and runs the tasks that the queue does not deliver."""

    def __init__(self, runtime: Runtime, now: Instant, carry_out: CarryOut | None) -> None:
        self.now = now
        self.tasks = 0
        self.runtime = runtime
        self._carry_out = carry_out
        self._is_refused = False
        self._left: dict[str, list[QueueTask]] = {}

    def put(self, task: QueueTask, due: Instant, **about: str) -> None:
        """Enqueue a task; keep it for `carry_out` if the queue refuses it or has not delivered it for an hour."""
        self._enqueue(_named(self.runtime, task, due, self.now))
        self.tasks += 1
        logger.warning("swept", **about, task=task.kind, due=due)
        is_late = self.now - due >= _AND_AGAIN * max(SECOND, self.runtime.limits.sweep_grace)
        kept = self._left.setdefault(task.kind, [])
        if (is_late or self._is_refused) and len(kept) < self.runtime.limits.sweep_batch:
            kept.append(task)

    def _enqueue(self, task: QueueTask) -> None:
        if self._is_refused:
            return  # another refusal could take as long as the queue's deadline
        try:
            self.runtime.queue.enqueue(task)
        except TransientError as error:
            if self._carry_out is None:
                raise
            self._is_refused = True
            logger.warning("task_left_to_sweep", task=task.kind, error=str(error))

    def carry_out(self) -> None:
        """Run the kept tasks in sequence until the time is up.

        The kinds take turns, and each minute's sweep starts with another task. So slow tasks that keep failing cannot
        block the others.
        """
        carry_out, clock = self._carry_out, self.runtime.clock
        until = Instant(clock.now() + CARRYING_OUT)
        if carry_out is None:
            return
        for task in self._in_turns():
            if clock.now() >= until:
                return
            try:
                carry_out(task)
            except SchedulerError as error:
                logger.warning("swept_in_vain", task=task.kind, error=str(error))
            except Exception:  # noqa: BLE001 - logged with its stack; the other tasks must still be carried out
                logger.exception("unexpected_error", task=task.kind)

    def _in_turns(self) -> Iterator[QueueTask]:
        minute = self.now // MINUTE
        kinds = [_beginning_at(minute, kept) for kept in self._left.values() if kept]
        for turn in zip_longest(*_beginning_at(minute, kinds)):
            yield from (task for task in turn if task is not None)


def _beginning_at(place: int, items: Sequence[T]) -> list[T]:
    place %= max(1, len(items))
    return [*items[place:], *items[:place]]


def _named(runtime: Runtime, task: QueueTask, due: Instant, now: Instant) -> QueueTask:
    """Name a task so that the queue accepts it once, again when its document is ten minutes overdue, and then hourly.

    A document stays overdue while its task is retried. Another task each minute would only add load to a service that
    does not answer. The queue remembers names, so the name includes the time.
    """
    grace = max(SECOND, runtime.limits.sweep_grace)
    times = (now - due + (_AND_AGAIN - _AGAIN) * grace) // (_AND_AGAIN * grace)
    identity = json.dumps([task.kind, {**task.payload, "created": 0}, due, times], sort_keys=True)
    return replace(task, name=hashlib.sha256(f"sweep:{identity}".encode()).hexdigest())


def _tasks_of_job(job: Job, before: Instant, now: Instant) -> Iterator[QueueTask]:
    if job.triage_due is not None and job.triage_due <= before:
        yield triage_task(job.id, now)
    when = job.cron.last_tick_when
    if job.tick_at is not None and job.tick_at <= before and when is not None:
        yield tick_task(job, TickLater(when, job.cron.last_tick_nonce), now)


def _tasks_of_invocation(invocation: Invocation, before: Instant, now: Instant) -> Iterator[QueueTask]:
    if invocation.has_undispatched:
        yield dispatch_task(invocation, now)
    cleanup = invocation.cleanup
    if cleanup is not None and cleanup.next_try <= before:
        yield cleanup_task(invocation, cleanup, now)
    if invocation.status.is_final:
        return
    if invocation.abort_requested_by:
        yield abort_task(invocation, now)
    elif invocation.status.is_initial:
        yield launch_task(invocation, now, now)
    else:
        yield from (timer_task(invocation, timer) for timer in invocation.pending_timers if timer.eta <= before)
