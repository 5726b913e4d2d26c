"""The sweep: it puts overdue tasks on the queue again, made from the documents, which say when each is due.

Cloud Scheduler calls the sweep itself, so that it goes on while the queue does not. It carries out the tasks that the queue
refuses, and accepted tasks that are an hour overdue.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TypeVar

from luci_scheduler.core.cron_machine import TickLater
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.errors import SchedulerError, TransientError
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
"""How long one sweep handles invocations, jobs, and deferred tasks, each. With ``CARRYING_OUT`` all fit into a task's ten minutes."""

_AGAIN = 5  # graces, ten minutes as set: by then a task has come, or is being retried, or is lost
_AND_AGAIN = 30  # graces, an hour: the queue retries for ever, so in a long outage whatever is added stays


CARRYING_OUT = 60 * SECOND
"""How long one sweep carries tasks out itself, one after the other; the next sweep finds the tasks that are left over."""

CarryOut = Callable[[QueueTask], None]


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep found overdue and put on the queue again."""

    invocations: int
    jobs: int
    tasks: int
    deferred: int


def sweep(runtime: Runtime, after: DueCursor | None = None, carry_out: CarryOut | None = None) -> Swept:
    """Put everything that is overdue by more than the grace on the queue again; safe to repeat.

    ``carry_out`` gets the tasks that the queue refuses or has not delivered for an hour, for a minute in all. Nothing else writes.

    One sweep may run out of time. A task then continues ``after`` the place that it has reached, among the invocations, the jobs
    or the deferred tasks. Without ``after`` the sweep covers all three.

    Raises:
        TransientError: the store failed, or the queue where there is no ``carry_out``; the tasks enqueued before do no harm.
    """
    now, store = runtime.clock.now(), runtime.store
    before = Instant(now - runtime.limits.sweep_grace)
    broom = _Broom(runtime, now, carry_out)
    invocations = jobs = deferred = 0
    if after is None or after.invocation_id:
        for invocation in _overdue(runtime, before, after, store.due_invocations, _place_of_invocation):
            invocations += 1
            _sweep_invocation(broom, invocation, before)
    if after is None or not (after.invocation_id or after.deferred):
        for job in _overdue(runtime, before, after, store.due_jobs, _place_of_job):
            jobs += 1
            for task in _tasks_of_job(job, before, now):
                broom.put(task, job.next_due or now, job_id=job.id)
    if after is None or after.deferred:
        for work in _overdue(runtime, before, after, store.due_deferred, _place_of_deferred):
            deferred += 1
            broom.put(deferred_task(work, now), work.next_due, deferred=work.id)
    broom.carry_out()
    return Swept(invocations, jobs, broom.tasks, deferred)


def _overdue(
    runtime: Runtime,
    before: Instant,
    after: DueCursor | None,
    read: Callable[[Instant, int, DueCursor | None], Sequence[T]],
    place_of: Callable[[T, Instant], DueCursor],
) -> Iterator[T]:
    """Yield the invocations, jobs or deferred tasks that are due before ``before``, page by page, until the time is up."""
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
    """Whether the time is up; if it is another task goes on from here."""
    now = runtime.clock.now()
    if now < until:
        return False
    period = _AGAIN * runtime.limits.sweep_grace
    # The sweeps of a minute each come here, too: one goes on from here, and after ten minutes another one.
    runtime.offer(_named(runtime, sweep_task(after, now), Instant(now // period * period), now))
    return True


def _sweep_invocation(broom: _Broom, invocation: Invocation, before: Instant) -> None:
    overdue = list(_tasks_of_invocation(invocation, before, broom.now))
    about = {"job_id": invocation.job_id, "invocation_id": str(invocation.id)}
    if not overdue and not invocation.status.is_final:
        # No version of this code leaves such a document; whoever is alerted by this line has to look.
        logger.error("invocation_hangs", **about)
    for task in overdue:
        broom.put(task, invocation.next_due or broom.now, **about)


class _Broom:
    """One sweep's way to have overdue tasks done."""

    def __init__(self, runtime: Runtime, now: Instant, carry_out: CarryOut | None) -> None:
        self.now = now
        self.tasks = 0
        self._runtime = runtime
        self._carry_out = carry_out
        self._is_refused = False
        self._left: dict[str, list[QueueTask]] = {}

    def put(self, task: QueueTask, due: Instant, **about: str) -> None:
        """Put a task on the queue, and keep it where the queue refuses it or has not delivered it for an hour."""
        self._enqueue(_named(self._runtime, task, due, self.now))
        self.tasks += 1
        logger.warning("swept", **about, task=task.kind, due=due)
        is_late = self.now - due >= _AND_AGAIN * max(SECOND, self._runtime.limits.sweep_grace)
        kept = self._left.setdefault(task.kind, [])
        if (is_late or self._is_refused) and len(kept) < self._runtime.limits.sweep_batch:
            kept.append(task)

    def _enqueue(self, task: QueueTask) -> None:
        if self._is_refused:
            return  # each refusal may take the queue's deadline
        try:
            self._runtime.queue.enqueue(task)
        except TransientError as error:
            if self._carry_out is None:
                raise
            self._is_refused = True
            logger.warning("task_left_to_sweep", task=task.kind, error=str(error))

    def carry_out(self) -> None:
        """Carry out the kept tasks, one after the other, until the time is up.

        The kinds take turns, and each minute's sweep begins elsewhere: tasks that take all the time and fail again and again
        keep none of the others from being carried out.
        """
        carry_out, clock = self._carry_out, self._runtime.clock
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
            except Exception:  # noqa: BLE001 - logged with its stack; the tasks behind it are carried out all the same
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
    """Name a task so that the queue takes it once, again when its thing is ten minutes overdue, then hourly, however often it is swept.

    A thing stays overdue while a task of its own is being retried: to add another one each minute would only make the trouble
    of whoever does not answer larger. The queue forgets nothing of what had a name, so the name has the time in it.
    """
    grace = max(SECOND, runtime.limits.sweep_grace)
    times = (now - due + (_AND_AGAIN - _AGAIN) * grace) // (_AND_AGAIN * grace)
    what = json.dumps([task.kind, {**task.payload, "created": 0}, due, times], sort_keys=True)
    return replace(task, name=hashlib.sha256(f"sweep:{what}".encode()).hexdigest())


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
