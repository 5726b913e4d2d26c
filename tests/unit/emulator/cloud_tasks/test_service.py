"""The methods of the service on the state, without gRPC."""

import threading
from typing import Any

import pytest
from google.cloud.tasks_v2 import types
from google.protobuf import empty_pb2

from emulator.clock import SteppedClock
from emulator.cloud_tasks.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    TasksError,
    UnimplementedError,
)
from emulator.cloud_tasks.limits import Limits
from emulator.cloud_tasks.queues import Queues
from emulator.cloud_tasks.service import CloudTasksService
from luci_scheduler.core.instants import DAY, HOUR, SECOND

LOCATION = "projects/p/locations/l"
QUEUE = f"{LOCATION}/queues/q"
START = 1_000 * SECOND


class Service:
    """The service with its state, its clock and its count of changes."""

    def __init__(self) -> None:
        self.clock = SteppedClock(START)
        self.queues = Queues(Limits())
        self.changes = 0
        self.service = CloudTasksService(lambda: self.queues, threading.RLock(), self.clock, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def call(self, method: str, message: str, **fields: Any) -> Any:
        """Call a method with a request message."""
        request_type = getattr(types, message)
        return getattr(self.service, method)(request_type.pb(request_type(**fields)))

    def create_queue(self, name: str = QUEUE, parent: str = LOCATION, **fields: Any) -> Any:
        """Call CreateQueue."""
        return self.call("create_queue", "CreateQueueRequest", parent=parent, queue={"name": name, **fields})

    def create_task(self, task_id: str = "", **fields: Any) -> Any:
        """Call CreateTask."""
        task = {"http_request": {"url": "https://x.example/", "body": b"body"}}
        if task_id:
            task["name"] = f"{QUEUE}/tasks/{task_id}"  # type: ignore[assignment]
        return self.call("create_task", "CreateTaskRequest", parent=QUEUE, task=task, **fields)

    def tasks(self, **fields: Any) -> tuple[list[str], str]:
        """Call ListTasks; return the IDs and the next page's token."""
        page = self.call("list_tasks", "ListTasksRequest", parent=QUEUE, **fields)
        return [task.name.rpartition("/")[2] for task in page.tasks], page.next_page_token

    def listed(self, **fields: Any) -> tuple[list[str], str]:
        """Call ListQueues; return the IDs and the next page's token."""
        page = self.call("list_queues", "ListQueuesRequest", parent=LOCATION, **fields)
        return [queue.name.rpartition("/")[2] for queue in page.queues], page.next_page_token


@pytest.fixture
def service() -> Service:
    """A service with one queue."""
    service = Service()
    service.create_queue()
    return service


def test_a_queue_is_created_with_its_settings(service: Service) -> None:
    created = service.create_queue(f"{LOCATION}/queues/slow", rate_limits={"max_dispatches_per_second": 1.0})
    assert service.call("get_queue", "GetQueueRequest", name=created.name) == created
    assert created.rate_limits.max_dispatches_per_second == 1.0


@pytest.mark.parametrize(
    ("name", "parent", "error"),
    [
        (QUEUE, LOCATION, AlreadyExistsError),
        (QUEUE, "projects/p/locations/other", InvalidArgumentError),
        (QUEUE, "projects/p", InvalidArgumentError),
        ("q", LOCATION, InvalidArgumentError),
    ],
)
def test_a_queue_that_cannot_be_created(service: Service, name: str, parent: str, error: type[TasksError]) -> None:
    with pytest.raises(error):
        service.create_queue(name, parent)


def test_the_name_of_a_deleted_queue_is_reserved_for_three_days(service: Service) -> None:
    assert service.call("delete_queue", "DeleteQueueRequest", name=QUEUE) == empty_pb2.Empty()
    service.clock.advance(3 * DAY - 1)
    with pytest.raises(FailedPreconditionError):
        service.create_queue()
    service.clock.advance(1)
    assert service.create_queue().name == QUEUE


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("get_queue", "GetQueueRequest"),
        ("delete_queue", "DeleteQueueRequest"),
        ("purge_queue", "PurgeQueueRequest"),
        ("pause_queue", "PauseQueueRequest"),
        ("resume_queue", "ResumeQueueRequest"),
    ],
)
def test_a_missing_queue_is_not_found_and_a_bad_name_is_invalid(service: Service, method: str, message: str) -> None:
    with pytest.raises(NotFoundError):
        service.call(method, message, name=f"{LOCATION}/queues/none")
    with pytest.raises(InvalidArgumentError, match=r"^name: "):
        service.call(method, message, name="none")


def test_an_update_changes_a_queue_and_wakes_the_dispatcher(service: Service) -> None:
    fields = {"name": QUEUE, "rate_limits": {"max_dispatches_per_second": 2.0}}
    service.call("update_queue", "UpdateQueueRequest", queue=fields)
    assert (service.queues.get_queue(QUEUE).rate_limits.max_dispatches_per_second, service.changes) == (2.0, 1)


def test_an_update_creates_a_missing_queue(service: Service) -> None:
    name = f"{LOCATION}/queues/new"
    service.call("update_queue", "UpdateQueueRequest", queue={"name": name})
    assert service.queues.get_queue(name).name == name


def test_pausing_and_resuming_wake_the_dispatcher(service: Service) -> None:
    states = [
        service.call(f"{verb}_queue", f"{verb.title()}QueueRequest", name=QUEUE).state
        for verb in ("pause", "pause", "resume", "resume")
    ]
    assert (states, service.changes) == ([2, 2, 1, 1], 4)


def test_queues_are_listed_in_pages_ordered_by_name(service: Service) -> None:
    for queue_id in ("b", "a", "c"):
        service.create_queue(f"{LOCATION}/queues/{queue_id}")
    service.create_queue("projects/p/locations/other/queues/z", "projects/p/locations/other")
    first, token = service.listed(page_size=2)
    second, end = service.listed(page_size=2, page_token=token)
    assert (first, second, end) == (["a", "b"], ["c", "q"], "")


def test_a_filter_of_queues_is_not_supported(service: Service) -> None:
    with pytest.raises(UnimplementedError, match=r"^filter: "):
        service.listed(filter="state: PAUSED")


def test_a_task_is_created_and_wakes_the_dispatcher(service: Service) -> None:
    created = service.create_task("t")
    assert (created.name, created.http_request.body, service.changes) == (f"{QUEUE}/tasks/t", b"", 1)
    with pytest.raises(AlreadyExistsError):
        service.create_task("t")
    assert service.changes == 1


def test_the_full_view_has_the_body(service: Service) -> None:
    assert service.create_task("t", response_view=types.Task.View.FULL).http_request.body == b"body"
    name = f"{QUEUE}/tasks/t"
    full = service.call("get_task", "GetTaskRequest", name=name, response_view=types.Task.View.FULL)
    basic = service.call("get_task", "GetTaskRequest", name=name)
    assert (full.http_request.body, basic.http_request.body) == (b"body", b"")


def test_a_missing_queue_is_reported_before_errors_of_the_task(service: Service) -> None:
    with pytest.raises(NotFoundError):
        service.call("create_task", "CreateTaskRequest", parent=f"{LOCATION}/queues/none", task={})
    with pytest.raises(InvalidArgumentError):
        service.call("create_task", "CreateTaskRequest", parent=QUEUE, task={})


def test_a_deleted_task_is_not_found(service: Service) -> None:
    name = service.create_task().name
    assert service.call("delete_task", "DeleteTaskRequest", name=name) == empty_pb2.Empty()
    for method, message in (
        ("get_task", "GetTaskRequest"),
        ("run_task", "RunTaskRequest"),
        ("delete_task", "DeleteTaskRequest"),
    ):
        with pytest.raises(NotFoundError):
            service.call(method, message, name=name)


def test_run_task_makes_a_task_due(service: Service) -> None:
    name = service.create_task().name
    service.call("pause_queue", "PauseQueueRequest", name=QUEUE)
    assert service.queues.take(START) is None
    assert service.call("run_task", "RunTaskRequest", name=name).name == name
    attempt = service.queues.take(START)
    assert attempt is not None
    assert attempt.task.name == name


def test_a_purge_deletes_all_tasks_and_records_its_time(service: Service) -> None:
    service.create_task()
    queue = service.call("purge_queue", "PurgeQueueRequest", name=QUEUE)
    assert (service.tasks(), queue.purge_time.seconds) == (([], ""), 1_000)


def test_tasks_are_listed_in_pages_ordered_by_name(service: Service) -> None:
    for task_id in ("c", "a", "d", "b"):
        service.create_task(task_id)
    first, token = service.tasks(page_size=3)
    service.call("delete_task", "DeleteTaskRequest", name=f"{QUEUE}/tasks/c")
    second, end = service.tasks(page_size=3, page_token=token)
    assert (first, second, end) == (["a", "b", "c"], ["d"], "")


def test_a_negative_page_size_is_refused(service: Service) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^page_size: -1 is negative$"):
        service.tasks(page_size=-1)


@pytest.mark.parametrize("token", ["x", "####", "e30=", "WzEsMiwzXQ==", "W10="])
def test_a_foreign_page_token_is_refused(service: Service, token: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^page_token: "):
        service.tasks(page_token=token)


def test_a_page_token_belongs_to_its_list_and_lives_two_hours(service: Service) -> None:
    service.create_task("a")
    service.create_task("b")
    token = service.tasks(page_size=1)[1]
    with pytest.raises(InvalidArgumentError, match="of another list, or older than two hours"):
        service.listed(page_token=token)
    service.clock.advance(2 * HOUR)
    assert service.tasks(page_token=token)[0] == ["b"]
    service.clock.advance(1)
    with pytest.raises(InvalidArgumentError, match="of another list, or older than two hours"):
        service.tasks(page_token=token)


def test_every_error_names_its_grpc_status() -> None:
    import grpc

    errors = (InvalidArgumentError, NotFoundError, AlreadyExistsError, FailedPreconditionError, UnimplementedError)
    assert all(issubclass(error, TasksError) for error in errors)
    assert [grpc.StatusCode[error.code].value[0] for error in errors] == [3, 5, 6, 9, 12]
