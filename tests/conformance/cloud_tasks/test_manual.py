"""Manual dispatch: the host delivers tasks one at a time with `next_due`, `due` and `dispatch`."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud import tasks_v2
from google.protobuf import timestamp_pb2

from emulator.clock import SteppedClock
from emulator.cloud_tasks import CloudTasksServer, NotFoundError, RetryConfig
from tests.conformance.cloud_tasks.support import LOCATION, START, Target

SECOND = 10**9
MS = 10**6
QUEUE = f"{LOCATION}/queues/q"


@pytest.fixture(autouse=True)
def one_queue(manual: CloudTasksServer) -> None:
    """Each test of this file has one empty queue."""
    manual.create_queue(QUEUE, retry_config=RetryConfig(max_attempts=4))


def add(client: tasks_v2.CloudTasksClient, url: str, *, after: int = 0, **request: Any) -> str:
    """Create a task and return its name."""
    at = START + after
    schedule_time = timestamp_pb2.Timestamp(seconds=at // SECOND, nanos=at % SECOND)
    task = {"schedule_time": schedule_time, "http_request": {"url": url, **request}}
    return client.create_task(parent=QUEUE, task=task).name


def test_a_host_replays_timers_in_virtual_time(
    manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock, target: Target
):
    """An hour of timers runs in moments, each exactly at its time and in order.

    Without `dispatch` no task is delivered.
    """
    for after in (1800, 60, 3600):
        add(manual_client, target.url(f"/{after}"), after=after * SECOND)
    while (due_at := manual.next_due()) is not None:
        clock.move_to(max(clock.now(), due_at))
        assert len(target.received) == len(manual.stats().attempts_by_task)
        (task,) = manual.due()
        assert manual.dispatch(task.name) == 200
    assert [received.path for received in target.received] == ["/60", "/1800", "/3600"]
    assert clock.now() == START + 3600 * SECOND
    assert manual.stats().outcomes == {"succeeded": 3}


def test_failures_are_due_again_after_the_backoff_of_the_clock(
    manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock, target: Target
):
    """The waits are 0.1, 0.2 and 0.4 s, and the fourth failure ends the task. The headers show the attempts."""
    target.scripts["/"].statuses.extend([500, 404, 409, 500])
    name = add(manual_client, target.url())
    waits = []
    while (due_at := manual.next_due()) is not None:
        waits.append((due_at - clock.now()) // MS)
        clock.move_to(due_at)
        manual.dispatch(name)
    assert waits == [0, 100, 200, 400]
    counts = [
        tuple(
            received.headers.get(f"x-cloudtasks-task{key}")
            for key in ("retrycount", "executioncount", "previousresponse")
        )
        for received in target.received
    ]
    assert counts == [("0", "0", None), ("1", "0", "500"), ("2", "1", "404"), ("3", "2", "409")]
    assert {received.headers["x-cloudtasks-tasketa"] for received in target.received} == {"1773756432.882000"}
    assert manual.stats().outcomes == {"retry": 3, "given up": 1}
    assert manual.stats().attempts_by_task == {name: 4}


def test_a_host_may_deliver_early_late_out_of_order_and_on_a_paused_queue(
    manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, target: Target
):
    """`dispatch` only needs an existing task."""
    first = add(manual_client, target.url("/first"), after=SECOND)
    second = add(manual_client, target.url("/second"), after=2 * SECOND)
    manual_client.pause_queue(name=QUEUE)
    assert (manual.due(START + 5 * SECOND), manual.next_due()) == ([], None)
    assert [manual.dispatch(name) for name in (second, first)] == [200, 200]
    assert [received.path for received in target.received] == ["/second", "/first"]
    with pytest.raises(NotFoundError):
        manual.dispatch(first)


def test_a_lost_answer_makes_a_duplicate(
    manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock, target: Target
):
    """The target executes the task twice, although it responded the first time."""
    name = add(manual_client, target.url())
    assert manual.dispatch(name, lose_answer=True) == 200
    due_at = manual.next_due()
    assert due_at == START + 100 * MS
    clock.move_to(due_at)
    assert manual.dispatch(name) == 200
    assert [received.headers["x-cloudtasks-taskexecutioncount"] for received in target.received] == ["0", "0"]


def test_run_task_makes_a_future_task_of_a_paused_queue_due(
    manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, target: Target
):
    """RunTask overrides pause and schedule; the host still delivers it."""
    name = add(manual_client, target.url(), after=3600 * SECOND)
    manual_client.pause_queue(name=QUEUE)
    assert manual.next_due() is None
    manual_client.run_task(name=name)
    assert manual.next_due() == START
    assert [task.name for task in manual.due()] == [name]
    assert manual.dispatch(name) == 200


def test_a_missing_target_is_status_zero(
    manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock, target: Target
):
    """The retry has the status 0 in its header."""
    gone = Target()
    url = gone.url()
    gone.close()
    name = add(manual_client, url)
    assert manual.dispatch(name) == 0
    task = manual_client.get_task(name=name)
    assert (task.dispatch_count, task.response_count) == (1, 0)
    assert task.last_attempt.response_status.code == 14


def test_a_task_records_its_attempts(
    manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock, target: Target
):
    """A task has counts, times and the last status; of the first attempt it has only the dispatch time."""
    target.scripts["/"].statuses.extend([503, 404])
    name = add(manual_client, target.url())
    manual.dispatch(name)
    clock.advance(SECOND)
    manual.dispatch(name)
    task = manual_client.get_task(name=name)
    assert (task.dispatch_count, task.response_count) == (2, 2)
    assert task.first_attempt.dispatch_time.timestamp() == START / SECOND
    assert "response_time" not in task.first_attempt
    assert task.last_attempt.response_status.code == 5
    assert task.last_attempt.response_time.timestamp() == (START + SECOND) / SECOND
    assert task.schedule_time.timestamp() == pytest.approx((START + 1_200 * MS) / SECOND)


def test_due_returns_copies(manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, target: Target):
    """A host cannot change the server's state by accident."""
    name = add(manual_client, target.url())
    manual.due()[0].schedule_time = 0
    assert manual.next_due() == START
    assert manual.dispatch(name) == 200
