"""The ``echo`` task kind: writes a text into the debug log. The example of docs/how-to/add-a-task-kind.md."""

from collections.abc import Sequence
from typing import Any, ClassVar

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.task_kind import Fact, TaskCheck, TaskKind
from luci_scheduler.managers.task_manager import TaskManager

_MAX_TIMES = 100


class EchoKind(TaskKind):
    """Writes a text into the debug log, once a second."""

    name: ClassVar[str] = "echo"
    schema: ClassVar[str] = "1 text string, 2 times int32"
    job_field: ClassVar[int] = 1900
    verbs: ClassVar[tuple[str, str]] = ("was echoed", "is echoed")

    def manager(self, environment: Environment) -> TaskManager:
        """Return the manager that writes."""
        return EchoManager()

    def check(self, task: Any, check: TaskCheck) -> None:
        """Require a text, and limit the repetitions."""
        if not task.text:
            check.error("field 'text' is required", "text")
        if not 0 <= task.times <= _MAX_TIMES:
            check.error(f"'times' must be from 0 to {_MAX_TIMES}, got {task.times}", "times")

    def launch_time(self, task: TaskDefinition) -> int:
        """Return one second for each repetition."""
        return _times(task) * SECOND

    def facts(self, invocation: Invocation) -> Sequence[Fact]:
        """Return the text as a row of the invocation page."""
        return (Fact("Echo", str(invocation.task.fields["text"])),)


class EchoManager:
    """``TaskManager`` for ``echo``: a launch writes all lines and ends the invocation."""

    def idle(self, controller: Controller) -> bool:
        """Return False: a launch always has something to do."""
        return False

    def launch(self, controller: Controller) -> None:
        """Write the text, then succeed."""
        task = controller.invocation.task
        text = str(task.fields["text"])
        if not text.isprintable():
            controller.log("The text has characters that cannot be printed")
            raise PermanentError("the text of the echo task is not printable")
        for number in range(_times(task)):
            controller.call_once(f"pause {number}", lambda: controller.clock.sleep(SECOND))
            controller.log(f"Echo: {text}")
        controller.set_status(Status.SUCCEEDED)

    def handle_notification(self, controller: Controller) -> None:
        """Do nothing: no service sends notifications about an echo."""

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Do nothing: an echo sets no timers."""

    def abort(self, controller: Controller) -> None:
        """Do nothing: there is no external task."""


def _times(task: TaskDefinition) -> int:
    return int(task.fields.get("times", 0)) or 1
