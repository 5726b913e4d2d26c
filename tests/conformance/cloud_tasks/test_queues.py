"""Queues through the real client: settings, states, lists, errors."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.protobuf import duration_pb2, field_mask_pb2

from emulator.clock import SteppedClock
from emulator.cloud_tasks import CloudTasksServer
from tests.conformance.cloud_tasks.support import LOCATION

DAY = 86_400 * 10**9


def seconds(value: float) -> duration_pb2.Duration:
    """Return a Duration message."""
    return duration_pb2.Duration(seconds=int(value), nanos=round(value % 1 * 10**9))


def fresh() -> str:
    """Return an unused queue name."""
    return f"{LOCATION}/queues/q-{uuid.uuid4().hex}"


def test_a_new_queue_runs_with_the_services_defaults(client: tasks_v2.CloudTasksClient):
    """500/s with a burst of 100, 1000 at once, 100 attempts, 0.1 s to 1 h in 16 doublings."""
    name = fresh()
    created = client.create_queue(parent=LOCATION, queue={"name": name})
    assert created == client.get_queue(name=name)
    assert (created.name, created.state) == (name, tasks_v2.Queue.State.RUNNING)
    rate, retry = created.rate_limits, created.retry_config
    assert (rate.max_dispatches_per_second, rate.max_burst_size, rate.max_concurrent_dispatches) == (500, 100, 1000)
    assert (retry.max_attempts, retry.max_doublings) == (100, 16)
    assert [d.total_seconds() for d in (retry.min_backoff, retry.max_backoff)] == [0.1, 3600]
    assert "max_retry_duration" not in retry
    assert "purge_time" not in created


def test_settings_are_kept_as_given(client: tasks_v2.CloudTasksClient):
    """The settings at creation are returned unchanged, including -1 attempts. The server determines the burst size."""
    name = fresh()
    given = {
        "name": name,
        "rate_limits": {"max_dispatches_per_second": 1.5, "max_concurrent_dispatches": 3, "max_burst_size": 77},
        "retry_config": {
            "max_attempts": -1,
            "max_retry_duration": seconds(90),
            "min_backoff": seconds(0.5),
            "max_backoff": seconds(20),
            "max_doublings": 2,
        },
    }
    queue = client.create_queue(parent=LOCATION, queue=given)
    assert (queue.rate_limits.max_dispatches_per_second, queue.rate_limits.max_concurrent_dispatches) == (1.5, 3)
    assert queue.rate_limits.max_burst_size == 10
    retry = queue.retry_config
    assert (retry.max_attempts, retry.max_doublings) == (-1, 2)
    durations = (retry.max_retry_duration, retry.min_backoff, retry.max_backoff)
    assert [d.total_seconds() for d in durations] == [90, 0.5, 20]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"rate_limits": {"max_dispatches_per_second": 500.5}}, "max_dispatches_per_second"),
        ({"rate_limits": {"max_dispatches_per_second": -1}}, "max_dispatches_per_second"),
        ({"rate_limits": {"max_dispatches_per_second": float("nan")}}, "max_dispatches_per_second"),
        ({"rate_limits": {"max_concurrent_dispatches": 5001}}, "max_concurrent_dispatches"),
        ({"rate_limits": {"max_concurrent_dispatches": -1}}, "max_concurrent_dispatches"),
        ({"retry_config": {"max_attempts": -2}}, "max_attempts"),
        ({"retry_config": {"max_doublings": -1}}, "max_doublings"),
        ({"retry_config": {"min_backoff": seconds(5), "max_backoff": seconds(4)}}, "min_backoff"),
        ({"retry_config": {"min_backoff": duration_pb2.Duration(seconds=-5)}}, "min_backoff"),
        ({"retry_config": {"max_retry_duration": duration_pb2.Duration(seconds=-5)}}, "max_retry_duration"),
    ],
)
def test_settings_out_of_range_are_refused(client: tasks_v2.CloudTasksClient, settings: dict[str, Any], field: str):
    """INVALID_ARGUMENT names the field, at creation and at an update, and nothing changes."""
    name = fresh()
    with pytest.raises(exceptions.InvalidArgument, match=field):
        client.create_queue(parent=LOCATION, queue={"name": name, **settings})
    with pytest.raises(exceptions.NotFound):
        client.get_queue(name=name)
    before = client.create_queue(parent=LOCATION, queue={"name": name})
    with pytest.raises(exceptions.InvalidArgument, match=field):
        client.update_queue(queue={"name": name, **settings})
    assert client.get_queue(name=name) == before


@pytest.mark.parametrize(
    "name",
    ["", "q", f"{LOCATION}/queues/", f"{LOCATION}/queues/a_b", f"{LOCATION}/queues/{'x' * 101}", f"{LOCATION}/q/x"],
)
def test_malformed_queue_names_are_refused(client: tasks_v2.CloudTasksClient, name: str):
    """A queue's ID is 1 to 100 letters, digits and hyphens, in a full resource name."""
    with pytest.raises(exceptions.InvalidArgument, match=r"queue\.name"):
        client.create_queue(parent=LOCATION, queue={"name": name})
    with pytest.raises(exceptions.InvalidArgument, match="name"):
        client.get_queue(name=name)


def test_a_queue_of_another_location_is_refused(client: tasks_v2.CloudTasksClient):
    """The queue's name must be in the parent."""
    with pytest.raises(exceptions.InvalidArgument, match=r"queue\.name"):
        client.create_queue(parent="projects/p/locations/elsewhere", queue={"name": fresh()})
    with pytest.raises(exceptions.InvalidArgument, match="parent"):
        client.create_queue(parent="projects/p", queue={"name": fresh()})


def test_a_second_queue_of_that_name_already_exists(client: tasks_v2.CloudTasksClient, queue: str):
    """ALREADY_EXISTS."""
    with pytest.raises(exceptions.AlreadyExists):
        client.create_queue(parent=LOCATION, queue={"name": queue})


def test_every_method_on_a_missing_queue_is_not_found(client: tasks_v2.CloudTasksClient):
    """Each method fails with NOT_FOUND."""
    name = fresh()
    for method in (client.get_queue, client.delete_queue, client.purge_queue, client.pause_queue, client.resume_queue):
        with pytest.raises(exceptions.NotFound):
            method(name=name)
    with pytest.raises(exceptions.NotFound):
        client.create_task(parent=name, task={"http_request": {"url": "http://x/"}})
    with pytest.raises(exceptions.NotFound):
        list(client.list_tasks(parent=name))
    for task_method in (client.get_task, client.delete_task, client.run_task):
        with pytest.raises(exceptions.NotFound):
            task_method(name=f"{name}/tasks/t")


def test_an_update_with_a_mask_changes_only_those_fields(client: tasks_v2.CloudTasksClient, queue: str):
    """A mask names a single field, or a group, whose other fields get their defaults."""
    client.update_queue(
        queue={"name": queue, "retry_config": {"max_attempts": 7, "max_doublings": 3}, "rate_limits": {}},
    )
    updated = client.update_queue(
        queue={"name": queue, "rate_limits": {"max_dispatches_per_second": 9}, "retry_config": {"max_attempts": 8}},
        update_mask=field_mask_pb2.FieldMask(paths=["rate_limits.max_dispatches_per_second"]),
    )
    assert updated.rate_limits.max_dispatches_per_second == 9
    assert (updated.retry_config.max_attempts, updated.retry_config.max_doublings) == (7, 3)
    updated = client.update_queue(
        queue={"name": queue, "retry_config": {"max_attempts": 5}},
        update_mask=field_mask_pb2.FieldMask(paths=["retry_config"]),
    )
    assert (updated.retry_config.max_attempts, updated.retry_config.max_doublings) == (5, 16)
    assert updated.rate_limits.max_dispatches_per_second == 9


def test_a_mask_can_set_doublings_to_zero_and_clear_the_retry_duration(client: tasks_v2.CloudTasksClient, queue: str):
    """A zero in a field of the mask is a value."""
    client.update_queue(queue={"name": queue, "retry_config": {"max_retry_duration": seconds(60)}})
    paths = ["retry_config.max_doublings", "retry_config.max_retry_duration"]
    updated = client.update_queue(queue={"name": queue}, update_mask=field_mask_pb2.FieldMask(paths=paths))
    assert updated.retry_config.max_doublings == 0
    assert "max_retry_duration" not in updated.retry_config


def test_an_update_without_a_mask_replaces_everything(client: tasks_v2.CloudTasksClient, queue: str):
    """Missing fields get their defaults."""
    client.update_queue(queue={"name": queue, "retry_config": {"max_attempts": 7}})
    updated = client.update_queue(queue={"name": queue, "rate_limits": {"max_concurrent_dispatches": 2}})
    assert (updated.retry_config.max_attempts, updated.rate_limits.max_concurrent_dispatches) == (100, 2)


def test_an_update_ignores_output_only_fields_and_refuses_unknown_ones(client: tasks_v2.CloudTasksClient, queue: str):
    """An update cannot change the state; an unknown path is INVALID_ARGUMENT."""
    updated = client.update_queue(
        queue={"name": queue, "state": tasks_v2.Queue.State.PAUSED},
        update_mask=field_mask_pb2.FieldMask(paths=["state", "purge_time", "rate_limits.max_burst_size"]),
    )
    assert updated.state == tasks_v2.Queue.State.RUNNING
    for path in ("color", "rate_limits.color", "retry_config.max_attempts.x"):
        with pytest.raises(exceptions.InvalidArgument, match="update_mask"):
            client.update_queue(queue={"name": queue}, update_mask=field_mask_pb2.FieldMask(paths=[path]))


def test_an_update_creates_a_missing_queue(client: tasks_v2.CloudTasksClient):
    """UpdateQueue creates the queue if it does not exist."""
    name = fresh()
    client.update_queue(queue={"name": name, "retry_config": {"max_attempts": 4}})
    assert client.get_queue(name=name).retry_config.max_attempts == 4


def test_pause_and_resume_can_be_repeated(client: tasks_v2.CloudTasksClient, queue: str):
    """Both return the queue in its new state."""
    states = [method(name=queue).state.name for method in (client.pause_queue,) * 2 + (client.resume_queue,) * 2]
    assert states == ["PAUSED", "PAUSED", "RUNNING", "RUNNING"]


def test_the_name_of_a_deleted_queue_is_free_after_its_tombstone_expires(
    manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock
):
    """For three days creation and update fail with FAILED_PRECONDITION; the queue's tasks are gone."""
    name = fresh()
    manual_client.create_queue(parent=LOCATION, queue={"name": name})
    manual_client.create_task(parent=name, task={"http_request": {"url": "http://x/"}})
    manual_client.delete_queue(name=name)
    clock.advance(3 * DAY - 1)
    with pytest.raises(exceptions.FailedPrecondition):
        manual_client.create_queue(parent=LOCATION, queue={"name": name})
    with pytest.raises(exceptions.FailedPrecondition):
        manual_client.update_queue(queue={"name": name})
    with pytest.raises(exceptions.NotFound):
        manual_client.get_queue(name=name)
    clock.advance(1)
    manual_client.create_queue(parent=LOCATION, queue={"name": name})
    assert list(manual_client.list_tasks(parent=name)) == []


def test_queues_are_listed_by_location_in_pages(manual_client: tasks_v2.CloudTasksClient):
    """Each queue is listed once, in pages of the given size, without queues of other locations."""
    names = [f"{LOCATION}/queues/q{n}" for n in range(5)]
    for name in names:
        manual_client.create_queue(parent=LOCATION, queue={"name": name})
    other = "projects/test-project/locations/us-central2"
    manual_client.create_queue(parent=other, queue={"name": f"{other}/queues/q"})
    pages = list(manual_client.list_queues(request={"parent": LOCATION, "page_size": 2}).pages)
    assert [[queue.name for queue in page.queues] for page in pages] == [names[:2], names[2:4], names[4:]]
    assert [bool(page.next_page_token) for page in pages] == [True, True, False]


def test_reset_forgets_everything(
    manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock
):
    """After a reset all names are free, and the counts begin again."""
    name = manual.create_queue(f"{LOCATION}/queues/q")
    manual_client.create_task(parent=name, task={"name": f"{name}/tasks/t", "http_request": {"url": "http://x/"}})
    manual_client.delete_queue(name=name)
    manual.reset()
    assert manual.stats().created == 0
    manual.create_queue(name)
    manual_client.create_task(parent=name, task={"name": f"{name}/tasks/t", "http_request": {"url": "http://x/"}})
    assert manual.next_due() == clock.now()
