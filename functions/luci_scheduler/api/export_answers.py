"""The answers of Buildbucket, from the lines of a debug log. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from luci_scheduler.api.export_log import NotReplayableError, read_json
from luci_scheduler.core import log_lines
from luci_scheduler.core.debug_log import LogEntry

__all__ = ["BLOCKS", "NOTHING", "another_build", "checked", "failure", "found_builds", "launched"]

BLOCKS = (log_lines.V2_SCHEDULED, log_lines.V1_RESPONSE, log_lines.BUILD, log_lines.V1_BUILD)
"""The lines that contain a whole answer of Buildbucket."""

NOTHING: dict[str, Any] = {"reply": {}}
"""An empty success: a search that finds no build, or a canceled build."""

_V1_FIELDS = ("status", "result", "failure_reason", "cancelation_reason")

_ERRORS = {
    "CANCELLED": False, "INVALID_ARGUMENT": False, "NOT_FOUND": False, "ALREADY_EXISTS": False,
    "PERMISSION_DENIED": False, "RESOURCE_EXHAUSTED": True, "FAILED_PRECONDITION": False, "ABORTED": True,
    "OUT_OF_RANGE": False, "UNAUTHENTICATED": False,
}  # fmt: skip
"""The other codes: whether the scheduler tries again."""
_HTTP = re.compile(r"HTTP (\d{3})(?:: ?(.*))?", re.DOTALL)
_CODES_OF_HTTP = {"401": "UNAUTHENTICATED", "403": "PERMISSION_DENIED", "503": "UNAVAILABLE"}
_PAGE = "an HTML page"
_LOST, _LATE = "no answer: ConnectionError", "DEADLINE_EXCEEDED: no complete answer in time"


def launched(entry: LogEntry) -> dict[str, Any]:
    """Return the answer to a request for a build."""
    for template in BLOCKS:
        if fields := template.match(entry.text):
            return {"reply": read_json(fields["answer"])}
    raise NotReplayableError(f"its log does not show the whole answer of {entry.text[:100]!r}")


def checked(entries: Sequence[LogEntry], build_id: str) -> tuple[LogEntry, dict[str, Any]] | None:
    """Return the first line that a check's answer led to, and the answer; None if the check failed before its call."""
    first = next((entry for entry in entries if _tells(entry)), None)
    if first is None:
        return None
    if failed := log_lines.CALL_FAILED.match(first.text):
        # Only a check that is refused, or that has waited for days, leaves any line.
        is_silent = any(log_lines.SILENT.begins(entry.text) for entry in entries)
        return first, failure(failed["error"], is_transient=is_silent)
    return first, _status(entries, first, build_id)


def _tells(entry: LogEntry) -> bool:
    templates = (*BLOCKS, log_lines.BUILD_STATUS, log_lines.V2_UNEXPECTED, log_lines.V1_ERROR, log_lines.V1_INVALID)
    is_v1 = log_lines.V1_STATUS.match(entry.text) is not None
    return is_v1 or log_lines.CALL_FAILED.begins(entry.text) or any(item.begins(entry.text) for item in templates)


def _status(entries: Iterable[LogEntry], first: LogEntry, build_id: str) -> dict[str, Any]:
    for entry in entries:
        if any(template.match(entry.text) for template in BLOCKS):
            return launched(entry)
    if fields := log_lines.V1_STATUS.match(first.text):
        known = {name: _unquoted(fields[name]) for name in _V1_FIELDS}
        return {"reply": {"build": {"id": fields["build_id"], **{name: text for name, text in known.items() if text}}}}
    if fields := log_lines.BUILD_STATUS.match(first.text):
        return {"reply": {"id": build_id, "status": fields["status"]}}
    raise NotReplayableError(f"its log does not show the whole answer of {first.text[:100]!r}")


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise NotReplayableError(f"a field of an answer in its log is not JSON: {text}") from error


def another_build(build_id: str, *, is_v1: bool) -> dict[str, Any]:
    """Return the answer to a request with the build of another invocation."""
    if is_v1:
        return {"reply": {"build": {"id": build_id, "tags": ["scheduler_invocation_id:1"]}}}
    return {"reply": {"id": build_id, "tags": [{"key": "scheduler_invocation_id", "value": "1"}]}}


def found_builds(ids: Sequence[str], oldest: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the answer to a search: active builds, the newest first, and the oldest if its content is known."""
    builds = [{"id": build_id, "status": "STARTED"} for build_id in ids]
    return {"reply": {"builds": [*builds, *([oldest] if oldest else [])]}}


def failure(text: str, *, is_transient: bool = True) -> dict[str, Any]:
    """Return the answer that leads to an error such as ``UNAVAILABLE: HTTP 502: bad gateway``.

    If no answer on the wire is known to lead to this text, the scenario has the client's own error.
    """
    code, _, message = text.partition(": ")
    if is_transient and text == _LATE:
        return {"silent": True}
    if is_transient and message == _LOST:
        return {"lost": True}
    if is_transient and (answer := _http(text, code, message)):
        return answer
    if _ERRORS.get(code) is is_transient and not _HTTP.match(message):
        return {"error": code, "message": message}
    return {"failure": text, **({} if is_transient else {"transient": False})}


def _http(text: str, code: str, message: str) -> dict[str, Any] | None:
    """Return a bare HTTP status; None if the text has another source, or the answer said more."""
    is_v1 = _HTTP.fullmatch(code) is not None
    match = _HTTP.fullmatch(text if is_v1 else message)
    if match is None or not 200 <= int(match[1]) <= 599:  # noqa: PLR2004 - HTTP
        return None
    body = match[2] or ""
    expected = code if is_v1 else _CODES_OF_HTTP.get(match[1], "INTERNAL")
    if code != expected or not _is_plain(body):
        return None
    return {"http": int(match[1]), **({"body": body} if body else {})}


def _is_plain(body: str) -> bool:
    """Whether a server that sends this text leads to this text in the log."""
    return body != _PAGE and body == body.strip() and not body.startswith("{")
