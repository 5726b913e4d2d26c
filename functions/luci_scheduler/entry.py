"""The entry points' work: from a request to the engine or the console, and from the outcome to an answer.

Each entry point imports its own part of the engine, or the pages, when it is called. A process serves one of them, and
a function's first answer does not wait for the modules of the others.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import flask
import structlog
from werkzeug.exceptions import HTTPException

from luci_scheduler import process
from luci_scheduler.bodies import discard_body, read_body
from luci_scheduler.bootstrap import App
from luci_scheduler.budget import BUDGETS
from luci_scheduler.core.errors import MalformedError, NewerVersionError, TransientError, UnknownKeyError
from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.instants import HOUR, SECOND
from luci_scheduler.core.probe import ATTRIBUTE, LABEL
from luci_scheduler.core.queue_tasks import ProbeTask, SyncTask
from luci_scheduler.core.untrusted import check_values, storable
from luci_scheduler.display import displaying
from luci_scheduler.envelopes import MAX_MESSAGE_BYTES, Event, Message, open_message
from luci_scheduler.guards import ANSWERED
from luci_scheduler.ports import Headers
from luci_scheduler.respond import DeliveryResponse, responding
from luci_scheduler.tracing import delivery_context, delivery_trace, trace_from_headers

if TYPE_CHECKING:
    from luci_scheduler.engine.probes import Prober

__all__ = [
    "BUDGETS",
    "bound_events",
    "cloud_build",
    "commit",
    "current_app",
    "finish_event",
    "is_local",
    "notification",
    "page",
    "task",
]

_MAX_TASK_BYTES = 1 << 20  # Cloud Tasks takes at most a megabyte
_MAX_PUSH_BYTES = MAX_MESSAGE_BYTES * 4 // 3 + (1 << 16)  # the message in base64, its attributes and the envelope
_MALFORMED_RETRIES = 10
"""After so many retries a malformed task is dropped, because a queue has no dead letters. With the queue's backoff
(1 s, doubling to 10 min) this takes a quarter of an hour, so a kind that only a newer function knows survives a
deployment."""
_NEWER_RETRIES = 150
"""After so many retries, about a day, a task of a newer version is dropped. Its document stays due, and the sweep
enqueues a task of this version. So a canary or a rollback loses nothing, and no task is retried forever."""
_KEY_PATIENCE = HOUR
"""How long after its publication a notification with an unknown key is asked to come again. An apply replaces the
functions within minutes, and the oldest of them then knows the key."""
_MAX_LOGGED = 500  # characters of a task's name or kind in a log line; Cloud Tasks' own names are not longer
# Requests that cannot be understood or whose caller is unknown. 403, 404 and 409 are answers about objects, with their
# own lines.
_REFUSED_REQUESTS = frozenset({400, 401, 405, 406, 413, 415, 429})

EventResponse = tuple[str, int]
"""Body and status code of the answer to an event."""


class _EventRefusedError(HTTPException):
    """Carries a status code through the framework, which answers 200 whenever an event function returns."""

    def __init__(self, body: str, code: int) -> None:
        super().__init__(response=flask.Response(body, code, {ANSWERED: "true"}, mimetype="text/plain"))


def current_app() -> App:
    """Return the application for the current request, and note that the request has reached its entry point.

    From here on, a failure is the server's fault: `log_refusals` does not blame the sender. A transient error while the
    application is made is logged and answered 500.
    """
    flask.g.reached = True
    try:
        return process.app()
    except TransientError as error:
        _logger().warning("transient_error", reason=str(error))
        raise _EventRefusedError(f"Transient error: {error}\n", 500) from error


def is_local() -> bool:
    """Return whether the functions of this process run in the local cloud; the errors are those of `current_app`."""
    return current_app().settings.local


def finish_event(response: EventResponse) -> None:
    """End an event function: return for 200, raise for any other status code."""
    body, code = response
    if code != 200:  # noqa: PLR2004 - HTTP
        raise _EventRefusedError(body, code)


def commit(app: App, event: Event) -> EventResponse:
    """Handle a message of the topic ``gitiles-commit``."""
    from luci_scheduler.core.commit_event import parse_commit_events  # noqa: PLC0415 - see the top
    from luci_scheduler.engine.commit import on_commits  # noqa: PLC0415

    with _responding_to("on_gitiles_commit", event) as response:
        if (message := _opened(app, "on_gitiles_commit", event)) is not None:
            events = parse_commit_events(message.data, app.settings.commit_hosts)
            app.note_config_changes(events)
            on_commits(app.runtime, events, message.published, f"commit-{message.id}")
    return response.body, response.code


def notification(app: App, event: Event) -> EventResponse:
    """Handle a message of a Buildbucket server's topic.

    Nothing is read or written unless both tokens are valid: the sender's, and that of the notification.
    """
    with _responding_to("on_build_completion", event) as response:
        if (message := _opened(app, "on_build_completion", event)) is not None:
            _on_notification(app, message, response)
    return response.body, response.code


def cloud_build(app: App, event: Event) -> EventResponse:
    """Handle a message of the topic ``cloud-builds``.

    The topic has the messages of all builds of the project. A message about a build of others, or without a readable
    build, is acknowledged without a read.
    """
    with _responding_to("on_cloud_build", event) as response:
        if (message := _opened(app, "on_cloud_build", event)) is not None:
            _on_cloud_build(app, message)
    return response.body, response.code


def _opened(app: App, function: str, event: Event) -> Message | None:
    """Return the message of an event, after its sender's token is verified; None for a probe, which is recorded."""
    app.verify_push(_headers())
    message = open_message(event)
    if ATTRIBUTE not in message.attributes:
        return message
    label = message.attributes.get(LABEL, "")
    _prober(app).mark(function, message.attributes[ATTRIBUTE], label)
    return None


def _on_notification(app: App, message: Message, response: DeliveryResponse) -> None:
    from luci_scheduler.core.notification_token import find_token, verify_token  # noqa: PLC0415 - see the top
    from luci_scheduler.engine.progress import on_notification  # noqa: PLC0415

    token = find_token(message.attributes, message.data_base64)
    try:
        job_id, invocation_id = verify_token(app.settings.verifying_secrets, token, app.runtime.clock.now())
    except UnknownKeyError as error:
        _await_key(response, app.runtime.clock.now() - message.published, error)
    else:
        on_notification(app.runtime, job_id, invocation_id, message.id)


def _on_cloud_build(app: App, message: Message) -> None:
    from luci_scheduler.engine.progress import on_notification  # noqa: PLC0415 - see the top
    from luci_scheduler.managers.cloud_build.kind import CloudBuildKind  # noqa: PLC0415
    from luci_scheduler.managers.cloud_build.notification import read_message  # noqa: PLC0415
    from luci_scheduler.managers.controller import Hint  # noqa: PLC0415

    announced = read_message(message.data, app.settings.app_id)
    if announced is not None:
        hint = Hint(CloudBuildKind.name, announced.build_id, message.published)
        on_notification(app.runtime, announced.job_id, announced.invocation_id, message.id, hint)


def _await_key(response: DeliveryResponse, age: int, error: UnknownKeyError) -> None:
    """Answer a notification that no known key signed: 500 while a newer function may know the key.

    Raises:
        UnknownKeyError: the notification was published too long ago, or in the future.
    """
    if not -_KEY_PATIENCE < age < _KEY_PATIENCE:
        raise error
    _logger().warning("key_unknown", reason=str(error), age_seconds=age // SECOND)
    response.set(f"Transient error: {error}\n", 500)


def _prober(app: App) -> Prober:
    from luci_scheduler.adapters.documents import SCHEMA  # noqa: PLC0415 - only probes need it

    return app.prober(os.environ.get("K_REVISION", ""), SCHEMA)


def _responding_to(function: str, event: Event) -> AbstractContextManager[DeliveryResponse]:
    event_id = storable(str(event["id"])[:200])
    trace = delivery_trace(_headers(), f"event-{event_id}")
    return responding(trace=trace, seconds=BUDGETS[function], function=function, event_id=event_id)


def _headers() -> Headers:
    return flask.request.headers if flask.has_request_context() else {}


def task(app: App, request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Handle a call of Cloud Tasks or Cloud Scheduler; the last part of the path is the kind of task.

    The caller's token is verified before anything else. ``X-CloudTasks-*`` headers prove nothing: anyone can send them.
    """
    try:
        return _task(app, request)
    finally:
        discard_body(request)


def _task(app: App, request: flask.Request) -> flask.typing.ResponseReturnValue:
    kind = request.path.strip("/").rpartition("/")[2][:_MAX_LOGGED]
    headers = request.headers
    name = (headers.get("X-CloudTasks-TaskName") or headers.get("X-CloudScheduler-JobName") or "direct")[:_MAX_LOGGED]
    retries = headers.get("X-CloudTasks-TaskRetryCount", 0, type=int)
    with responding(
        trace=delivery_trace(headers, f"task-{name}"),
        give_up=retries >= _MALFORMED_RETRIES,
        seconds=BUDGETS["on_task"],
        function="on_task",
        kind=kind,
        task=name,
    ) as response:
        app.verify_caller(headers)
        _run_task(app, request, kind, name, retries)
    return response.body, response.code, {ANSWERED: "true", "Content-Type": "text/plain; charset=utf-8"}


def _run_task(app: App, request: flask.Request, kind: str, name: str, retries: int) -> None:
    from luci_scheduler.engine.tasks import on_task  # noqa: PLC0415 - see the top

    if kind == SyncTask.kind:
        app.sync(f"sync-{name}")
        return
    try:
        if kind == ProbeTask.kind:
            _prober(app).run(_payload(request))
            return
        on_task(app.runtime, kind, _payload(request), f"task-{name}")
    except NewerVersionError as error:
        if retries < _NEWER_RETRIES:
            raise
        raise MalformedError(f"{error}, which no newer function has read for a day") from error


def _payload(request: flask.Request) -> dict[str, Any]:
    body = read_body(request, _MAX_TASK_BYTES)
    if len(body) > _MAX_TASK_BYTES:
        raise MalformedError(f"a task's body has at most {_MAX_TASK_BYTES} bytes")
    if not body:
        return {}
    try:
        return read_object(body)
    except ValueError as error:
        raise MalformedError(f"a task's body must be a JSON object: {error}") from error


def page(app: App, request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Answer a request to the console: a page, an action, or a call of the API. The caller is authenticated first.

    The request's log lines and tasks are part of its trace. A request that cannot be understood, or whose caller cannot
    be identified, leaves one line.
    """
    from luci_scheduler.console import answer_request  # noqa: PLC0415 - only the console loads pages and the API

    trace = trace_from_headers(request.headers)
    try:
        with delivery_context(trace, seconds=BUDGETS["console"], function="console"), displaying(app.settings.links):
            body, code, headers = answer_request(app, request)
            if code in _REFUSED_REQUESTS:
                _logger().info("request_refused", code=code, method=request.method, path=request.path[:200])
            return body, code, {**headers, ANSWERED: "true"}
    finally:
        discard_body(request)


def bound_events(server: flask.Flask) -> None:
    """Answer 400 to an event that is too large, or has too many values to be read as JSON.

    The framework reads an event before its function can verify the sender.
    """

    def refuse() -> flask.Response | None:
        request = flask.request
        if request.endpoint != "cloudevent":
            return None
        try:
            request.stream = BytesIO(_pushed(request))  # the framework reads the body from here
        except (MalformedError, ValueError) as error:
            flask.g.reason = str(error)
            discard_body(request)
            return flask.Response(f"Malformed: {error}\n", 400, mimetype="text/plain")
        return None

    server.before_request(refuse)


def _pushed(request: flask.Request) -> bytes:
    body = read_body(request, _MAX_PUSH_BYTES)
    if len(body) > _MAX_PUSH_BYTES:
        raise MalformedError(f"an event has at most {_MAX_PUSH_BYTES} bytes")
    check_values(body)
    return body


def _logger() -> Any:
    return structlog.get_logger("luci_scheduler")
