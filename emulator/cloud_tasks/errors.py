"""What a caller did wrong, by the status code it is answered with.

TasksError
├── InvalidArgumentError      the request can never be right; the message names the field
├── NotFoundError             no such queue or task
├── AlreadyExistsError        the name is in use, or was until recently
├── FailedPreconditionError   not in this state
└── UnimplementedError        Cloud Tasks has it, this server does not
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AlreadyExistsError",
    "FailedPreconditionError",
    "InvalidArgumentError",
    "NotFoundError",
    "TasksError",
    "UnimplementedError",
]


class TasksError(Exception):
    """A refusal; ``code`` is the name of its gRPC status code."""

    code: ClassVar[str] = "UNKNOWN"


class InvalidArgumentError(TasksError):
    """The request can never be right; the message begins with the field's name."""

    code: ClassVar[str] = "INVALID_ARGUMENT"


class NotFoundError(TasksError):
    """There is no such queue or task (any more)."""

    code: ClassVar[str] = "NOT_FOUND"


class AlreadyExistsError(TasksError):
    """The name is in use, or was until recently."""

    code: ClassVar[str] = "ALREADY_EXISTS"


class FailedPreconditionError(TasksError):
    """The request may be right at another time."""

    code: ClassVar[str] = "FAILED_PRECONDITION"


class UnimplementedError(TasksError):
    """Cloud Tasks has this, the server of the local cloud does not; the ledger lists it."""

    code: ClassVar[str] = "UNIMPLEMENTED"
