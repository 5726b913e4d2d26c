"""Tasks through the real client: creation, names, views, lists, errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.protobuf import duration_pb2, timestamp_pb2

from emulator.clock import SteppedClock
from emulator.cloud_tasks import CloudTasksServer
from tests.conformance.cloud_tasks.support import LOCATION, START

SECOND = 10**9
HOUR = 3600 * SECOND
QUEUE = f"{LOCATION}/queues/q"
TARGET = {"http_request": {"url": "http://127.0.0.1:1/"}}


@pytest.fixture(autouse=True)
def one_queue(manual: CloudTasksServer) -> None:
    """Each test of this file has one empty queue."""
    manual.create_queue(QUEUE)


def named(task_id: str, **more: Any) -> dict[str, Any]:
    """Return a task with a name."""
    return {"name": f"{QUEUE}/tasks/{task_id}", **TARGET, **more}


def timestamp(instant: int) -> timestamp_pb2.Timestamp:
    """Return a Timestamp message."""
    return timestamp_pb2.Timestamp(seconds=instant // SECOND, nanos=instant % SECOND)


def test_a_created_task_has_a_name_times_and_defaults(manual_client: tasks_v2.CloudTasksClient):
    """A task without a name gets a number.

    The schedule time is now, the creation time is in whole seconds, and the deadline is ten minutes.
    """
    task = manual_client.create_task(parent=QUEUE, task=TARGET)
    assert task.name.startswith(f"{QUEUE}/tasks/")
    assert task.name.rpartition("/")[2].isdecimal()
    now = datetime.fromtimestamp(START // SECOND, tz=UTC)
    assert task.create_time == now
    assert task.schedule_time == now + timedelta(milliseconds=882)
    assert task.dispatch_deadline == timedelta(minutes=10)
    assert (task.dispatch_count, task.response_count) == (0, 0)
    assert task.view == tasks_v2.Task.View.BASIC
    assert task.http_request.http_method == tasks_v2.HttpMethod.POST
    assert "first_attempt" not in task
    assert manual_client.get_task(name=task.name) == task


def test_the_full_view_has_the_body_and_the_basic_view_does_not(manual_client: tasks_v2.CloudTasksClient):
    """This holds for each method with a view. Both views have the headers, including the future User-Agent."""
    request = {
        "url": "http://127.0.0.1:1/",
        "body": b"{}",
        "headers": {"X-Mixed-Case": "kept", "content-type": "application/json", "user-agent": "mine", "Host": "other"},
        "oidc_token": {"service_account_email": "a@example.com", "audience": "aud"},
    }
    basic, full = tasks_v2.Task.View.BASIC, tasks_v2.Task.View.FULL
    create = {"parent": QUEUE, "task": named("t", http_request=request)}
    name = create["task"]["name"]
    assert manual_client.create_task({**create, "response_view": full}).http_request.body == b"{}"
    assert manual_client.run_task({"name": name, "response_view": full}).http_request.body == b"{}"
    for view, body in ((full, b"{}"), (basic, b""), (None, b"")):
        got = manual_client.get_task({"name": name, "response_view": view})
        (listed,) = manual_client.list_tasks({"parent": QUEUE, "response_view": view})
        assert got == listed
        assert got.http_request.body == body
        assert got.view == (view or basic)
        assert dict(got.http_request.headers) == {
            "X-Mixed-Case": "kept",
            "content-type": "application/json",
            "User-Agent": "Google-Cloud-Tasks",
        }
        assert got.http_request.oidc_token.service_account_email == "a@example.com"
    with pytest.raises(exceptions.InvalidArgument, match="response_view"):
        manual_client.get_task({"name": name, "response_view": 7})


def test_a_used_name_already_exists_for_an_hour(manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock):
    """This holds while the task exists and until its tombstone ends."""
    name = manual_client.create_task(parent=QUEUE, task=named("t")).name
    with pytest.raises(exceptions.AlreadyExists):
        manual_client.create_task(parent=QUEUE, task=named("t"))
    manual_client.delete_task(name=name)
    for method in (manual_client.get_task, manual_client.delete_task, manual_client.run_task):
        with pytest.raises(exceptions.NotFound, match="any more"):
            method(name=name)
    clock.advance(HOUR - 1)
    with pytest.raises(exceptions.AlreadyExists):
        manual_client.create_task(parent=QUEUE, task=named("t"))
    clock.advance(1)
    manual_client.create_task(parent=QUEUE, task=named("t"))


def test_a_missing_task_is_not_found(manual_client: tasks_v2.CloudTasksClient):
    """Get, delete and run fail with NOT_FOUND."""
    for method in (manual_client.get_task, manual_client.delete_task, manual_client.run_task):
        with pytest.raises(exceptions.NotFound):
            method(name=f"{QUEUE}/tasks/none")


@pytest.mark.parametrize("task_id", ["", "a b", "a.b", "x" * 501, "ä"])
def test_malformed_task_names_are_refused(manual_client: tasks_v2.CloudTasksClient, task_id: str):
    """A task's ID is 1 to 500 letters, digits, hyphens and underscores."""
    with pytest.raises(exceptions.InvalidArgument, match=r"task\.name"):
        manual_client.create_task(parent=QUEUE, task=named(task_id))
    with pytest.raises(exceptions.InvalidArgument, match="name"):
        manual_client.get_task(name=f"{QUEUE}/tasks/{task_id}")


def test_the_longest_name_is_accepted_and_another_queues_name_is_refused(manual_client: tasks_v2.CloudTasksClient):
    """500 characters are allowed; the name must belong to the parent's queue."""
    manual_client.create_task(parent=QUEUE, task=named("x" * 500))
    with pytest.raises(exceptions.InvalidArgument, match=r"task\.name"):
        manual_client.create_task(parent=QUEUE, task={"name": f"{LOCATION}/queues/other/tasks/t", **TARGET})


def test_a_past_schedule_time_becomes_now_and_a_future_one_is_kept(
    manual_client: tasks_v2.CloudTasksClient, manual: CloudTasksServer
):
    """Times are truncated to microseconds."""
    past = manual_client.create_task(parent=QUEUE, task=named("past", schedule_time=timestamp(START - HOUR)))
    assert past.schedule_time.timestamp() == START / SECOND
    manual_client.create_task(parent=QUEUE, task=named("future", schedule_time=timestamp(START + HOUR + 1_999)))
    assert [task.schedule_time for task in manual.due(START + 2 * HOUR)] == [START, START + HOUR + 1_000]


def test_thirty_days_ahead_is_the_furthest(manual_client: tasks_v2.CloudTasksClient):
    """720 hours are accepted, a microsecond more is not."""
    limit = START + 720 * HOUR
    manual_client.create_task(parent=QUEUE, task=named("a", schedule_time=timestamp(limit)))
    with pytest.raises(exceptions.InvalidArgument, match=r"task\.schedule_time"):
        manual_client.create_task(parent=QUEUE, task=named("b", schedule_time=timestamp(limit + 1_000)))


@pytest.mark.parametrize(("seconds", "accepted"), [(14, False), (15, True), (1800, True), (1801, False), (0, False)])
def test_the_dispatch_deadline_has_bounds(manual_client: tasks_v2.CloudTasksClient, seconds: int, *, accepted: bool):
    """The bounds are 15 s and 30 min."""
    task = named("t", dispatch_deadline=duration_pb2.Duration(seconds=seconds))
    if accepted:
        created = manual_client.create_task(parent=QUEUE, task=task)
        assert created.dispatch_deadline == timedelta(seconds=seconds)
    else:
        with pytest.raises(exceptions.InvalidArgument, match=r"task\.dispatch_deadline"):
            manual_client.create_task(parent=QUEUE, task=task)


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"url": ""}, "url"),
        ({"url": "ftp://x/"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "http://x/a b"}, "url"),
        ({"url": "http://x/" + "y" * 2075}, "url"),
        ({"url": "http://x/", "http_method": 99}, "http_method"),
        ({"url": "http://x/", "http_method": "GET", "body": b"x"}, "body"),
        ({"url": "http://x/", "http_method": "DELETE", "body": b"x"}, "body"),
        ({"url": "http://x/", "headers": {"a b": "c"}}, "headers"),
        ({"url": "http://x/", "headers": {"a": "b\r\nc: d"}}, "headers"),
        ({"url": "http://x/", "headers": {"a": "x" * 80 * 1024}}, "headers"),
        ({"url": "http://x/", "oidc_token": {"service_account_email": "nobody"}}, "service_account_email"),
    ],
)
def test_bad_targets_are_refused(manual_client: tasks_v2.CloudTasksClient, request_fields: dict[str, Any], field: str):
    """INVALID_ARGUMENT names the field."""
    with pytest.raises(exceptions.InvalidArgument, match=rf"task\.http_request\.\S*{field}"):
        manual_client.create_task(parent=QUEUE, task={"http_request": request_fields})


def test_a_task_needs_a_target_and_a_size_within_the_limit(manual_client: tasks_v2.CloudTasksClient):
    """A missing target and a body of 100 KB are INVALID_ARGUMENT, and so is a message above gRPC's default limit."""
    with pytest.raises(exceptions.InvalidArgument, match=r"task\.http_request"):
        manual_client.create_task(parent=QUEUE, task={})
    for size in (100 * 1024, 6 * 1024 * 1024):
        with pytest.raises(exceptions.InvalidArgument, match=r"task: .*larger"):
            manual_client.create_task(parent=QUEUE, task={"http_request": {"url": "http://x/", "body": b"x" * size}})
    manual_client.create_task(parent=QUEUE, task={"http_request": {"url": "http://x/", "body": b"x" * 100 * 1000}})


def test_a_tasks_own_retry_settings_are_kept_and_checked(manual_client: tasks_v2.CloudTasksClient):
    """The task's settings override the queue's."""
    task = manual_client.create_task(parent=QUEUE, task=named("t", retry_config={"max_attempts": 3}))
    assert task.retry_config.max_attempts == 3
    with pytest.raises(exceptions.InvalidArgument, match=r"task\.retry_config\.max_attempts"):
        manual_client.create_task(parent=QUEUE, task=named("u", retry_config={"max_attempts": -2}))


def test_tasks_are_listed_in_pages_that_survive_deletions(manual_client: tasks_v2.CloudTasksClient):
    """Each remaining task is listed once, although the last task of a page was deleted."""
    names = sorted(manual_client.create_task(parent=QUEUE, task=TARGET).name for _ in range(7))
    first = next(manual_client.list_tasks({"parent": QUEUE, "page_size": 3}).pages)
    assert [task.name for task in first.tasks] == names[:3]
    manual_client.delete_task(name=names[2])
    rest = manual_client.list_tasks({"parent": QUEUE, "page_size": 3, "page_token": first.next_page_token})
    assert [task.name for task in rest] == names[3:]


def test_a_page_never_holds_more_than_a_thousand_tasks(manual_client: tasks_v2.CloudTasksClient):
    """A larger size means the default."""
    for _ in range(1_001):
        manual_client.create_task(parent=QUEUE, task=TARGET)
    for size in (0, 5_000):
        pages = list(manual_client.list_tasks({"parent": QUEUE, "page_size": size}).pages)
        assert [len(page.tasks) for page in pages] == [1_000, 1]


def test_a_page_of_full_tasks_fits_into_a_message(manual_client: tasks_v2.CloudTasksClient):
    """5 MB of bodies take several pages, none too large for the client."""
    body = b"x" * 100_000
    for _ in range(50):
        manual_client.create_task(parent=QUEUE, task={"http_request": {"url": "http://x/", "body": body}})
    pages = list(manual_client.list_tasks({"parent": QUEUE, "response_view": tasks_v2.Task.View.FULL}).pages)
    assert len(pages) > 1
    assert sum(len(page.tasks) for page in pages) == 50


def test_bad_page_tokens_are_refused(manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock):
    """Malformed, foreign and two-hour-old tokens are refused, and so is a negative size."""
    for _ in range(2):
        manual_client.create_task(parent=QUEUE, task=TARGET)
    token = next(manual_client.list_tasks({"parent": QUEUE, "page_size": 1}).pages).next_page_token
    for bad in ("nonsense", "e30=", "bnVsbA==", "W10=", "ü"):
        with pytest.raises(exceptions.InvalidArgument, match="page_token"):
            list(manual_client.list_tasks({"parent": QUEUE, "page_token": bad}))
    with pytest.raises(exceptions.InvalidArgument, match="page_token"):
        list(manual_client.list_queues({"parent": LOCATION, "page_token": token}))
    with pytest.raises(exceptions.InvalidArgument, match="page_size"):
        list(manual_client.list_tasks({"parent": QUEUE, "page_size": -1}))
    clock.advance(2 * HOUR)
    assert len(list(manual_client.list_tasks({"parent": QUEUE, "page_token": token}))) == 1
    clock.advance(1)
    with pytest.raises(exceptions.InvalidArgument, match="page_token"):
        list(manual_client.list_tasks({"parent": QUEUE, "page_token": token}))


def test_a_purge_empties_the_queue_and_records_its_time(manual_client: tasks_v2.CloudTasksClient):
    """All tasks go, the queue stays."""
    for _ in range(3):
        manual_client.create_task(parent=QUEUE, task=TARGET)
    purged = manual_client.purge_queue(name=QUEUE)
    assert purged.purge_time.timestamp() == START / SECOND
    assert list(manual_client.list_tasks(parent=QUEUE)) == []
    manual_client.create_task(parent=QUEUE, task=TARGET)
