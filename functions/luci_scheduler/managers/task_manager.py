"""The interface of a task manager: how invocations of one task kind are launched, watched and aborted."""

from __future__ import annotations

from typing import Protocol

from luci_scheduler.core.invocation import Timer
from luci_scheduler.managers.controller import Controller

__all__ = ["TaskManager"]


class TaskManager(Protocol):
    """Handles the invocations of one task kind.

    Every method changes the invocation through the controller only. Nothing is stored until the engine commits the
    controller's changes. If another handler commits first, the engine calls the method again for the same delivery.
    Make all calls of external services through ``Controller.call_once``, which remembers the responses.

    Raises (every method):
        TransientError: a later try may succeed. The engine drops the controller's changes, with two exceptions: a
            launch becomes RETRYING, and an end that cannot wait is committed with a cleanup, which calls ``abort``
            again later.
        PermanentError: the invocation fails.
    """

    def idle(self, controller: Controller) -> bool:
        """Whether a launch would find nothing to do, so that a cron tick needs no invocation.

        The engine calls this before the triage of each tick, with an invocation that exists only in memory. A launch
        that follows in the same delivery shares the responses in ``Controller.call_once``. An error raised here means
        "no": the launch meets the same error and reports it.
        """

    def launch(self, controller: Controller) -> None:
        """Start the external task, or finish the whole invocation. Set a status other than the initial ones.

        The engine calls this again after a failed or interrupted attempt (``controller.invocation.attempts`` > 1). The
        external task may already exist then, and must not start twice.
        """

    def handle_notification(self, controller: Controller) -> None:
        """React to a notification that the external task has changed. It proves nothing.

        ``controller.hint`` names the task of a notification without a token. The engine passes such notifications on
        even after the end of the invocation, so that the manager can stop a second task. It then stores nothing.
        """

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """React to a timer, which the engine has already consumed. Ignore timers with an unknown title."""

    def abort(self, controller: Controller) -> None:
        """Stop the external task if one exists or may exist. The engine sets the status afterwards."""
