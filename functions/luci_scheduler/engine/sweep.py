"""The sweep: whatever is overdue is put on the queue again, from what the documents themselves say is due."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from luci_scheduler.core.cron_machine import TickLater
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.engine.deferred import overdue_works
from luci_scheduler.engine.outbox import (
    abort_task,
    deferred_task,
    dispatch_task,
    launch_task,
    sweep_task,
    tick_task,
    triage_task,
)
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import timer_task
from luci_scheduler.ports import Overdue, Task

__all__ = ["BUDGET", "Swept", "sweep"]


BUDGET = 180 * SECOND
"""How long one sweep takes up invocations, jobs and deferred tasks, each: all fit into the ten minutes that a task may take."""

_AGAIN = 5  # graces, ten minutes as set: by then a task has come, or is being retried, or is lost
_AND_AGAIN = 30  # graces, an hour: the queue retries for ever, so in a long outage whatever is added stays


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep found overdue and put on the queue again."""

    invocations: int
    jobs: int
    tasks: int
    deferred: int = 0


def sweep(runtime: Runtime, after: Overdue | None = None) -> Swept:
    """Put everything that is overdue by more than the grace on the queue again; writes nothing itself, safe to repeat.

    However much is overdue all of it is reached: what there is no time for is left to a task that goes on ``after`` where this
    one ends: among the invocations, the jobs or the deferred tasks, whichever it names. Without ``after`` all are swept.

    Raises:
        TransientError: the store or the queue failed; what was enqueued until then is no harm.
    """
    now = runtime.clock.now()
    before = Instant(now - runtime.limits.sweep_grace)
    invocations = jobs = tasks = deferred = 0
    if after is None or after.invocation_id:
        for invocation in _invocations(runtime, before, after):
            invocations += 1
            tasks += _sweep_invocation(runtime, invocation, before, now)
    if after is None or not (after.invocation_id or after.deferred):
        for job in _jobs(runtime, before, after):
            jobs += 1
            for task in _overdue_of_job(job, before, now):
                _enqueue(runtime, task, job.next_due or now, now)
                tasks += 1
                logger.warning("swept", job_id=job.id, task=task.kind, due=job.next_due)
    if after is None or after.deferred:
        until = Instant(runtime.clock.now() + BUDGET)
        for work in overdue_works(runtime, before, after, lambda place: _is_over(runtime, until, place)):
            deferred += 1
            tasks += 1
            _enqueue(runtime, deferred_task(work, now), work.next_due, now)
            logger.warning("swept", deferred=work.id, task=work.kind, due=work.next_due)
    return Swept(invocations, jobs, tasks, deferred)


def _invocations(runtime: Runtime, before: Instant, after: Overdue | None) -> Iterator[Invocation]:
    until = Instant(runtime.clock.now() + BUDGET)
    while page := runtime.store.due_invocations(before, runtime.limits.sweep_batch, after):
        yield from page
        last = page[-1]
        after = Overdue(last.next_due or before, last.job_id, last.id)
        if _is_over(runtime, until, after):
            return


def _jobs(runtime: Runtime, before: Instant, after: Overdue | None) -> Iterator[Job]:
    until = Instant(runtime.clock.now() + BUDGET)
    while page := runtime.store.due_jobs(before, runtime.limits.sweep_batch, after):
        yield from page
        after = Overdue(page[-1].next_due or before, page[-1].id)
        if _is_over(runtime, until, after):
            return


def _is_over(runtime: Runtime, until: Instant, after: Overdue) -> bool:
    """Whether the time is up; if it is another task goes on from here."""
    now = runtime.clock.now()
    if now < until:
        return False
    period = _AGAIN * runtime.limits.sweep_grace
    # The sweeps of a minute each come here, too: one goes on from here, and after ten minutes another one.
    _enqueue(runtime, sweep_task(after, now), Instant(now // period * period), now)
    return True


def _sweep_invocation(runtime: Runtime, invocation: Invocation, before: Instant, now: Instant) -> int:
    overdue = list(_overdue(invocation, before, now))
    about = {"job_id": invocation.job_id, "invocation_id": str(invocation.id)}
    if not overdue and not invocation.status.is_final:
        # No version of this code leaves such a document; whoever is alerted by this line has to look.
        logger.error("invocation_hangs", **about)
    for task in overdue:
        _enqueue(runtime, task, invocation.next_due or now, now)
        logger.warning("swept", **about, task=task.kind, due=invocation.next_due)
    return len(overdue)


def _enqueue(runtime: Runtime, task: Task, due: Instant, now: Instant) -> None:
    """Put a task on the queue: once, again when its thing is ten minutes overdue, then hourly, however often the sweep finds it.

    A thing stays overdue while a task of its own is being retried: to add another one each minute would only make the trouble
    of whoever does not answer larger. The queue forgets nothing of what had a name, so the name has the time in it.
    """
    grace = max(SECOND, runtime.limits.sweep_grace)
    times = (now - due + (_AND_AGAIN - _AGAIN) * grace) // (_AND_AGAIN * grace)
    what = json.dumps([task.kind, {**task.payload, "created": 0}, due, times], sort_keys=True)
    runtime.queue.enqueue(replace(task, name=hashlib.sha256(f"sweep:{what}".encode()).hexdigest()))


def _overdue_of_job(job: Job, before: Instant, now: Instant) -> Iterator[Task]:
    if job.triage_due is not None and job.triage_due <= before:
        yield triage_task(job.id, now)
    when = job.cron.last_tick_when
    if job.tick_at is not None and job.tick_at <= before and when is not None:
        yield tick_task(job, TickLater(when, job.cron.last_tick_nonce), now)


def _overdue(invocation: Invocation, before: Instant, now: Instant) -> Iterator[Task]:
    if invocation.has_undispatched:
        yield dispatch_task(invocation, now)
    if invocation.status.is_final:
        return
    if invocation.abort_requested_by:
        yield abort_task(invocation, now)
    elif invocation.status.is_initial:
        yield launch_task(invocation, now, now)
    else:
        yield from (timer_task(invocation, timer) for timer in invocation.pending_timers if timer.eta <= before)
