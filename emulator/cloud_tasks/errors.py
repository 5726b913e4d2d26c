"""Errors of the service, one class per gRPC status code.

TasksError
├── InvalidArgumentError      the request can never succeed; the message names the field
├── NotFoundError             no such queue or task
├── AlreadyExistsError        the name is or was recently in use
├── FailedPreconditionError   the request may succeed at another time
└── UnimplementedError        Cloud Tasks supports it, this server does not
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
    """A refused request; ``code`` is the name of the gRPC status code."""

    code: ClassVar[str] = "UNKNOWN"


class InvalidArgumentError(TasksError):
    """The request can never succeed; the message begins with the field's name."""

    code: ClassVar[str] = "INVALID_ARGUMENT"


class NotFoundError(TasksError):
    """The queue or task does not exist, or no longer exists."""

    code: ClassVar[str] = "NOT_FOUND"


class AlreadyExistsError(TasksError):
    """The name is or was recently in use."""

    code: ClassVar[str] = "ALREADY_EXISTS"


class FailedPreconditionError(TasksError):
    """The request may succeed at another time."""

    code: ClassVar[str] = "FAILED_PRECONDITION"


class UnimplementedError(TasksError):
    """Cloud Tasks supports the request, this server does not. The conformance ledger lists such requests."""

    code: ClassVar[str] = "UNIMPLEMENTED"
