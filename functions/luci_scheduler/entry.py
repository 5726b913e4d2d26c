"""What the entry points do: from envelopes to the engine, from outcomes to answers."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import flask
import structlog
from werkzeug.exceptions import HTTPException

from luci_scheduler import bootstrap
from luci_scheduler.api.context import Context
from luci_scheduler.bodies import discard_body, read_body
from luci_scheduler.bootstrap import App
from luci_scheduler.core.commit_event import parse_commit_events
from luci_scheduler.core.errors import MalformedError, TransientError
from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.loopback import foreign_request
from luci_scheduler.core.notification_token import find_token, verify_token
from luci_scheduler.core.untrusted import storable
from luci_scheduler.engine.commit import on_commits
from luci_scheduler.engine.progress import on_notification
from luci_scheduler.engine.tasks import on_task
from luci_scheduler.envelopes import open_message
from luci_scheduler.respond import respond
from luci_scheduler.tracing import brought_trace, delivery_trace, isolated
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.routes import answer, submit

__all__ = [
    "BUDGETS",
    "commit",
    "finish",
    "log_refusals",
    "notification",
    "page",
    "reached",
    "refuse_other_sites",
    "task",
]

_MAX_FORM_BYTES = 1 << 16
_MAX_TASK_BYTES = 1 << 20  # Cloud Tasks takes at most a megabyte
# A task that this version does not understand may be a newer one's, during a deployment; with the queue's pauses ten retries
# last a quarter of an hour. After that it is dropped: a queue has no dead letters.
_MALFORMED_RETRIES = 10
BUDGETS = {"on_gitiles_commit": 290.0, "on_build_completion": 110.0, "on_task": 590.0, "console": 50.0}
"""Seconds that outside calls of one delivery may take, by function: ten less than the platform waits. For a task the
platform waits for the dispatch deadline (600 s), for the others for the function's timeout (see infra/terraform/functions.tf)."""
_MARK = "X-Settled"

# A delivery's names are put into its log lines; the longest that Cloud Tasks gives has about 500 characters.
_MAX_LOGGED = 500
# Requests that cannot be understood or identified. 403, 404 and 409 are answers about objects; actions write other lines.
_REFUSED_REQUESTS = frozenset({400, 401, 405, 406, 413, 415, 429})
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Added to each answer that does not set them: a browser treats it only as text, and no cache keeps it."""

Outcome = tuple[str, int]


class _Refused(HTTPException):
    """Carries a status code through the framework, which answers 200 to whatever an event function returns."""

    def __init__(self, body: str, code: int) -> None:
        super().__init__(response=flask.Response(body, code, {_MARK: "true"}, mimetype="text/plain"))


def reached() -> App:
    """Return the application. The request has reached its entry point: later failures are not the sender's fault.

    A transient error while the application is made is logged and answered 500.
    """
    flask.g.reached = True
    try:
        return bootstrap.app()
    except TransientError as error:
        _logger().warning("transient_error", reason=str(error))
        raise _Refused(f"Transient error: {error}\n", 500) from error


def finish(outcome: Outcome) -> None:
    """End an event function with a status code; 200 by returning, anything else by raising."""
    body, code = outcome
    if code != 200:  # noqa: PLR2004 - HTTP
        raise _Refused(body, code)


def commit(app: App, event: Any) -> Outcome:
    """Handle a message of the topic ``gitiles-commit``."""

    def handle() -> None:
        message = open_message(event)
        events = parse_commit_events(message.data)
        app.note_config_changes(events)
        on_commits(app.runtime, events, message.published, f"commit-{message.id}")

    return _settle_event(handle, "on_gitiles_commit", event)


def notification(app: App, event: Any) -> Outcome:
    """Handle a message of a Buildbucket server's topic; without a good token nothing is read or written."""

    def handle() -> None:
        message = open_message(event)
        token = find_token(message.attributes, message.data_base64)
        job_id, invocation_id = verify_token(app.settings.token_secrets, token, app.runtime.clock.now())
        on_notification(app.runtime, job_id, invocation_id, message.id)

    return _settle_event(handle, "on_build_completion", event)


def task(app: App, request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Handle a call of Cloud Tasks or Cloud Scheduler; the path's last part names the kind of task.

    The token is looked at before anything else: ``X-CloudTasks-*`` headers can be sent by anybody and prove nothing.
    """
    try:
        return _task(app, request)
    finally:
        discard_body(request)


def _task(app: App, request: flask.Request) -> flask.typing.ResponseReturnValue:
    kind = request.path.strip("/").rpartition("/")[2][:_MAX_LOGGED]
    headers = request.headers
    name = (headers.get("X-CloudTasks-TaskName") or headers.get("X-CloudScheduler-JobName") or "direct")[:_MAX_LOGGED]
    is_known = True

    def handle() -> None:
        nonlocal is_known
        try:
            app.verify_caller(headers.get("Authorization", ""))
        except UnauthenticatedError as error:
            is_known = False
            _logger().warning("unauthenticated", reason=str(error))
            return
        if kind == "sync":
            app.sync(f"sync-{name}")
        else:
            on_task(app.runtime, kind, _payload(request), f"task-{name}")

    give_up = headers.get("X-CloudTasks-TaskRetryCount", 0, type=int) >= _MALFORMED_RETRIES
    trace = delivery_trace(headers, f"task-{name}")
    body, code = respond(
        handle, trace=trace, give_up=give_up, seconds=BUDGETS["on_task"], function="on_task", kind=kind, task=name
    )
    if not is_known:
        # Nothing is redelivered for strangers; a real queue with a wrong setting shows up by the line in the log.
        body, code = "Unauthenticated\n", 401
    return body, code, {_MARK: "true", "Content-Type": "text/plain; charset=utf-8"}


def page(app: App, request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Answer a person, or a client of the API; nobody is answered before it is known who calls.

    Its log lines and tasks are part of the request's trace. A request that cannot be understood, or whose
    caller cannot be identified, leaves one line.
    """
    trace = brought_trace(request.headers)
    try:
        return isolated(lambda: _noted(_page(app, request)), trace, seconds=BUDGETS["console"], function="console")
    finally:
        discard_body(request)


Reply = tuple[Any, int, dict[str, str]]


def _noted(reply: Reply) -> flask.typing.ResponseReturnValue:
    body, code, headers = reply
    if code in _REFUSED_REQUESTS:
        _logger().info("request_refused", code=code, method=flask.request.method, path=flask.request.path[:200])
    return body, code, {**headers, _MARK: "true"}


def _plain(text: str, code: int, **headers: str) -> Reply:
    return text, code, {"Content-Type": "text/plain; charset=utf-8", **headers}


def _page(app: App, request: flask.Request) -> Reply:
    if app.access.problem:
        _logger().error("access_denied_to_all", reason=app.access.fault or app.access.problem)
    if request.path.startswith("/prpc/"):
        return _call(app, request)
    if request.method not in ("GET", "HEAD", "POST"):
        return _plain("Method not allowed\n", 405, Allow="GET, HEAD, POST")
    context = _identified(app, request)
    if not isinstance(context, Context):
        return context
    page_request = PageRequest(context, app.settings.token_secrets, request.args.to_dict())
    return _submit(page_request, request) if request.method == "POST" else answer(page_request, request.path)


def _identified(app: App, request: flask.Request) -> Context | Reply:
    """Return what the service layer works with, or the answer to a visitor who cannot be identified."""
    try:
        return app.context(request.headers)
    except UnauthenticatedError as error:
        return _plain(f"Unauthenticated: {error}\n", 401)
    except TransientError as error:
        if error.throttled:
            return _plain(f"Too many requests: {error}\n", 429, **_retry_after(error))
        _logger().warning("page_failed", reason=str(error))
        return _plain("The page cannot be shown just now.\n", 500)


def _retry_after(error: TransientError) -> dict[str, str]:
    return {"Retry-After": str(max(1, -(-error.retry_after // SECOND)))}


def _submit(page_request: PageRequest, request: flask.Request) -> Reply:
    try:
        body = read_body(request, _MAX_FORM_BYTES)
    except MalformedError as error:
        return _plain(f"Malformed: {error}\n", 400)
    if len(body) > _MAX_FORM_BYTES:
        return _plain(f"A form has at most {_MAX_FORM_BYTES} bytes\n", 413)
    request.stream = io.BytesIO(body)  # the form is parsed from here: the request's own stream is used up
    try:
        form = request.form
    except HTTPException as error:  # too many parts
        return _plain(f"Malformed: {error.name}\n", error.code or 400)
    return submit(page_request, request.path, form, request.headers.get("Sec-Fetch-Site", ""))


def _call(app: App, request: flask.Request) -> Reply:
    from luci_scheduler.api import description, prpc  # noqa: PLC0415 - the schema loads for this only
    from luci_scheduler.api.errors import ApiError, Code  # noqa: PLC0415

    if request.path == description.PATH and request.method in ("GET", "HEAD"):
        return flask.json.dumps(description.openapi()) + "\n", 200, {"Content-Type": "application/json"}

    def make_context() -> Context:
        try:
            return app.context(request.headers)
        except UnauthenticatedError as error:
            raise ApiError(Code.UNAUTHENTICATED, str(error)) from error
        except TransientError as error:
            if not error.throttled:
                raise
            raise ApiError(Code.RESOURCE_EXHAUSTED, str(error), _retry_after(error)) from error

    return prpc.answer(request, make_context)


def log_refusals(server: flask.Flask) -> None:
    """Answer refused requests in one way: a request that the framework refuses or cannot parse never reaches an entry point.

    Such a request is answered 4xx with a short text and leaves one line. Every answer gets the headers that keep a browser
    from taking it for anything but text.
    """

    def refuse(error: Exception) -> flask.Response:
        if isinstance(error, HTTPException):
            return error.get_response() if error.response is not None else _framework_answer(error)  # type: ignore[return-value]
        if flask.g.get("reached", False):
            _logger().exception("unexpected_error")
            return flask.Response("Internal error\n", 500, {_MARK: "true"}, mimetype="text/plain")
        flask.g.reason = repr(error)[:_MAX_LOGGED]
        return flask.Response("Malformed: this is no event that can be read\n", 400, mimetype="text/plain")

    def log(response: flask.Response) -> flask.Response:
        settled = response.headers.pop(_MARK, None)
        if not settled and response.status_code >= 400:  # noqa: PLR2004 - HTTP
            _logger().error(
                "refused_by_framework",
                code=response.status_code,
                method=flask.request.method,
                path=storable(flask.request.path[:200]),
                reason=flask.g.get("reason", ""),
            )
        for name, value in _SAFE_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    server.register_error_handler(Exception, refuse)
    server.after_request(log)


def _framework_answer(error: HTTPException) -> flask.Response:
    """Return the answer to a request that the framework refuses; the framework's own would quote the request's headers."""
    allow = [(name, value) for name, value in error.get_headers() if name == "Allow"]
    return flask.Response(f"{error.name}\n", error.code, allow, mimetype="text/plain")


def _logger() -> Any:
    return structlog.get_logger("luci_scheduler")


def refuse_other_sites(server: flask.Flask, app: Callable[[], App] = bootstrap.app) -> None:
    """In the local cloud, answer 403 to each request that a page of another site may have sent.

    There the console takes every caller for the developer, and the event functions believe every caller.
    """

    def refuse() -> flask.typing.ResponseReturnValue | None:
        reason = foreign_request(flask.request.method, flask.request.headers.get) if app().settings.local else ""
        headers = {_MARK: "true", "Content-Type": "text/plain; charset=utf-8"}
        return (f"{reason}\n", 403, headers) if reason else None

    server.before_request(refuse)


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


def _settle_event(handle: Callable[[], None], function: str, event: Any) -> Outcome:
    event_id = storable(str(event["id"])[:200])
    headers: Any = flask.request.headers if flask.has_request_context() else {}
    trace = delivery_trace(headers, f"event-{event_id}")
    return respond(handle, trace=trace, seconds=BUDGETS[function], function=function, event_id=event_id)
