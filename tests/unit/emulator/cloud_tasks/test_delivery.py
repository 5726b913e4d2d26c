"""The request of a delivery, without sending it."""

from __future__ import annotations

import pytest

from emulator.cloud_tasks.delivery import request_headers, retry_after
from emulator.cloud_tasks.limits import Limits
from emulator.cloud_tasks.model import DeliveryResult, HttpRequest, RateLimits, RetryConfig
from emulator.cloud_tasks.queues import NewTask, Queues
from luci_scheduler.core.instants import HOUR, SECOND

NOW = 1_773_756_432_882_000_000
QUEUE = "projects/p/locations/l/queues/scheduler-timers"


def test_the_headers_of_the_first_attempt_and_of_a_retry():
    """A retry has the previous status, an empty reason, and the time for which the task was created."""
    queues = Queues(Limits())
    queues.create_queue(QUEUE, RateLimits(), RetryConfig(), NOW)
    request = HttpRequest("http://x/", headers=(("Content-Type", "application/json"),))
    queues.create_task(QUEUE, NewTask(request, f"{QUEUE}/tasks/t-1"), NOW)
    attempt = queues.take(NOW)
    assert attempt is not None
    first = {
        "Content-Type": "application/json",
        "User-Agent": "Google-Cloud-Tasks",
        "X-CloudTasks-QueueName": "scheduler-timers",
        "X-CloudTasks-TaskName": "t-1",
        "X-CloudTasks-TaskRetryCount": "0",
        "X-CloudTasks-TaskExecutionCount": "0",
        "X-CloudTasks-TaskETA": "1773756432.882000",
    }
    assert request_headers(attempt) == first
    queues.finish(attempt, DeliveryResult(404), NOW)
    retry = queues.take(NOW + HOUR)
    assert retry is not None
    assert request_headers(retry) == first | {
        "X-CloudTasks-TaskRetryCount": "1",
        "X-CloudTasks-TaskExecutionCount": "1",
        "X-CloudTasks-TaskPreviousResponse": "404",
        "X-CloudTasks-TaskRetryReason": "",
    }


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (None, None),
        ("120", 120 * SECOND),
        (" 0 ", 0),
        ("Tue, 17 Mar 2026 14:07:22 GMT", 9_118_000_000),
        ("Tue, 17 Mar 2026 14:07:02 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, wait: int | None):
    """Seconds count from now, a date is compared with the clock, and other text is ignored."""
    assert retry_after(value, NOW) == wait
