"""The console's requests: pages, their actions, and calls of the API."""

from __future__ import annotations

import io
from typing import Any

import flask
import structlog
from werkzeug.exceptions import HTTPException

from luci_scheduler.api.context import Context
from luci_scheduler.bodies import read_body
from luci_scheduler.bootstrap import App
from luci_scheduler.core.errors import MalformedError, TransientError
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.routes import answer, submit

__all__ = ["ConsoleResponse", "answer_request"]

_MAX_FORM_BYTES = 1 << 16

ConsoleResponse = tuple[Any, int, dict[str, str]]
"""Body, status code and headers of the console's answer."""


def answer_request(app: App, request: flask.Request) -> ConsoleResponse:
    """Answer a page, an action, or a call of the API. The caller is authenticated first."""
    if app.access.problem:
        _logger().error("access_denied_to_all", reason=app.access.fault or app.access.problem)
    if request.path.startswith(("/prpc/", "/api/")):
        return _call(app, request)
    if request.method not in ("GET", "HEAD", "POST"):
        return _plain("Method not allowed\n", 405, Allow="GET, HEAD, POST")
    context = _identified(app, request)
    if not isinstance(context, Context):
        return context
    page_request = PageRequest(context, app.settings.verifying_secrets, request.args.to_dict())
    return _submit(page_request, request) if request.method == "POST" else answer(page_request, request.path)


def _identified(app: App, request: flask.Request) -> Context | ConsoleResponse:
    """Return the service layer's context, or the answer to a caller who cannot be identified."""
    try:
        return app.context(request.headers)
    except UnauthenticatedError as error:
        return _plain(f"Unauthenticated: {error}\n", 401)
    except TransientError as error:
        if error.throttled:
            return _plain(f"Too many requests: {error}\n", 429, **_retry_after(error))
        _logger().warning("page_failed", reason=str(error))
        return _plain("The page cannot be shown now. Try again in a minute.\n", 500)


def _plain(text: str, code: int, **headers: str) -> ConsoleResponse:
    return text, code, {"Content-Type": "text/plain; charset=utf-8", **headers}


def _retry_after(error: TransientError) -> dict[str, str]:
    return {"Retry-After": str(max(1, -(-error.retry_after // SECOND)))}  # whole seconds, rounded up


def _submit(page_request: PageRequest, request: flask.Request) -> ConsoleResponse:
    try:
        body = read_body(request, _MAX_FORM_BYTES)
    except MalformedError as error:
        return _plain(f"Malformed: {error}\n", 400)
    if len(body) > _MAX_FORM_BYTES:
        return _plain(f"A form has at most {_MAX_FORM_BYTES} bytes\n", 413)
    request.stream = io.BytesIO(body)  # the form is parsed from here, because the request's own stream is used up
    try:
        form = request.form
    except HTTPException as error:  # too many parts
        return _plain(f"Malformed: {error.name}\n", error.code or 400)
    return submit(page_request, request.path, form, request.headers.get("Sec-Fetch-Site", ""))


def _call(app: App, request: flask.Request) -> ConsoleResponse:
    from luci_scheduler.api import description, plain, prpc  # noqa: PLC0415 - only calls of the API load its schema
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

    answer_call = plain.answer if request.path.startswith("/api/") else prpc.answer
    return answer_call(request, make_context)


def _logger() -> Any:
    return structlog.get_logger("luci_scheduler")
