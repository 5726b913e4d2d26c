"""Advance: launch what was created, and start what waits for a job."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from luci_scheduler.core.errors import SchedulerError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.engine.launch import launch
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.waiting import take_up_waiting
from luci_scheduler.managers.controller import CallCache
from luci_scheduler.ports import Versioned

__all__ = ["advance", "launch_all"]

_LAUNCHING = 30 * SECOND
"""Launches begun later than this in one delivery get tasks: a notification is answered within two minutes, and one launch
may take one."""


def advance(runtime: Runtime, job_id: JobId, key: str) -> None:
    """Start what waits for a job, as far as slots are free; safe to repeat.

    Raises:
        ComeAgainError: the race for the job's document was lost too often.
    """
    launch_all(runtime, take_up_waiting(runtime, job_id, key, asked_for=True), key)


def launch_all(
    runtime: Runtime, created: Sequence[Versioned[Invocation]], key: str, calls: CallCache | None = None
) -> None:
    """Launch invocations that were just created, and what a launch that ends at once makes room for.

    One that fails becomes a launch task of its own, and so does what comes behind the first few: a delivery does not
    take the longer the more it sets off. ``calls`` holds what was asked for the first one before it was created.

    So does one that there is no time for. What even the queue does not take is left to the sweep: every invocation has
    its ``next_due`` from its creation.
    """
    until = Instant(runtime.clock.now() + _LAUNCHING)
    waiting = deque(created)
    for _ in range(runtime.limits.launches_at_once):
        if not waiting or runtime.clock.now() >= until:
            break
        found = waiting.popleft()
        try:
            waiting.extend(launch(runtime, found, key, calls))
        except SchedulerError as error:
            _postpone(runtime, found.value, str(error))
        calls = None
    for found in waiting:
        _postpone(runtime, found.value, "enough was launched by this delivery")


def _postpone(runtime: Runtime, invocation: Invocation, reason: str) -> None:
    logger.info("launch_postponed", job_id=invocation.job_id, invocation_id=str(invocation.id), reason=reason)
    now = runtime.clock.now()
    try:
        runtime.queue.enqueue(launch_task(invocation, now, now))
    except SchedulerError as error:
        logger.warning(
            "launch_interrupted", job_id=invocation.job_id, invocation_id=str(invocation.id), error=str(error)
        )
