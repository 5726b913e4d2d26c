"""Adds triggers to many jobs, side by side: one job's trouble does not repeat the work of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from luci_scheduler.core.errors import PermanentError, SchedulerError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.triggers import accept_triggers

__all__ = ["BUDGET", "add_triggers"]

BUDGET = 150 * SECOND
"""Half the ack deadline of the commit subscription: jobs and events that are not begun by then are deferred."""


def add_triggers(
    runtime: Runtime,
    triggers: Mapping[JobId, Sequence[Trigger]],
    key: str,
    later: Callable[[JobId, Instant], None],
) -> bool:
    """Add each job's triggers to it, with bounded concurrency; safe to repeat under the same key.

    A job whose part fails, or is not begun in time, is left to ``later(job, now)``, which must make sure that it is done.
    With a single job its error is raised instead: another delivery does the same.

    Returns:
        Whether every job has its triggers, or can never take them; else some were left to ``later``.

    Raises:
        TransientError, ComeAgainError: the single job's part failed, or even ``later`` did; deliver again.
    """
    begun = runtime.clock.now()
    if len(triggers) == 1:
        ((job_id, batch),) = triggers.items()
        accept_triggers(runtime, job_id, batch, key)
        return True

    def one(job_id: JobId, batch: Sequence[Trigger]) -> bool:
        is_hopeless = False
        try:
            if runtime.clock.now() < begun + BUDGET:
                accept_triggers(runtime, job_id, batch, key)
                return True
            logger.info("triggers_queued", job_id=job_id, triggers=len(batch), reason="no time left")
        except SchedulerError as error:
            is_hopeless = isinstance(error, PermanentError)
            logger.warning("triggers_queued", job_id=job_id, triggers=len(batch), reason=str(error))
        later(job_id, runtime.clock.now())
        return is_hopeless

    with ThreadPoolExecutor(runtime.limits.concurrency, thread_name_prefix="job") as pool:
        futures = [pool.submit(copy_context().run, one, job_id, batch) for job_id, batch in triggers.items()]
    done = [future.result() for future in futures]
    return all(done)
