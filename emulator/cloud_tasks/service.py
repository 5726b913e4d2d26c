"""The gRPC service ``google.cloud.tasks.v2.CloudTasks``: it applies requests to the queues."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable
from typing import Any

import grpc
from google.cloud.tasks_v2 import types
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]  # it has no stubs
from google.protobuf import empty_pb2

from emulator.clock import Clock
from emulator.cloud_tasks.errors import InvalidArgumentError, NotFoundError, TasksError, UnimplementedError
from emulator.cloud_tasks.limits import BATCH_BYTES, MAX_QUEUE_PAGE, MAX_TASK_PAGE, PAGE_TOKEN_LIFE
from emulator.cloud_tasks.messages import read_task, render_queue, render_task, uses_full_view
from emulator.cloud_tasks.model import QueueState
from emulator.cloud_tasks.names import check_location, check_queue, check_task, queue_of
from emulator.cloud_tasks.queues import Queues
from emulator.cloud_tasks.settings import QueueSettings, read_queue, update_queue

__all__ = ["CloudTasksService"]

_SERVICE = "google.cloud.tasks.v2.CloudTasks"
_NOT_OFFERED = {
    "GetIamPolicy": iam_policy_pb2.GetIamPolicyRequest,
    "SetIamPolicy": iam_policy_pb2.SetIamPolicyRequest,
    "TestIamPermissions": iam_policy_pb2.TestIamPermissionsRequest,
    "BatchCreateTasks": types.BatchCreateTasksRequest.pb(),
    "BatchDeleteTasks": types.BatchDeleteTasksRequest.pb(),
    "GetCmekConfig": types.GetCmekConfigRequest.pb(),
    "UpdateCmekConfig": types.UpdateCmekConfigRequest.pb(),
}


class CloudTasksService:
    """The methods of the service. Each takes a raw request message and returns a raw response message.

    Args:
        queues: Returns the current state, which a reset replaces.
        lock: Guards the state.
        clock: The server's time.
        changed: Called after each change that may make a task due.
    """

    def __init__(
        self, queues: Callable[[], Queues], lock: threading.RLock, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._queues = queues
        self._lock = lock
        self._clock = clock
        self._changed = changed

    def handlers(self) -> grpc.GenericRpcHandler[Any, Any]:
        """Return the handlers of all methods for a gRPC server."""
        methods: dict[str, tuple[Callable[[Any], Any], Any]] = {
            "CreateQueue": (self.create_queue, types.CreateQueueRequest.pb()),
            "CreateTask": (self.create_task, types.CreateTaskRequest.pb()),
            "DeleteQueue": (self.delete_queue, types.DeleteQueueRequest.pb()),
            "DeleteTask": (self.delete_task, types.DeleteTaskRequest.pb()),
            "GetQueue": (self.get_queue, types.GetQueueRequest.pb()),
            "GetTask": (self.get_task, types.GetTaskRequest.pb()),
            "ListQueues": (self.list_queues, types.ListQueuesRequest.pb()),
            "ListTasks": (self.list_tasks, types.ListTasksRequest.pb()),
            "PauseQueue": (self.pause_queue, types.PauseQueueRequest.pb()),
            "PurgeQueue": (self.purge_queue, types.PurgeQueueRequest.pb()),
            "ResumeQueue": (self.resume_queue, types.ResumeQueueRequest.pb()),
            "RunTask": (self.run_task, types.RunTaskRequest.pb()),
            "UpdateQueue": (self.update_queue, types.UpdateQueueRequest.pb()),
        }
        for name, request_type in _NOT_OFFERED.items():
            methods[name] = (_refusal(name), request_type)
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    _with_status(method),
                    request_deserializer=request_type.FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for name, (method, request_type) in methods.items()
            },
        )

    # Queues ---------------------------------------------------------------------------------------------------------

    def create_queue(self, request: Any) -> Any:
        """CreateQueue."""
        parent = check_location("parent", request.parent)
        name = check_queue("queue.name", request.queue.name)
        if not name.startswith(f"{parent}/queues/"):
            raise InvalidArgumentError(f"queue.name: {name!r} is not in parent, {parent!r}")
        settings = read_queue(request.queue)
        with self._lock:
            queue = self._queues().create_queue(name, settings.rate_limits, settings.retry_config, self._clock.now())
            return render_queue(queue)

    def get_queue(self, request: Any) -> Any:
        """GetQueue."""
        name = check_queue("name", request.name)
        with self._lock:
            return render_queue(self._queues().get_queue(name))

    def list_queues(self, request: Any) -> Any:
        """ListQueues, ordered by name."""
        parent = check_location("parent", request.parent)
        if request.filter:
            raise UnimplementedError("filter: this server lists all queues of a location or none")
        size = _page_size(request.page_size, MAX_QUEUE_PAGE)
        after = _read_token(request.page_token, parent, self._clock.now())
        with self._lock:
            page = self._queues().page(parent, after, size + 1)
            response = types.ListQueuesResponse.pb()(queues=[render_queue(queue) for queue in page[:size]])
        if len(page) > size:
            response.next_page_token = _write_token(page[size - 1].name, parent, self._clock.now())
        return response

    def update_queue(self, request: Any) -> Any:
        """UpdateQueue, which creates a missing queue."""
        name = check_queue("queue.name", request.queue.name)
        with self._lock:
            queues = self._queues()
            now = self._clock.now()
            try:
                queue = queues.get_queue(name)
            except NotFoundError:
                settings = read_queue(request.queue)
                return render_queue(queues.create_queue(name, settings.rate_limits, settings.retry_config, now))
            present = QueueSettings(queue.rate_limits, queue.retry_config)
            settings = update_queue(present, request.queue, request.update_mask.paths)
            queue.update(settings.rate_limits, settings.retry_config, now)
            self._changed()
            return render_queue(queue)

    def delete_queue(self, request: Any) -> Any:
        """DeleteQueue, including its tasks."""
        name = check_queue("name", request.name)
        with self._lock:
            self._queues().delete_queue(name, self._clock.now())
        return empty_pb2.Empty()

    def purge_queue(self, request: Any) -> Any:
        """PurgeQueue, effective at once."""
        name = check_queue("name", request.name)
        with self._lock:
            queue = self._queues().get_queue(name)
            queue.purge(self._clock.now())
            return render_queue(queue)

    def pause_queue(self, request: Any) -> Any:
        """PauseQueue."""
        return self._set_state(request.name, QueueState.PAUSED)

    def resume_queue(self, request: Any) -> Any:
        """ResumeQueue."""
        return self._set_state(request.name, QueueState.RUNNING)

    def _set_state(self, name: str, state: QueueState) -> Any:
        check_queue("name", name)
        with self._lock:
            queue = self._queues().set_state(name, state)
            self._changed()
            return render_queue(queue)

    # Tasks ----------------------------------------------------------------------------------------------------------

    def create_task(self, request: Any) -> Any:
        """CreateTask."""
        parent = check_queue("parent", request.parent)
        full = uses_full_view(request.response_view)
        with self._lock:
            # A missing queue is reported before errors of the task.
            self._queues().get_queue(parent)
            new = read_task(request.task, self._queues().limits)
            response = render_task(self._queues().create_task(parent, new, self._clock.now()), full=full)
            self._changed()
            return response

    def get_task(self, request: Any) -> Any:
        """GetTask."""
        name = check_task("name", request.name)
        full = uses_full_view(request.response_view)
        with self._lock:
            return render_task(self._queues().get_queue(queue_of(name)).get(name, self._clock.now()), full=full)

    def list_tasks(self, request: Any) -> Any:
        """ListTasks, ordered by name. A page ends before it is too large for a gRPC client."""
        parent = check_queue("parent", request.parent)
        full = uses_full_view(request.response_view)
        size = _page_size(request.page_size, MAX_TASK_PAGE)
        now = self._clock.now()
        after = _read_token(request.page_token, parent, now)
        response = types.ListTasksResponse.pb()()
        taken = 0
        with self._lock:
            page = self._queues().get_queue(parent).page(after, size + 1, now)
            for task in page[:size]:
                rendered = render_task(task, full=full)
                taken += rendered.ByteSize()
                if taken > BATCH_BYTES and response.tasks:
                    break
                response.tasks.append(rendered)
        if len(page) > len(response.tasks):
            response.next_page_token = _write_token(response.tasks[-1].name, parent, now)
        return response

    def delete_task(self, request: Any) -> Any:
        """DeleteTask, even while the task runs."""
        name = check_task("name", request.name)
        with self._lock:
            self._queues().get_queue(queue_of(name)).delete(name, self._clock.now())
        return empty_pb2.Empty()

    def run_task(self, request: Any) -> Any:
        """RunTask. The attempt begins after the response, regardless of the queue's state and limits."""
        name = check_task("name", request.name)
        full = uses_full_view(request.response_view)
        with self._lock:
            task = self._queues().get_queue(queue_of(name)).force(name, self._clock.now())
            response = render_task(task, full=full)
            self._changed()
            return response


def _refusal(name: str) -> Callable[[Any], Any]:
    def refuse(_request: Any) -> Any:
        raise UnimplementedError(f"{name}: this server does not have it")

    return refuse


def _with_status(method: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Wrap a method so that a `TasksError` becomes a gRPC status."""

    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(request)
        except TasksError as refusal:
            context.abort(grpc.StatusCode[refusal.code], str(refusal))

    return call


def _page_size(requested: int, largest: int) -> int:
    if requested < 0:
        raise InvalidArgumentError(f"page_size: {requested} is negative")
    return min(requested or largest, largest)


def _write_token(last_name: str, parent: str, now: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([parent, last_name, now]).encode()).decode()


def _read_token(token: str, parent: str, now: int) -> str:
    """Return the name after which the page begins; an empty token means the first page."""
    if not token:
        return ""
    try:
        token_parent, last_name, issued = json.loads(base64.urlsafe_b64decode(token.encode()))
        is_good = token_parent == parent and isinstance(last_name, str) and 0 <= now - int(issued) <= PAGE_TOKEN_LIFE
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidArgumentError("page_token: not one of this server") from error
    if not is_good:
        raise InvalidArgumentError("page_token: of another list, or older than two hours")
    return str(last_name)
