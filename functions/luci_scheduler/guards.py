"""The guards around every function: log lines of refused requests, safe headers, and the guard of the local cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import structlog
from werkzeug.exceptions import HTTPException

from luci_scheduler.core.loopback import foreign_request
from luci_scheduler.core.untrusted import storable

__all__ = ["ANSWERED", "log_refusals", "refuse_other_sites"]

ANSWERED = "X-Answered"
"""Marks our own answers until `log_refusals` has seen them; an answer without the mark is the framework's."""

_MAX_LOGGED = 500  # characters of a reason in a log line
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of each answer that does not set its own: a browser treats it as text, and no cache keeps it."""


def log_refusals(server: flask.Flask) -> None:
    """Answer and log the requests that never reach an entry point, because the framework refuses or cannot parse them.

    Such a request is answered 4xx with a short text and leaves one line. Every answer of the server gets the headers
    that make a browser treat it as text.
    """

    def refuse(error: Exception) -> flask.Response:
        if isinstance(error, HTTPException):
            return error.get_response() if error.response is not None else _framework_answer(error)  # type: ignore[return-value]
        if flask.g.get("reached", False):
            _logger().exception("unexpected_error")
            return flask.Response("Internal error\n", 500, {ANSWERED: "true"}, mimetype="text/plain")
        flask.g.reason = repr(error)[:_MAX_LOGGED]
        return flask.Response("Malformed: the request is not a readable event\n", 400, mimetype="text/plain")

    def log(response: flask.Response) -> flask.Response:
        is_ours = response.headers.pop(ANSWERED, None)
        if not is_ours and response.status_code >= 400:  # noqa: PLR2004 - HTTP
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
    """Return the answer to a refused request; the framework's own answer would quote the request's headers."""
    allow = [(name, value) for name, value in error.get_headers() if name == "Allow"]
    return flask.Response(f"{error.name}\n", error.code, allow, mimetype="text/plain")


def refuse_other_sites(server: flask.Flask, is_local: Callable[[], bool]) -> None:
    """In the local cloud, answer 403 to each request that a page of another site may have sent.

    The local cloud needs this guard: its console takes every caller for the developer, and its event functions trust
    every caller.
    """

    def refuse() -> flask.typing.ResponseReturnValue | None:
        flask.g.reached = True  # if the settings cannot be read now, that is no fault of the sender
        is_guarded = is_local()
        flask.g.reached = False
        reason = foreign_request(flask.request.method, flask.request.headers.get) if is_guarded else ""
        headers = {ANSWERED: "true", "Content-Type": "text/plain; charset=utf-8"}
        return (f"{reason}\n", 403, headers) if reason else None

    server.before_request(refuse)


def _logger() -> Any:
    return structlog.get_logger("luci_scheduler")
