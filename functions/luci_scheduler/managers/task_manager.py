"""What a task manager is: how invocations of one task kind are launched, watched and aborted.

A task kind is added by one module (or package) beside this one and one line in ``registry``.
"""

from __future__ import annotations

from typing import Protocol

from luci_scheduler.core.invocation import Timer
from luci_scheduler.managers.controller import Controller

__all__ = ["TaskManager"]


class TaskManager(Protocol):
    """The handling of one task kind.

    Every method changes the invocation through the controller only; nothing is stored until the engine commits what
    the controller holds. A method may be called again for the same delivery, when another handler got in between: what
    the outside world answered must therefore be asked through ``Controller.call_once``, which remembers it.

    Raises (every method):
        TransientError: trying again later may help. The engine drops what the controller gathered, but it keeps a launch as
            RETRYING, and an end that cannot wait with a cleanup, which calls ``abort`` again later.
        PermanentError: the invocation fails.
    """

    def idle(self, controller: Controller) -> bool:
        """Whether a launch would find nothing to do, so that a cron tick need not keep an invocation for it.

        Asked with an invocation that exists only in memory, before each tick's triage; what the outside world answers
        through ``Controller.call_once`` is known to the launch that may follow in the same delivery. An error raised here
        counts as "no": the launch meets it again, and tells.
        """

    def launch(self, controller: Controller) -> None:
        """Start the external task, or finish the whole invocation; must move the status out of the initial ones.

        Called again after a failed or interrupted attempt (``controller.invocation.attempts`` > 1): the external task
        may exist already and must not be started twice.
        """

    def handle_notification(self, controller: Controller) -> None:
        """React to a hint that the external task has changed. The hint itself carries no facts."""

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """React to a timer; it is consumed already. A title that the manager does not know is ignored."""

    def abort(self, controller: Controller) -> None:
        """Stop the external task, if there is or may be one; the engine sets the status afterwards."""
