"""Watching a running invocation: notifications and timers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import ComeAgainError, PermanentError, StoreConflictError, TransientError
from luci_scheduler.core.go_text import format_duration, quote
from luci_scheduler.core.identifiers import InvocationId, JobId, timer_mutation
from luci_scheduler.core.instants import MILLISECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.engine.abort import abort_running
from luci_scheduler.engine.advance import launch_all
from luci_scheduler.engine.outcome import commit_outcome
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import CallCache, Controller

__all__ = ["on_notification", "on_timer"]


def on_notification(runtime: Runtime, job_id: JobId, invocation_id: InvocationId, message_id: str) -> None:
    """React to a notification for an invocation; its token has been verified.

    A notification that was handled before, or comes after the end, writes nothing.

    Raises:
        PermanentError: there is no such invocation.
        ComeAgainError: the build is being asked for just now (its ID is not committed yet).
        TransientError: Buildbucket or the store failed; nothing was written.
    """
    calls = CallCache()
    for _ in range(runtime.limits.races):
        found = runtime.store.invocation(job_id, invocation_id)
        if found is None:
            raise PermanentError(f"notification for an invocation that doesn't exist: {job_id} {invocation_id}")
        invocation = found.value
        if invocation.status.is_final or message_id in invocation.handled_notifications:
            return
        if invocation.status.is_initial:
            _wait_for_the_launch(invocation, runtime.clock.now())
            return
        controller = runtime.controller(invocation, calls)
        _notify(runtime, controller, message_id)
        try:
            successors = commit_outcome(runtime, found, controller, f"{message_id}/notification")
        except StoreConflictError:
            continue
        launch_all(runtime, successors, message_id)
        return
    raise ComeAgainError(f"invocation {invocation_id} of {job_id} changes too fast to record a notification")


def _wait_for_the_launch(invocation: Invocation, now: Instant) -> None:
    if invocation.claim_until is not None and now < invocation.claim_until:
        raise ComeAgainError(f"invocation {invocation.id} of {invocation.job_id} is still starting, try again later")
    # The next launch attempt asks Buildbucket itself.
    logger.info("notification_before_launch", job_id=invocation.job_id, invocation_id=str(invocation.id))


def _notify(runtime: Runtime, controller: Controller, message_id: str) -> None:
    invocation = controller.invocation
    handled = (*invocation.handled_notifications, message_id)[-runtime.limits.handled_notifications :]
    controller.invocation = replace(invocation, handled_notifications=handled)
    if invocation.abort_requested_by:
        abort_running(runtime, controller, invocation.abort_requested_by)
        return
    manager = runtime.manager(invocation.task)
    _or_fail(runtime, controller, "PubSub notification", lambda: manager.handle_notification(controller))


def on_timer(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, timer_id: str, created: Instant, key: str
) -> None:
    """React to a timer's task. A stale one, a second one, or one that comes after the end writes nothing.

    Raises:
        ComeAgainError: the commit that records the timer is not visible yet (for five minutes from ``created``).
        TransientError: Buildbucket, the queue or the store failed; nothing was written, the timer stays.
    """
    calls = CallCache()
    for _ in range(runtime.limits.races):
        found = runtime.store.invocation(job_id, invocation_id)
        if found is None or found.value.mutations <= timer_mutation(timer_id):
            _ahead_of_its_commit(runtime, job_id, timer_id, created)
            return
        invocation = found.value
        timer = next((pending for pending in invocation.pending_timers if pending.id == timer_id), None)
        if invocation.status.is_final or timer is None:
            logger.info("timer_stale", job_id=job_id, invocation_id=str(invocation_id), timer_id=timer_id)
            return
        controller = runtime.controller(invocation, calls)
        logger.info("timer_came", timer_id=timer_id, lateness_ms=(runtime.clock.now() - timer.eta) // MILLISECOND)
        if invocation.abort_requested_by:
            abort_running(runtime, controller, invocation.abort_requested_by)
        else:
            _tick(runtime, controller, timer)
        try:
            successors = commit_outcome(runtime, found, controller, f"{key}/timer")
        except StoreConflictError:
            continue
        launch_all(runtime, successors, key)
        return
    raise ComeAgainError(f"invocation {invocation_id} of {job_id} changes too fast to handle timer {timer_id}")


def _tick(runtime: Runtime, controller: Controller, timer: Timer) -> None:
    controller.consume(timer)
    controller.log(log_lines.HANDLING_TIMER.format(title=quote(timer.title), timer_id=timer.id))
    manager = runtime.manager(controller.invocation.task)
    _or_fail(runtime, controller, "timer", lambda: manager.handle_timer(controller, timer))


def _ahead_of_its_commit(runtime: Runtime, job_id: JobId, timer_id: str, created: Instant) -> None:
    missing = f"timer {timer_id} of {job_id} is ahead of the commit that records it"
    about = {"job_id": job_id, "timer_id": timer_id, "reason": "the commit that records it never came"}
    runtime.wait_for_commit(created, missing, event="timer_dropped", **about)


def _or_fail(runtime: Runtime, controller: Controller, what: str, handle: Callable[[], None]) -> None:
    """Let the manager handle a timer or a notification; a permanent error fails the invocation.

    So does a build service that has not answered for longer than a build lives: only then does silence end an invocation.
    """
    try:
        handle()
    except TransientError as error:
        silent_since = max(controller.invocation.started, controller.invocation.last_line)
        if runtime.clock.now() - silent_since < runtime.limits.silence:
            raise
        _give_up(runtime, controller, silent_since, error)
    except PermanentError as error:
        if controller.invocation.status is not Status.FAILED:
            controller.log(log_lines.HANDLER_FAILED.format(event=what, error=error))
            controller.set_status(Status.FAILED)


def _give_up(runtime: Runtime, controller: Controller, silent_since: Instant, error: TransientError) -> None:
    invocation = controller.invocation
    silence = format_duration(runtime.clock.now() - silent_since)
    controller.log(log_lines.SILENT.format(silence=silence, url=invocation.view_url))
    controller.set_status(Status.FAILED)
    logger.error("build_unknown", job_id=invocation.job_id, invocation_id=str(invocation.id), error=str(error))
