"""The sweep: whatever is overdue is put on the queue again, from what the documents themselves say is due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from luci_scheduler.core.cron_machine import TickLater
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.engine.outbox import abort_task, dispatch_task, launch_task, tick_task, triage_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import timer_task
from luci_scheduler.ports import Task

__all__ = ["Swept", "sweep"]


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep found overdue and put on the queue again."""

    invocations: int
    jobs: int
    tasks: int


def sweep(runtime: Runtime) -> Swept:
    """Put everything that is overdue by more than the grace on the queue again; writes nothing itself, safe to repeat.

    Raises:
        TransientError: the store or the queue failed; what was enqueued until then is no harm.
    """
    now = runtime.clock.now()
    before = Instant(now - runtime.limits.sweep_grace)
    invocations = runtime.store.due_invocations(before, runtime.limits.sweep_batch)
    jobs = runtime.store.due_jobs(before, runtime.limits.sweep_batch)
    tasks = 0
    for invocation in invocations:
        overdue = list(_overdue(invocation, before, now))
        if not overdue and not invocation.status.is_final:
            # No version of this code leaves such a document; whoever is alerted by this line has to look.
            logger.error("invocation_hangs", job_id=invocation.job_id, invocation_id=str(invocation.id))
        for task in overdue:
            runtime.queue.enqueue(task)
            tasks += 1
            logger.warning(
                "swept",
                job_id=invocation.job_id,
                invocation_id=str(invocation.id),
                task=task.kind,
                due=invocation.next_due,
            )
    for job in jobs:
        for task in _overdue_of_job(job, before, now):
            runtime.queue.enqueue(task)
            tasks += 1
            logger.warning("swept", job_id=job.id, task=task.kind, due=job.next_due)
    return Swept(len(invocations), len(jobs), tasks)


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
