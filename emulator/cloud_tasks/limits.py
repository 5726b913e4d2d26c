"""Limits and defaults of Cloud Tasks, each with its source; durations are nanoseconds, sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass

from luci_scheduler.core.instants import DAY, HOUR, MINUTE, SECOND

__all__ = [
    "BATCH_BYTES",
    "DEFAULT_DISPATCH_DEADLINE",
    "MAX_CONCURRENT_DISPATCHES",
    "MAX_DISPATCHES_PER_SECOND",
    "MAX_DISPATCH_DEADLINE",
    "MAX_HEADER_BYTES",
    "MAX_QUEUE_PAGE",
    "MAX_SCHEDULE_AHEAD",
    "MAX_TASK_AGE",
    "MAX_TASK_PAGE",
    "MAX_URL_LENGTH",
    "MIN_DISPATCH_DEADLINE",
    "PAGE_TOKEN_LIFE",
    "Limits",
]

# RateLimits.max_dispatches_per_second and .max_concurrent_dispatches, API reference v2.
MAX_DISPATCHES_PER_SECOND = 500.0
MAX_CONCURRENT_DISPATCHES = 5_000
# Task.dispatch_deadline for HTTP targets, API reference v2.
MIN_DISPATCH_DEADLINE = 15 * SECOND
MAX_DISPATCH_DEADLINE = 30 * MINUTE
DEFAULT_DISPATCH_DEADLINE = 10 * MINUTE
# HttpRequest.url and HttpRequest.headers, API reference v2.
MAX_URL_LENGTH = 2083
MAX_HEADER_BYTES = 80 * 1024
# "Quotas and limits"; the service's error says "no more than 720h in the future".
MAX_SCHEDULE_AHEAD = 30 * DAY
# CreateQueue, API reference v2: the service deletes a task of this age, delivered or not.
MAX_TASK_AGE = 31 * DAY
# ListTasksRequest.page_size, ListQueuesRequest.page_size, and the lifetime of their page tokens, API reference v2.
MAX_TASK_PAGE = 1_000
MAX_QUEUE_PAGE = 9_800
PAGE_TOKEN_LIFE = 2 * HOUR
# A gRPC client accepts messages up to 4 MiB; a page of full tasks ends before that.
BATCH_BYTES = 3 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that the documentation leaves open or that a test shortens.

    Attributes:
        task_tombstone: How long the name of a finished or deleted task stays reserved. The API reference said about an
            hour, and later up to 24 hours, so depend on neither.
        queue_tombstone: How long the name of a deleted queue stays reserved (DeleteQueue, API reference v2: up to 3
            days).
        max_task_bytes: The size of the largest accepted task, serialized. CreateTask, API reference v2, says 100 KB;
            the quota page says 1 MB. With the smaller limit, Cloud Tasks accepts every task that this server accepts.
    """

    task_tombstone: int = HOUR
    queue_tombstone: int = 3 * DAY
    max_task_bytes: int = 100 * 1024
