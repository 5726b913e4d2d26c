"""Progress of running invocations: notifications and timers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import ComeAgainError, PermanentError, TransientError
from luci_scheduler.core.go_text import format_duration, quote
from luci_scheduler.core.identifiers import InvocationId, JobId, timer_mutation
from luci_scheduler.core.instants import MILLISECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.engine.abort import abort_running
from luci_scheduler.engine.launch import update_and_launch
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import CallCache, Controller, Hint
from luci_scheduler.ports import Versioned

__all__ = ["on_notification", "on_timer"]


def on_notification(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, message_id: str, hint: Hint | None = None
) -> None:
    """Handle a notification of an invocation's build. The caller has verified its token, or passes its ``hint``.

    A repeated notification, or a notification after the end, writes nothing. The message ID is the delivery's key.

    Raises:
        PermanentError: there is no such invocation, or its task is not of the hint's kind.
        ComeAgainError: a launch is in progress, and the build's ID is not committed yet.
        TransientError: the build service or the store failed; nothing was written.
    """
    calls = CallCache()

    def decide(found: Versioned[Invocation] | None) -> Controller | None:
        if found is None or (hint and hint.kind != found.value.task.kind):
            raise PermanentError(f"notification for an invocation that doesn't exist: {job_id} {invocation_id}")
        invocation = found.value
        if invocation.status.is_final or message_id in invocation.handled_notifications:
            if hint and message_id not in invocation.handled_notifications:
                _notify_ended(runtime, runtime.controller(invocation, calls), hint)
            return None
        if invocation.status.is_initial:
            _wait_for_launch(invocation, runtime.clock.now(), hint)
            return None
        controller = runtime.controller(invocation, calls)
        _notify(runtime, controller, message_id, hint)
        return controller

    update_and_launch(runtime, job_id, invocation_id, "record a notification", "notification", message_id, decide)


def on_timer(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, timer_id: str, created: Instant, key: str
) -> None:
    """Handle a timer's task. A stale or repeated timer, or a timer after the end, writes nothing.

    Raises:
        ComeAgainError: the commit that records the timer is not visible yet (for five minutes from ``created``).
        TransientError: Buildbucket, the queue or the store failed; nothing was written, and the timer stays.
    """
    calls = CallCache()

    def decide(found: Versioned[Invocation] | None) -> Controller | None:
        # The timer's ID holds the mutation that adds the timer: a lower counter means that its commit is not visible.
        if found is None or found.value.mutations <= timer_mutation(timer_id):
            missing = f"timer {timer_id} of {job_id} is ahead of the commit that records it"
            about = {"job_id": job_id, "timer_id": timer_id, "reason": "the commit that records it never came"}
            runtime.wait_for_commit(created, missing, event="timer_dropped", **about)
            return None
        invocation = found.value
        timer = next((pending for pending in invocation.pending_timers if pending.id == timer_id), None)
        if invocation.status.is_final or timer is None:
            logger.info("timer_stale", job_id=job_id, invocation_id=str(invocation_id), timer_id=timer_id)
            return None
        controller = runtime.controller(invocation, calls)
        _tick(runtime, controller, timer)
        return controller

    update_and_launch(runtime, job_id, invocation_id, f"handle timer {timer_id}", "timer", key, decide)


def _wait_for_launch(invocation: Invocation, now: Instant, hint: Hint | None) -> None:
    # A hint may name a build that the next attempt does not find, and no other message may announce that build.
    if hint or (invocation.claim_until is not None and now < invocation.claim_until):
        raise ComeAgainError(f"invocation {invocation.id} of {invocation.job_id} is still starting, try again later")
    # No launch is in progress. The next attempt finds the build itself, so this notification is not needed.
    logger.info("notification_before_launch", job_id=invocation.job_id, invocation_id=str(invocation.id))


def _notify_ended(runtime: Runtime, controller: Controller, hint: Hint) -> None:
    """Let the manager cancel a second build of an invocation that has ended."""
    controller.hint = hint
    runtime.manager(controller.invocation.task).handle_notification(controller)


def _notify(runtime: Runtime, controller: Controller, message_id: str, hint: Hint | None) -> None:
    invocation = controller.invocation
    handled = (*invocation.handled_notifications, message_id)[-runtime.limits.handled_notifications :]
    controller.invocation = replace(invocation, handled_notifications=handled)
    # The abort's own task may be lost or late; any delivery about the invocation performs it.
    if invocation.abort_requested_by:
        abort_running(runtime, controller, invocation.abort_requested_by)
        if hint:
            _notify_ended(runtime, controller, hint)
        return
    controller.hint = hint
    manager = runtime.manager(invocation.task)
    _or_fail(runtime, controller, "PubSub notification", lambda: manager.handle_notification(controller))


def _tick(runtime: Runtime, controller: Controller, timer: Timer) -> None:
    invocation = controller.invocation
    logger.info("timer_came", timer_id=timer.id, lateness_ms=(runtime.clock.now() - timer.eta) // MILLISECOND)
    if invocation.abort_requested_by:
        abort_running(runtime, controller, invocation.abort_requested_by)
        return
    controller.consume(timer)
    controller.log(log_lines.HANDLING_TIMER.format(title=quote(timer.title), timer_id=timer.id))
    manager = runtime.manager(invocation.task)
    _or_fail(runtime, controller, "timer", lambda: manager.handle_timer(controller, timer))


def _or_fail(runtime: Runtime, controller: Controller, event: str, handle: Callable[[], None]) -> None:
    """Let the manager handle a timer or a notification; a permanent error fails the invocation.

    A build service that fails to answer for longer than any build lives also fails it. A shorter silence is retried.
    """
    try:
        handle()
    except TransientError as error:
        silent_since = max(controller.invocation.started, controller.invocation.last_line)
        if runtime.clock.now() - silent_since < runtime.limits.silence:
            raise
        _give_up(runtime, controller, silent_since, error)
    except PermanentError as error:
        controller.set_summary(str(error))
        if controller.invocation.status is not Status.FAILED:
            controller.log(log_lines.HANDLER_FAILED.format(event=event, error=error))
            controller.set_status(Status.FAILED)


def _give_up(runtime: Runtime, controller: Controller, silent_since: Instant, error: TransientError) -> None:
    invocation = controller.invocation
    silence = format_duration(runtime.clock.now() - silent_since)
    controller.log(log_lines.SILENT.format(silence=silence, url=invocation.view_url))
    controller.set_summary(f"the build service has not answered for {silence}: {error}")
    controller.set_status(Status.FAILED)
    logger.error("build_unknown", job_id=invocation.job_id, invocation_id=str(invocation.id), error=str(error))
