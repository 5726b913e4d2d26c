"""Requests to Cloud Tasks: the time, the deadline and the retries of each task."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from google.api_core import exceptions

from luci_scheduler.adapters import cloud_tasks
from luci_scheduler.adapters.cloud_tasks import LIMIT, CloudTasksQueue
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import QueueTask

QUEUE = "projects/p/locations/l/queues/q"
ETA = Instant(1_772_366_400 * SECOND + 123_456_789)


def _enqueued(task: QueueTask) -> Any:
    client = Mock()
    CloudTasksQueue(client, QUEUE, "https://run.invalid/", "a@p.iam.gserviceaccount.com", "audience").enqueue(task)
    (call,) = client.create_task.call_args_list
    return call.kwargs


def test_a_task_is_delivered_at_its_time_to_the_nanosecond() -> None:
    """A task that comes a part of a second early finds its work not due, and is delivered again."""
    task = _enqueued(QueueTask("timer", {}, ETA))["task"]
    assert (task._pb.schedule_time.seconds, task._pb.schedule_time.nanos) == divmod(ETA, SECOND)
    assert task.http_request.url == "https://run.invalid/timer"


def test_the_queue_waits_as_long_as_a_delivery_may_take() -> None:
    """A delivery that ends sooner for the queue than for the function would run twice at once."""
    task = _enqueued(QueueTask("launch", {}, ETA))["task"]
    assert task._pb.dispatch_deadline.seconds == cloud_tasks._DISPATCH_DEADLINE


def test_a_task_is_offered_once_within_the_limit() -> None:
    """The library's own retries would not count toward the limit."""
    call = _enqueued(QueueTask("launch", {}, ETA))
    assert call["retry"] is None
    assert 0 < call["timeout"] <= LIMIT


@pytest.mark.parametrize("error", [exceptions.InvalidArgument("bad queue"), exceptions.NotFound("no queue")])
def test_a_refused_task_is_never_lost(error: Exception) -> None:
    """Each refusal is about the queue's settings, which the operator can fix."""
    client: Any = Mock()
    client.create_task.side_effect = error
    queue = CloudTasksQueue(client, QUEUE, "https://run.invalid", "a@p.iam.gserviceaccount.com", "audience")
    with pytest.raises(TransientError, match=r"did not accept a launch task: .*queue"):
        queue.enqueue(QueueTask("launch", {}, ETA))
