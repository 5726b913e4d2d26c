"""A Cloud Tasks server for the real client libraries; see docs/reference/cloud-tasks-server.md."""

from __future__ import annotations

from emulator.cloud_tasks.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    TasksError,
    UnimplementedError,
)
from emulator.cloud_tasks.limits import Limits
from emulator.cloud_tasks.model import HttpRequest, OidcToken, RateLimits, RetryConfig, Task
from emulator.cloud_tasks.queues import Stats
from emulator.cloud_tasks.server import CloudTasksServer

__all__ = [
    "AlreadyExistsError",
    "CloudTasksServer",
    "FailedPreconditionError",
    "HttpRequest",
    "InvalidArgumentError",
    "Limits",
    "NotFoundError",
    "OidcToken",
    "RateLimits",
    "RetryConfig",
    "Stats",
    "Task",
    "TasksError",
    "UnimplementedError",
]
