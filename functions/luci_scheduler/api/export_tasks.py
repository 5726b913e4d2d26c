"""Deliveries about jobs that end with their launch: sleeps and fetches, from their log lines. Pure."""

from __future__ import annotations

import re
from typing import Any

from luci_scheduler.api.export_builds import tail
from luci_scheduler.api.export_log import Cursor, NotReplayableError
from luci_scheduler.api.export_step import Step
from luci_scheduler.core import log_lines
from luci_scheduler.core.debug_log import LogEntry
from luci_scheduler.core.go_text import parse_duration
from luci_scheduler.core.instants import MILLISECOND
from luci_scheduler.core.invocation import Invocation

__all__ = ["fetch", "sleep"]

_STATUS = re.compile(r"\d{3}(?: .*)?")
_EMPTY, _BINARY, _TRUNCATED = "<empty body>", "<binary response>", "<truncated>"
_SOME_BYTES = "AA=="  # a zero byte, in base64


def sleep(step: Step, cursor: Cursor, invocation: Invocation, duration: int) -> None:
    """Add the launch of a noop task: it sleeps after its first line, by the replay's own clock."""
    if cursor.peek(log_lines.NOOP_RUNNING):
        first = cursor.take()
        emitted = invocation.outgoing_triggers
        end = emitted[0].created if emitted else invocation.finished
        step.spend("line", _start(first, end, duration))
        if not cursor.peek(log_lines.NOOP_TOO_LARGE):
            step.pace.reach(step.pace.now + duration)
    tail(step, cursor, invocation.finished)


def _start(first: LogEntry, end: int | None, duration: int) -> int:
    """Return when the work of a line began that ended at ``end``: stamps have milliseconds, ends have nanoseconds."""
    return first.at if end is None else max(first.at, min(end - duration, first.at + MILLISECOND - 1))


def fetch(step: Step, cursor: Cursor, invocation: Invocation) -> None:
    """Add the launch of a fetch, whose answer follows the line about its duration."""
    fetched = next((entry for entry in cursor.rest if log_lines.FETCHED.match(entry.text)), None)
    if cursor.peek(log_lines.FETCHING) and fetched is not None:
        duration = _duration(fetched)
        step.spend("line", _start(cursor.take(), fetched.at, duration))
        answer = _answer(cursor.rest[cursor.rest.index(fetched) + 1 :])
        step.call(answer, step.pace.now + duration, to="fetch")
    tail(step, cursor, invocation.finished)


def _duration(entry: LogEntry) -> int:
    fields = log_lines.FETCHED.match(entry.text)
    return parse_duration(fields["duration"]) if fields else 0


def _answer(following: Any) -> dict[str, Any]:
    """Return the answer that a response's dump shows; secret headers stay redacted."""
    if not following:
        raise NotReplayableError("its log does not show the answer to its fetch")
    text = following[0].text
    if fields := log_lines.FETCH_FAILED.match(text):
        return {"error": fields["error"]}
    head, _, rest = text.partition("\n")
    if not _STATUS.fullmatch(head):
        raise NotReplayableError("its log does not show the status of the answer to its fetch")
    lines = rest.split("\n")
    headers: list[list[str]] = []
    while lines and lines[0].endswith("\r"):
        name, _, value = lines.pop(0).removesuffix("\r").partition(": ")
        headers.append([name, value])
    body = "\n".join(lines[1:])
    return {"status": head, **({"headers": headers} if headers else {}), **_body(body)}


def _body(body: str) -> dict[str, Any]:
    if body == _EMPTY:
        return {}
    if body == _BINARY:
        return {"base64": _SOME_BYTES}
    if body.endswith(f"\n{_TRUNCATED}"):
        text = body.removesuffix(f"\n{_TRUNCATED}")
        return {"body": text, "length": len(text.encode()) + 1}
    return {"body": body}
