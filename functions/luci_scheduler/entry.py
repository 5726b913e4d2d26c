"""What the entry points do: from envelopes to the engine, from outcomes to answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import flask
import structlog
from werkzeug.exceptions import HTTPException

from luci_scheduler.api.context import Context
from luci_scheduler.bootstrap import App
from luci_scheduler.core.commit_event import parse_commit_events
from luci_scheduler.core.errors import MalformedError, TransientError
from luci_scheduler.core.notification_token import find_token, verify_token
from luci_scheduler.engine.commit import on_commits
from luci_scheduler.engine.tasks import on_task
from luci_scheduler.engine.watch import on_notification
from luci_scheduler.envelopes import open_message
from luci_scheduler.settle import settle
from luci_scheduler.tracing import brought_trace, delivery_trace, isolated
from luci_scheduler.web.views import answer, submit
from luci_scheduler.web.visit import Visit

__all__ = ["commit", "finish", "log_refusals", "notification", "page", "task"]

_MAX_FORM_BYTES = 1 << 16
_MAX_TASK_BYTES = 1 << 20  # Cloud Tasks takes at most a megabyte
# A task that this version does not understand may be a newer one's, during a deployment; with the queue's pauses ten retries
# last a quarter of an hour. After that it is dropped: a queue has no dead letters.
_MALFORMED_RETRIES = 10
_MARK = "X-Settled"
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_NOT_LOOPBACK = "With SCHEDULER_LOCAL_USER set the console answers to localhost, 127.0.0.1 and [::1] only\n"

Outcome = tuple[str, int]


class _Refused(HTTPException):
    """Carries a status code through the framework, which answers 200 to whatever an event function returns."""

    def __init__(self, body: str, code: int) -> None:
        super().__init__(response=flask.Response(body, code, {_MARK: "true"}, mimetype="text/plain"))


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
    from luci_scheduler.adapters.identity import UnauthenticatedError  # noqa: PLC0415 - keeps other functions' start short

    kind = request.path.strip("/").rpartition("/")[2]
    name = request.headers.get("X-CloudTasks-TaskName") or request.headers.get("X-CloudScheduler-JobName") or "direct"
    is_known = True

    def handle() -> None:
        nonlocal is_known
        try:
            app.verify_caller(request.headers.get("Authorization", ""))
        except UnauthenticatedError as error:
            is_known = False
            structlog.get_logger("luci_scheduler").warning("unauthenticated", reason=str(error))
            return
        if kind == "sync":
            app.sync(f"sync-{name}")
        else:
            on_task(app.runtime, kind, _payload(request), f"task-{name}")

    give_up = request.headers.get("X-CloudTasks-TaskRetryCount", 0, type=int) >= _MALFORMED_RETRIES
    trace = delivery_trace(request.headers, f"task-{name}")
    body, code = settle(handle, trace=trace, give_up=give_up, function="on_task", kind=kind, task=name)
    if not is_known:
        # Nothing is redelivered for strangers; a real queue with a wrong setting shows up by the line in the log.
        return "Unauthenticated\n", 401, {_MARK: "true"}
    return body, code, {_MARK: "true", "Content-Type": "text/plain; charset=utf-8"}


def page(app: App, request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Answer a person, or a client of the API; nobody is answered before it is known who calls.

    What it logs and enqueues is part of the trace that the request brings.
    """
    return isolated(lambda: _page(app, request), brought_trace(request.headers), function="console")


def _page(app: App, request: flask.Request) -> flask.typing.ResponseReturnValue:
    from luci_scheduler.adapters.identity import UnauthenticatedError  # noqa: PLC0415 - only here and in ``task``

    if app.access.problem:
        structlog.get_logger("luci_scheduler").error(
            "access_denied_to_all", reason=app.access.fault or app.access.problem
        )
    if app.settings.local_user and not _LOOPBACK.fullmatch(request.host):
        # Everybody is taken for that user: a page of another site whose name is made to lead here must not be everybody.
        return _NOT_LOOPBACK, 403, {_MARK: "true", "Content-Type": "text/plain; charset=utf-8"}
    if request.path.startswith("/prpc/"):
        return _call(app, request)
    if request.method not in ("GET", "HEAD", "POST"):
        return "Method not allowed\n", 405, {"Allow": "GET, HEAD, POST", _MARK: "true"}
    try:
        context = app.context(request.headers)
    except UnauthenticatedError as error:
        return f"Unauthenticated: {error}\n", 401, {_MARK: "true", "Content-Type": "text/plain; charset=utf-8"}
    except TransientError as error:
        structlog.get_logger("luci_scheduler").warning("page_failed", reason=str(error))
        return "The page cannot be shown just now.\n", 500, {_MARK: "true", "Content-Type": "text/plain; charset=utf-8"}
    visit = Visit(context, app.settings.token_secrets, request.args.to_dict())
    if request.method == "POST":
        if (request.content_length or 0) > _MAX_FORM_BYTES:
            return f"A form has at most {_MAX_FORM_BYTES} bytes\n", 413, {_MARK: "true"}
        body, code, headers = submit(visit, request.path, request.form, request.headers.get("Sec-Fetch-Site", ""))
    else:
        body, code, headers = answer(visit, request.path)
    return body, code, {**headers, _MARK: "true"}


def _call(app: App, request: flask.Request) -> flask.typing.ResponseReturnValue:
    from luci_scheduler.adapters.identity import UnauthenticatedError  # noqa: PLC0415
    from luci_scheduler.api import description, prpc  # noqa: PLC0415 - the schema loads for this only
    from luci_scheduler.api.errors import ApiError, Code  # noqa: PLC0415

    if request.path == description.PATH and request.method in ("GET", "HEAD"):
        return flask.jsonify(description.openapi())

    def make_context() -> Context:
        try:
            return app.context(request.headers)
        except UnauthenticatedError as error:
            raise ApiError(Code.UNAUTHENTICATED, str(error)) from error

    body, status, headers = prpc.answer(request, make_context)
    return body, status, {**headers, _MARK: "true"}


def log_refusals(server: flask.Flask) -> None:
    """Log what the framework itself refuses (an envelope that is no CloudEvent), which never reaches an entry point."""

    def log(response: flask.Response) -> flask.Response:
        settled = response.headers.pop(_MARK, None)
        if not settled and 400 <= response.status_code < 500:  # noqa: PLR2004 - HTTP
            structlog.get_logger("luci_scheduler").error(
                "refused_by_framework",
                code=response.status_code,
                method=flask.request.method,
                path=flask.request.path[:200],
            )
        return response

    server.after_request(log)


def _payload(request: flask.Request) -> dict[str, Any]:
    if (request.content_length or 0) > _MAX_TASK_BYTES:
        raise MalformedError(f"a task's body has at most {_MAX_TASK_BYTES} bytes")
    payload = request.get_json(force=True, silent=True)
    if payload is None and not request.get_data():
        return {}
    if not isinstance(payload, dict):
        raise MalformedError("a task's body must be a JSON object")
    return payload


def _settle_event(handle: Callable[[], None], function: str, event: Any) -> Outcome:
    event_id = str(event["id"])[:200]
    headers: Any = flask.request.headers if flask.has_request_context() else {}
    return settle(handle, trace=delivery_trace(headers, f"event-{event_id}"), function=function, event_id=event_id)
