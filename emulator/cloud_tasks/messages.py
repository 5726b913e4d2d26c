"""Converts between the messages of ``google.cloud.tasks.v2`` and the model: checks requests and renders responses.

It uses the raw protobuf messages, because their proto-plus wrappers cost several times as much per task.
"""

from __future__ import annotations

import re
from typing import Any

from google.cloud.tasks_v2 import types
from google.rpc import code_pb2  # type: ignore[import-untyped]  # it has no stubs

from emulator.cloud_tasks.errors import InvalidArgumentError, UnimplementedError
from emulator.cloud_tasks.limits import (
    DEFAULT_DISPATCH_DEADLINE,
    MAX_DISPATCH_DEADLINE,
    MAX_HEADER_BYTES,
    MAX_URL_LENGTH,
    MIN_DISPATCH_DEADLINE,
    Limits,
)
from emulator.cloud_tasks.model import AttemptRecord, DeliveryResult, HttpRequest, OidcToken, QueueState, Task
from emulator.cloud_tasks.names import check_task
from emulator.cloud_tasks.queue import Queue
from emulator.cloud_tasks.queues import NewTask
from emulator.cloud_tasks.settings import read_retry_config, render_retry_config
from emulator.cloud_tasks.wire_time import read_duration, read_timestamp, write_duration, write_timestamp
from luci_scheduler.core.instants import MILLISECOND, SECOND

__all__ = ["USER_AGENT", "read_task", "render_queue", "render_task", "uses_full_view"]

USER_AGENT = "Google-Cloud-Tasks"

_QUEUE = types.Queue.pb()
_TASK = types.Task.pb()
# Enumerations by their numbers on the wire; 0 is "unspecified".
_METHODS = dict(enumerate(("POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"), start=1))
_BASIC, _FULL = 1, 2
_STATES = {QueueState.RUNNING: 1, QueueState.PAUSED: 2}
_METHOD_NUMBERS = {name: number for number, name in _METHODS.items()}
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
# Cloud Tasks ignores or replaces these headers if the creator sets them.
_REPLACED = frozenset({"host", "content-length", "user-agent"})
_RESERVED_PREFIXES = ("x-google-", "x-appengine-", "x-cloudtasks-")

# The status of an attempt for each HTTP status of the target.
_CODE_OF_STATUS = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    403: code_pb2.PERMISSION_DENIED,
    404: code_pb2.NOT_FOUND,
    409: code_pb2.ABORTED,
    429: code_pb2.RESOURCE_EXHAUSTED,
    500: code_pb2.INTERNAL,
    501: code_pb2.UNIMPLEMENTED,
    503: code_pb2.UNAVAILABLE,
    504: code_pb2.DEADLINE_EXCEEDED,
}


def uses_full_view(response_view: int) -> bool:
    """Return whether a response view is FULL; unspecified means BASIC.

    Raises:
        InvalidArgumentError: the view does not exist.
    """
    if response_view not in (0, _BASIC, _FULL):
        raise InvalidArgumentError(f"response_view: {response_view} is not a view")
    return response_view == _FULL


def read_task(message: Any, limits: Limits) -> NewTask:
    """Check a ``Task`` message and return the new task; output-only fields are ignored.

    Raises:
        InvalidArgumentError: a field is wrong or the task is too large; the message names it.
        UnimplementedError: an App Engine target or an OAuth token.
    """
    if message.HasField("app_engine_http_request"):
        raise UnimplementedError("task.app_engine_http_request: this server delivers to HTTP targets only")
    if not message.HasField("http_request"):
        raise InvalidArgumentError("task.http_request: a task needs a target")
    if message.ByteSize() > limits.max_task_bytes:
        raise InvalidArgumentError(f"task: {message.ByteSize()} bytes, larger than {limits.max_task_bytes}")
    if message.name:
        check_task("task.name", message.name)
    deadline = DEFAULT_DISPATCH_DEADLINE
    if message.HasField("dispatch_deadline"):
        deadline = read_duration("task.dispatch_deadline", message.dispatch_deadline)
        if not MIN_DISPATCH_DEADLINE <= deadline <= MAX_DISPATCH_DEADLINE:
            raise InvalidArgumentError("task.dispatch_deadline: not between 15s and 30m (1800s)")
        deadline -= deadline % MILLISECOND
    return NewTask(
        request=_read_request(message.http_request),
        name=message.name,
        schedule_time=read_timestamp("task.schedule_time", message.schedule_time)
        if message.HasField("schedule_time")
        else None,
        dispatch_deadline=deadline,
        retry_config=read_retry_config("task.retry_config", message.retry_config)
        if message.HasField("retry_config")
        else None,
    )


def _read_request(message: Any) -> HttpRequest:
    """Check an ``HttpRequest`` message."""
    _check_url(message.url)
    method = _METHODS.get(message.http_method or 1)
    if method is None:
        raise InvalidArgumentError(f"task.http_request.http_method: {message.http_method} is not a method")
    if message.body and method not in _WITH_BODY:
        raise InvalidArgumentError(f"task.http_request.body: not allowed with {method}")
    if message.HasField("oauth_token"):
        raise UnimplementedError("task.http_request.oauth_token: this server issues no OAuth tokens; use oidc_token")
    token = None
    if message.HasField("oidc_token"):
        email = message.oidc_token.service_account_email
        if "@" not in email:
            raise InvalidArgumentError(
                f"task.http_request.oidc_token.service_account_email: {email!r} is not an e-mail address"
            )
        token = OidcToken(email, message.oidc_token.audience)
    return HttpRequest(message.url, method, _read_headers(message.headers), message.body, token)


def _check_url(url: str) -> None:
    field = "task.http_request.url"
    if not url.startswith(("http://", "https://")) or not url.partition("://")[2].strip("/"):
        raise InvalidArgumentError(f"{field}: {url!r} must begin with http:// or https:// and name a host")
    if len(url) > MAX_URL_LENGTH:
        raise InvalidArgumentError(f"{field}: longer than {MAX_URL_LENGTH} characters")
    if re.search(r"[\x00-\x20\x7f]", url):
        raise InvalidArgumentError(f"{field}: holds a space or a control character")


def _read_headers(headers: Any) -> tuple[tuple[str, str], ...]:
    field = "task.http_request.headers"
    kept = []
    size = 0
    for name, value in sorted(headers.items()):
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidArgumentError(f"{field}: {name!r} is not a header name")
        if not _HEADER_VALUE.fullmatch(value):
            raise InvalidArgumentError(f"{field}: the value of {name!r} holds a control character")
        size += len(name) + len(value.encode())
        if name.lower() not in _REPLACED and not name.lower().startswith(_RESERVED_PREFIXES):
            kept.append((name, value))
    if size >= MAX_HEADER_BYTES:
        raise InvalidArgumentError(f"{field}: {size} bytes, the limit is {MAX_HEADER_BYTES}")
    return tuple(kept)


def render_task(task: Task, *, full: bool) -> Any:
    """Return the ``Task`` message of a task; without ``full`` it has no body (both views have the headers)."""
    message = _TASK(name=task.name, dispatch_count=task.dispatch_count, response_count=task.response_count)
    message.view = _FULL if full else _BASIC
    write_timestamp(message.schedule_time, task.schedule_time)
    write_timestamp(message.create_time, task.create_time - task.create_time % SECOND)
    write_duration(message.dispatch_deadline, task.dispatch_deadline)
    request = message.http_request
    request.url = task.request.url
    request.http_method = _METHOD_NUMBERS[task.request.method]
    request.headers["User-Agent"] = USER_AGENT
    for name, value in task.request.headers:
        request.headers[name] = value
    if full:
        request.body = task.request.body
    if task.request.oidc_token is not None:
        request.oidc_token.service_account_email = task.request.oidc_token.service_account_email
        request.oidc_token.audience = task.request.oidc_token.audience
    if task.retry_config is not None:
        render_retry_config(message.retry_config, task.retry_config)
    if task.first_attempt is not None:
        # The service keeps only the dispatch time of the first attempt.
        write_timestamp(message.first_attempt.dispatch_time, task.first_attempt.dispatch_time)
    if task.last_attempt is not None:
        _render_attempt(message.last_attempt, task.last_attempt)
    return message


def _render_attempt(message: Any, record: AttemptRecord) -> None:
    write_timestamp(message.schedule_time, record.schedule_time)
    write_timestamp(message.dispatch_time, record.dispatch_time)
    if record.response_time is not None and record.result is not None:
        write_timestamp(message.response_time, record.response_time)
        message.response_status.code = _status_code(record.result)
        message.response_status.message = record.result.message


def _status_code(result: DeliveryResult) -> int:
    if result.is_success:
        return int(code_pb2.OK)
    default = code_pb2.UNKNOWN if result.status else code_pb2.UNAVAILABLE
    return int(_CODE_OF_STATUS.get(result.status, default))


def render_queue(queue: Queue) -> Any:
    """Return the ``Queue`` message of a queue."""
    message = _QUEUE(name=queue.name, state=_STATES[queue.state])
    message.rate_limits.max_dispatches_per_second = queue.rate_limits.max_dispatches_per_second
    message.rate_limits.max_burst_size = queue.rate_limits.max_burst_size
    message.rate_limits.max_concurrent_dispatches = queue.rate_limits.max_concurrent_dispatches
    render_retry_config(message.retry_config, queue.retry_config)
    if queue.purge_time is not None:
        write_timestamp(message.purge_time, queue.purge_time)
    return message
