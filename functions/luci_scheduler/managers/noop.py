"""The ``noop`` task kind: a job that sleeps and emits triggers, to try out schedules, triggers and policies."""

from __future__ import annotations

from typing import ClassVar

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.instants import MILLISECOND, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Status, Timer
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.task_kind import TaskKind
from luci_scheduler.managers.task_manager import TaskManager

__all__ = ["NoopKind", "NoopManager"]

_DEFAULT_SLEEP = 20 * SECOND  # the original's
_MAX_SLEEP = 8 * MINUTE
"""The time that one delivery has; a URL fetch may take as long. The original's requests had ten minutes."""
_MAX_TRIGGERS = 1000
"""The invocation's document holds all emitted triggers."""


class NoopKind(TaskKind):
    """Sleeps, emits triggers and ends; it has a single stage."""

    name: ClassVar[str] = "noop"
    schema: ClassVar[str] = "1 sleep_ms int64, 2 triggers_count int64"
    job_field: ClassVar[int] = 100
    trigger_field: ClassVar[int] = 100

    def manager(self, environment: Environment) -> TaskManager:  # noqa: ARG002 - it needs nothing of the outside world
        """Return the manager that sleeps."""
        return NoopManager()

    def launch_time(self, task: TaskDefinition) -> int:
        """Return how long the task sleeps, in nanoseconds."""
        return max(0, min(_sleep(task), _MAX_SLEEP))


def _sleep(task: TaskDefinition) -> int:
    return int(task.fields.get("sleep_ms", 0)) * MILLISECOND or _DEFAULT_SLEEP


class NoopManager:
    """``TaskManager`` for ``noop``: a launch sleeps, emits triggers and ends the invocation.

    It sleeps inside the delivery. A timer would add log lines and a state that the original does not have.
    """

    def idle(self, controller: Controller) -> bool:  # noqa: ARG002 - part of the protocol
        """Return False: a launch always has something to do."""
        return False

    def launch(self, controller: Controller) -> None:
        """Sleep, emit triggers, succeed. A delivery that decides again does not sleep again."""
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
            controller.emit_trigger(Trigger(f"noop:{invocation.id}:{number}", Instant(0), PayloadKind.NOOP))
        controller.set_status(Status.SUCCEEDED)

    def handle_notification(self, controller: Controller) -> None:
        """Do nothing: no service sends notifications about a noop task."""

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Do nothing: a noop task sets no timers."""

    def abort(self, controller: Controller) -> None:
        """Do nothing: there is no external task."""
