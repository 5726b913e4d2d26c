"""The manager of ``url_fetch`` jobs. The status code is the outcome; the log shows the response."""

from __future__ import annotations

import re
from collections.abc import Iterable

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.fetch_target import shown_url
from luci_scheduler.core.foreign_text import escaped
from luci_scheduler.core.go_text import format_duration, quote
from luci_scheduler.core.invocation import Status, Timer
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.url_fetch.kind import fetch_time
from luci_scheduler.ports import Fetched, FetchError

__all__ = ["UrlFetchManager", "dump_response"]

_LOGGED_BYTES = 4096  # the original's
_FIRST_ERROR = 400  # the HTTP status from which a fetch has failed, as in the original
_TEXT_TYPES = ("text/", "application/json", "application/xml")
_SECRET_HEADERS = frozenset({"Authorization", "Proxy-Authorization", "Set-Cookie", "Set-Cookie2"})
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class UrlFetchManager:
    """``TaskManager`` for ``url_fetch``: a launch fetches the URL once and ends the invocation."""

    def __init__(self, environment: Environment) -> None:
        self._fetch = environment.fetch

    def idle(self, controller: Controller) -> bool:  # noqa: ARG002 - part of the protocol
        """Return False: a launch always has something to do."""
        return False

    def launch(self, controller: Controller) -> None:
        """Fetch the URL. The invocation fails without a response or with a code of 400 or more; otherwise it succeeds.

        A delivery that decides again does not fetch again. An attempt after an interrupted attempt does.
        """
        task = controller.invocation.task
        method, url = task.fields.get("method") or "GET", str(task.fields.get("url", ""))
        controller.log(log_lines.FETCHING.format(method=method, url=shown_url(url)))
        if method != "GET":
            raise PermanentError(f"unsupported HTTP method: {quote(method)}")
        controller.count_save()
        outcome, duration = controller.call_once("fetch", lambda: self._timed(controller, url))
        good = isinstance(outcome, Fetched) and outcome.code < _FIRST_ERROR
        status = Status.SUCCEEDED if good else Status.FAILED
        controller.log(log_lines.FETCHED.format(status=status, duration=format_duration(duration)))
        text = dump_response(outcome) if isinstance(outcome, Fetched) else log_lines.FETCH_FAILED.format(error=outcome)
        controller.log(text)
        controller.set_status(status)
        if not good:
            controller.set_summary(outcome.status if isinstance(outcome, Fetched) else str(outcome))

    def _timed(self, controller: Controller, url: str) -> tuple[Fetched | FetchError, int]:
        timeout, started = fetch_time(controller.invocation.task), controller.clock.now()
        outcome: Fetched | FetchError
        try:
            outcome = self._fetch.get(url, timeout, _LOGGED_BYTES)
        except FetchError as error:
            outcome = error
        return outcome, controller.clock.now() - started

    def handle_notification(self, controller: Controller) -> None:
        """Do nothing: no service sends notifications about a fetch."""

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Do nothing: a fetch sets no timers."""

    def abort(self, controller: Controller) -> None:
        """Do nothing: a fetch cannot be undone."""


def dump_response(answer: Fetched) -> str:
    """Return a response as the debug log shows it; the text ends with a newline.

    Credentials in headers are redacted, and control characters are escaped as Go does it, so that a response can
    neither leak a cookie nor control a terminal. Line breaks stay.
    """
    headers = sorted(((_canonical(name), value) for name, value in answer.headers), key=lambda header: header[0])
    lines = [f"{name}: {_value(name, value)}\r\n" for name, value in headers if name != "Transfer-Encoding"]
    return f"{_safe(answer.status)}\n{''.join(lines)}\n{_body(answer, headers)}"


def _body(answer: Fetched, headers: Iterable[tuple[str, str]]) -> str:
    if not answer.body:
        return "<empty body>\n"
    if not _is_text(headers):
        return "<binary response>\n"
    text = _safe(answer.body.decode("utf-8", "replace"))
    if not text.endswith("\n"):
        text += "\n"
    if answer.content_length is not None and len(answer.body) < answer.content_length:
        text += "<truncated>\n"
    return text


def _is_text(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether the body is readable text: its type is a text type, and the server did not compress it unasked."""
    headers = list(headers)
    encoded = any(name == "Content-Encoding" and value.lower() not in ("", "identity") for name, value in headers)
    return not encoded and any(name == "Content-Type" and value.startswith(_TEXT_TYPES) for name, value in headers)


def _canonical(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        return _safe(name)
    return "-".join(part.capitalize() for part in name.split("-"))


def _value(name: str, value: str) -> str:
    if name in _SECRET_HEADERS:
        return "<redacted>"
    return _safe(value.replace("\r", " ").replace("\n", " ").strip(" \t"))


def _safe(text: str) -> str:
    return escaped(text, lines=True)
