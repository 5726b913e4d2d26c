"""Limits and defaults of Cloud Tasks, each with the page it comes from; durations are nanoseconds, sizes bytes."""

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
# "Quotas and limits": the service itself says "no more than 720h in the future".
MAX_SCHEDULE_AHEAD = 30 * DAY
# CreateQueue, API reference v2: a task is deleted at that age, delivered or not.
MAX_TASK_AGE = 31 * DAY
# ListTasksRequest.page_size, ListQueuesRequest.page_size, and the life of their page tokens, API reference v2.
MAX_TASK_PAGE = 1_000
MAX_QUEUE_PAGE = 9_800
PAGE_TOKEN_LIFE = 2 * HOUR
# A gRPC client takes 4 MiB in one message; a page of full tasks stops before that.
BATCH_BYTES = 3 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What the documentation leaves open, or what a test wants shorter.

    Attributes:
        task_tombstone: How long the name of a finished or deleted task stays used. The API reference has said about an
            hour, and later up to 24 hours: depend on neither.
        queue_tombstone: How long the name of a deleted queue stays used (DeleteQueue, API reference v2: up to 3 days).
        max_task_bytes: The largest task that is accepted, as serialized. CreateTask, API reference v2, says 100 KB; the
            quota page says 1 MB. The smaller one: what is accepted here is accepted there.
    """

    task_tombstone: int = HOUR
    queue_tombstone: int = 3 * DAY
    max_task_bytes: int = 100 * 1024
