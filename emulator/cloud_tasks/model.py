"""The data of the server: queue settings, tasks, attempts. Instants and durations are nanoseconds."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from emulator.cloud_tasks.limits import DEFAULT_DISPATCH_DEADLINE
from luci_scheduler.core.instants import HOUR, MILLISECOND

__all__ = [
    "NO_RESPONSE",
    "AttemptRecord",
    "DeliveryResult",
    "HttpRequest",
    "OidcToken",
    "QueueState",
    "RateLimits",
    "RetryConfig",
    "Task",
]

NO_RESPONSE = 0
"""The status of an attempt whose target could not be reached, as in Cloud Tasks' TaskPreviousResponse header."""


class QueueState(enum.Enum):
    """Whether a queue dispatches its tasks."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How fast a queue dispatches tasks; the defaults are those of a new queue."""

    max_dispatches_per_second: float = 500.0
    max_concurrent_dispatches: int = 1_000

    @property
    def max_burst_size(self) -> int:
        """The size of the token bucket: a fifth of the rate, between 10 and 100, as new queues report it."""
        return min(100, max(10, int(self.max_dispatches_per_second / 5)))


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """When a failed task is retried; the defaults are those of a new queue.

    ``max_attempts`` includes the first attempt, and -1 means no limit. A ``max_retry_duration`` of 0 means no limit.
    """

    max_attempts: int = 100
    max_retry_duration: int = 0
    min_backoff: int = 100 * MILLISECOND
    max_backoff: int = HOUR
    max_doublings: int = 16

    def backoff(self, failures: int) -> int:
        """Return the wait after the ``failures``-th failure (1 is the first).

        The wait starts at ``min_backoff``, doubles ``max_doublings`` times, then grows by its last doubled value each
        time. It never exceeds ``max_backoff``.
        """
        doublings = min(failures - 1, self.max_doublings)
        # A larger shift would exceed every possible max_backoff anyway.
        interval = self.min_backoff << min(doublings, 64)
        linear_steps = max(0, failures - 1 - self.max_doublings)
        return min(self.max_backoff, interval * (1 + linear_steps))

    def is_exhausted(self, attempts: int, since_first_attempt: int) -> bool:
        """Return whether to drop a failed task: whether it has reached every configured limit."""
        limits: list[bool] = []
        if self.max_attempts != -1:
            limits.append(attempts >= self.max_attempts)
        if self.max_retry_duration > 0:
            limits.append(since_first_attempt >= self.max_retry_duration)
        return bool(limits) and all(limits)


@dataclass(frozen=True, slots=True)
class OidcToken:
    """The identity in the request's token; an empty audience means the target's URL."""

    service_account_email: str
    audience: str = ""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The request to the target, as the creator specified it."""

    url: str
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    oidc_token: OidcToken | None = None


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The result of an attempt.

    Attributes:
        status: The HTTP status; `NO_RESPONSE` if the target was not reached, 504 if it did not respond within the
            deadline.
        retry_after: The wait that the target requested, in nanoseconds, if any.
        message: A sentence for people, without body or token.
        responded: Whether the target itself responded.
    """

    status: int
    retry_after: int | None = None
    message: str = ""
    responded: bool = True

    @property
    def is_success(self) -> bool:
        """Whether the task is done: any status of 2xx."""
        return 200 <= self.status <= 299  # noqa: PLR2004 - the range of HTTP's success codes


@dataclass(slots=True)
class AttemptRecord:
    """The record of an attempt; times are None until they happen."""

    schedule_time: int
    dispatch_time: int
    response_time: int | None = None
    result: DeliveryResult | None = None


@dataclass(slots=True, eq=False)
class Task:
    """A task on a queue. Only the queue changes it; the server returns copies.

    Attributes:
        name: The full resource name.
        eta: The schedule time at creation; ``schedule_time`` changes with every retry.
        is_named: Whether the creator chose the name. Such a name stays reserved for a while after the task is gone.
        forced_at: The time of a RunTask request, until its attempt begins. Such a task ignores the queue's state and
            limits.
        in_flight: The number of attempts that have not ended.
        execution_count: The number of responses other than 5xx.
    """

    name: str
    request: HttpRequest
    eta: int
    schedule_time: int
    create_time: int
    dispatch_deadline: int = DEFAULT_DISPATCH_DEADLINE
    retry_config: RetryConfig | None = None
    is_named: bool = False
    forced_at: int | None = None
    in_flight: int = 0
    dispatch_count: int = 0
    response_count: int = 0
    execution_count: int = 0
    first_attempt: AttemptRecord | None = None
    last_attempt: AttemptRecord | None = None
    # The number of the task's valid entry in the queue's agenda; 0 means none.
    agenda_entry: int = field(default=0, repr=False)
