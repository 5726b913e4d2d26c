"""How a command ends: its exit code, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CommandError", "Exit"]


class Exit(IntEnum):
    """The command's exit codes."""

    DONE = 0
    FAILED = 1
    WRONG_USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNAVAILABLE = 5
    ABORTED = 6
    DISCARDED = 7
    IMPATIENT = 8
    INTERRUPTED = 130


class CommandError(Exception):
    """The command has failed; holds a text for people and the exit code.

    Args:
        text: the reason, for people.
        code: the exit code.
        is_sent: whether the console may have received the request.
        names_job: whether the API's answer says that a job does not exist or is not visible.
    """

    def __init__(self, text: str, code: Exit = Exit.FAILED, *, is_sent: bool = True, names_job: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.is_sent = is_sent
        self.names_job = names_job
