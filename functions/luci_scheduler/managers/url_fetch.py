"""The task manager of jobs that fetch a URL: the answer's status code is the outcome, its beginning is logged."""

from __future__ import annotations

import re
from collections.abc import Iterable

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.fetch_target import shown_url
from luci_scheduler.core.foreign_text import escaped
from luci_scheduler.core.go_text import format_duration, quote
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.invocation import Status, Timer
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.environment import Environment
from luci_scheduler.ports import Fetched, FetchError

__all__ = ["UrlFetchManager", "dump_response", "launch_time"]

_DEFAULT_TIMEOUT = 60 * SECOND
_MAX_TIMEOUT = 8 * MINUTE  # the original's
_LOGGED_BYTES = 4096  # the original's
_FIRST_ERROR = 400
_TEXT_TYPES = ("text/", "application/json", "application/xml")
_SECRET_HEADERS = frozenset({"Authorization", "Proxy-Authorization", "Set-Cookie", "Set-Cookie2"})
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def launch_time(task: TaskDefinition) -> int:
    """Return how long the launch of a task may block, in nanoseconds: the fetch's timeout."""
    seconds = int(task.fields.get("timeout_sec", 0))
    return min(seconds * SECOND or _DEFAULT_TIMEOUT, _MAX_TIMEOUT)


class UrlFetchManager:
    """``TaskManager`` for ``url_fetch``: its launch fetches the URL and ends the invocation; it is never retried."""

    def __init__(self, environment: Environment) -> None:
        self._fetch = environment.fetch

    def idle(self, controller: Controller) -> bool:  # noqa: ARG002 - part of the protocol
        """Tell that there is always something to do."""
        return False

    def launch(self, controller: Controller) -> None:
        """Fetch the URL; FAILED without an answer or if its code is 400 or more, otherwise SUCCEEDED.

        A delivery that decides again does not fetch again; an attempt after an interrupted one does.
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

    def _timed(self, controller: Controller, url: str) -> tuple[Fetched | FetchError, int]:
        started = controller.clock.now()
        outcome: Fetched | FetchError
        try:
            outcome = self._fetch.get(url, launch_time(controller.invocation.task), _LOGGED_BYTES)
        except FetchError as error:
            outcome = error
        return outcome, controller.clock.now() - started

    def handle_notification(self, controller: Controller) -> None:
        """Do nothing: nobody notifies."""

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Do nothing: there are no timers."""

    def abort(self, controller: Controller) -> None:
        """Do nothing: a fetch cannot be taken back."""


def dump_response(answer: Fetched) -> str:
    """Return an answer as the debug log shows it; the last line ends with a newline of its own.

    Values of headers that hold credentials are left out, and control characters are shown as Go escapes them, so that
    an answer can neither leak a cookie nor steer a terminal. Line ends are kept.
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
    """Whether the body can be read: of a text type, and not compressed although nobody asked for that."""
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
