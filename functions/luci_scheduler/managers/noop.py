"""The task manager of jobs that do nothing for a while; they try out schedules, triggers and policies."""

from __future__ import annotations

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.instants import MILLISECOND, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Status, Timer
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.managers.controller import Controller

__all__ = ["NoopManager", "launch_time"]

_DEFAULT_SLEEP = 20 * SECOND
_MAX_SLEEP = 8 * MINUTE
"""What one delivery has time for; as long as a URL fetch may take. The original's own limit was its request's ten minutes."""
_MAX_TRIGGERS = 1000
"""They are kept in the invocation's document."""


def launch_time(task: TaskDefinition) -> int:
    """Return how long the launch of a task blocks, in nanoseconds."""
    return max(0, min(_sleep(task), _MAX_SLEEP))


def _sleep(task: TaskDefinition) -> int:
    return int(task.fields.get("sleep_ms", 0)) * MILLISECOND or _DEFAULT_SLEEP


class NoopManager:
    """``TaskManager`` for ``noop``: its launch sleeps, emits triggers and ends the invocation.

    It sleeps inside the delivery because a timer would leave lines in the log, and a state, that the original's has not.
    """

    def idle(self, controller: Controller) -> bool:  # noqa: ARG002 - part of the protocol
        """Tell that there is always something to do."""
        return False

    def launch(self, controller: Controller) -> None:
        """Sleep, emit triggers, succeed; a delivery that decides again does not sleep again."""
        invocation = controller.invocation
        sleep = _sleep(invocation.task)
        count = int(invocation.task.fields.get("triggers_count", 0))
        controller.log(log_lines.NOOP_RUNNING.format(sleep=format_duration(sleep)))
        if sleep > _MAX_SLEEP or count > _MAX_TRIGGERS:
            most = format_duration(_MAX_SLEEP)
            controller.log(log_lines.NOOP_TOO_LARGE.format(sleep=most, triggers=_MAX_TRIGGERS))
            raise PermanentError("the noop task sleeps too long or emits too many triggers")
        controller.call_once("sleep", lambda: controller.clock.sleep(sleep))
        for number in range(count):
            controller.emit_trigger(Trigger(f"noop:{invocation.id}:{number}", Instant(0), "noop"))
        controller.set_status(Status.SUCCEEDED)

    def handle_notification(self, controller: Controller) -> None:
        """Do nothing: nobody notifies."""

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Do nothing: there are no timers."""

    def abort(self, controller: Controller) -> None:
        """Do nothing: there is no external task."""
