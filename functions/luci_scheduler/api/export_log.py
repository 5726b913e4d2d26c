"""The debug log of an invocation, read back into the deliveries of a scenario. Pure.

The log shows when each delivery came, what Buildbucket answered, and which delays were drawn. It does not show repeated
notifications and lost races, but these would change nothing in a replay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from luci_scheduler.core import log_lines
from luci_scheduler.core.debug_log import LogEntry
from luci_scheduler.core.go_text import format_duration, parse_duration
from luci_scheduler.core.instants import MICROSECOND, MILLISECOND, SECOND, Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.log_lines import Call, Template
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.runtime import Limits

__all__ = ["Deliveries", "NotReplayableError", "begins_with", "first_match", "read_json"]

_BEGINNINGS = (log_lines.NOTIFIED, log_lines.HANDLING_TIMER, log_lines.TOO_MANY_ATTEMPTS, log_lines.QUEUED)
"""The first lines of deliveries. A later launch attempt begins with ``STARTING`` instead."""

_BLOCKS = (log_lines.V2_SCHEDULED, log_lines.V1_RESPONSE, log_lines.V2_BUILD, log_lines.V1_BUILD)
"""The lines that contain a whole answer of Buildbucket."""

_ANSWERS = (*_BLOCKS, log_lines.V2_STATUS, log_lines.V2_UNEXPECTED, log_lines.V1_ERROR)
_BUILD_CALLS = frozenset({Call.ADD, Call.SCHEDULE, Call.FETCH, Call.FETCH_V1})
_V1_FIELDS = ("status", "result", "failure_reason", "cancelation_reason")
_THROTTLED = re.compile(r"(RESOURCE_EXHAUSTED|HTTP 429)\b")
_FIXED_TEXTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""Codes that represent an HTTP status without a message."""

_V1_INTERVAL = 60  # seconds between status checks by default (the original's)
_DRAWN = range(60, 600)  # the seconds from which the original draws in v2
_LIMITS = Limits()  # they determine the pauses between launch attempts

_Takes = dict[str, list[str]]
_Answers = list[dict[str, Any]]


class NotReplayableError(Exception):
    """A scenario cannot describe the invocation. The text gives the reason."""


def begins_with(entries: Iterable[LogEntry], *templates: Template) -> LogEntry | None:
    """Return the first entry with the beginning of one of the templates, or None."""
    return next((entry for entry in entries if _is_any(entry, templates)), None)


def first_match(entries: Iterable[LogEntry], template: Template) -> dict[str, str] | None:
    """Return the fields of the first entry that matches a template, or None."""
    matches = (template.match(entry.text) for entry in entries)
    return next((match for match in matches if match is not None), None)


def read_json(text: str) -> dict[str, Any]:
    """Read a request or an answer from the log.

    Raises:
        NotReplayableError: the text is not a JSON object.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise NotReplayableError(f"a request or an answer in its log is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise NotReplayableError("a request or an answer in its log is not a JSON object")
    return document


class Deliveries:
    """Builds the deliveries of a scenario, on a clock that shows the time that a replay would have.

    In a replay, time passes only in calls to the outside. Lines between which the process itself was slow get the
    stamp of the line before.
    """

    def __init__(self, invocation: Invocation, *, is_v1: bool) -> None:
        self._invocation = invocation
        self._is_v1 = is_v1
        self._now = invocation.started
        self._due: int | None = None
        """When the next task is due, as the queue keeps it."""
        self._delays: list[int] = []
        self._attempt = 1

    def of(self, entries: Sequence[LogEntry], trigger: Trigger) -> list[dict[str, Any]]:
        """Return the deliveries that a log shows. Call this once.

        Raises:
            NotReplayableError: the log lacks something that a replay needs.
        """
        first, *later = _segments(entries)
        return [self._first(first, trigger), *map(self._later, later)]

    def check_interval(self) -> dict[str, int]:
        """Return the setting for the seconds between status checks.

        It is empty if the seconds were drawn at random, or are the protocol's defaults.
        """
        drawn = not self._is_v1 and all(delay in _DRAWN for delay in self._delays)
        if not self._delays or drawn:
            return {}
        if len(set(self._delays)) > 1:
            raise NotReplayableError("the time between its status checks was changed while it ran")
        is_usual = self._is_v1 and self._delays[0] == _V1_INTERVAL
        return {} if is_usual else {"check_interval_seconds": self._delays[0]}

    def check_delays(self) -> dict[str, list[int]]:
        """Return the drawn seconds until status checks, if they were drawn at random."""
        drawn = not self._is_v1 and self._delays and not self.check_interval()
        return {"check_delays": self._delays} if drawn else {}

    def _first(self, entries: Sequence[LogEntry], trigger: Trigger) -> dict[str, Any]:
        started = begins_with(entries, log_lines.STARTING)
        if started is None:
            raise NotReplayableError("it was not started yet")
        reads = ["0s", self._pass_until(entries[0].at)]
        commits = [self._pass_until(started.at)]
        takes, answers = self._launch(entries[entries.index(started) :])
        takes["read"] = reads
        takes["commit"] = [*commits, *takes["commit"]]
        return {
            "commit": {name: str(trigger.payload[name]) for name in ("repo", "ref", "revision")},
            "at": format_rfc3339(self._invocation.started),
            "published": format_rfc3339(trigger.created),
            "takes": takes,
            "answers": answers,
        }

    def _later(self, entries: Sequence[LogEntry]) -> dict[str, Any]:
        begin = entries[0]
        if _is_any(begin, [log_lines.NOTIFIED]):
            return self._notification(entries)
        lateness = self._task_comes(begin.at)
        if _is_any(begin, [log_lines.HANDLING_TIMER]):
            takes, answers = self._call(entries)
            return {"task": "timer", "lateness": lateness, "takes": takes, "answers": answers}
        self._attempt += 1
        if _is_any(begin, [log_lines.TOO_MANY_ATTEMPTS]):
            return {"task": "launch", "lateness": lateness, "answers": [{"reply": {}}]}
        takes, answers = self._launch(entries)
        # A later attempt first looks up the build of an earlier one. The log does not show the result, nor depend on
        # it.
        takes["call"], answers = ["0s", *takes["call"]], [{"reply": {}}, *answers]
        return {"task": "launch", "lateness": lateness, "takes": takes, "answers": answers}

    def _notification(self, entries: Sequence[LogEntry]) -> dict[str, Any]:
        self._now = at = Instant(max(self._now, entries[0].at))
        takes, answers = self._call(entries)
        build = {"id": str(self._invocation.task_data.get("build_id", ""))}
        return {"notification": {"build": build}, "at": format_rfc3339(at), "takes": takes, "answers": answers}

    def _task_comes(self, at: Instant) -> str:
        if self._due is None:
            raise NotReplayableError("its log has a task whose creation it does not show")
        # The queue keeps microseconds. One more than the stamp is still in the same millisecond.
        self._now = Instant(max(self._now, at + MICROSECOND))
        lateness = format_duration(self._now - self._due)
        self._due = None
        return lateness

    def _launch(self, entries: Sequence[LogEntry]) -> tuple[_Takes, _Answers]:
        """Return durations and answers of a launch attempt. Its first line was written by the commit of its claim."""
        if len(entries) < 2:  # noqa: PLR2004 - the first line, and the line of a result
            raise NotReplayableError("it is still being launched")
        claim = self._pass_until(entries[1].at)
        takes, answers = self._call(entries)
        if begins_with(entries, log_lines.FINISHED) and not begins_with(entries, log_lines.TASK_URL):
            # A launch that fails looks for a build that it may have created anyway. The log shows only the time
            # that this took.
            takes["call"].append(self._pass_until(self._invocation.finished or self._now))
            answers.append({"reply": {}})
        if begins_with(entries, log_lines.RETRIED):
            self._due = _kept(self._now + self._retry_pause(entries))
        return {"commit": [claim], **takes}, answers

    def _retry_pause(self, entries: Sequence[LogEntry]) -> int:
        if any(map(_is_throttled, entries)):
            raise NotReplayableError("a launch was refused for a quota: the pause before the next attempt was random")
        shift = min(self._attempt - 1, 20)
        return min(_LIMITS.retry_backoff_min << shift, _LIMITS.retry_backoff_max)

    def _call(self, entries: Sequence[LogEntry]) -> tuple[_Takes, _Answers]:
        """Return durations and answers of a delivery that calls Buildbucket once and may then set a timer."""
        answered = next((entry for entry in entries if _is_answer(entry)), None)
        if answered is None:
            raise NotReplayableError(f"its log does not show Buildbucket's answer after {entries[0].text!r}")
        takes = {"call": [self._pass_until(self._call_end(entries, answered))]}
        timer = begins_with(entries, log_lines.SCHEDULING_TIMER)
        if timer is not None:
            delay = _seconds(timer.text)
            self._delays.append(delay)
            self._due = _kept(self._now + delay * SECOND)
            takes["enqueue"] = [self._pass_until(timer.at)]
        build_id = self._invocation.task_data.get("build_id")
        return takes, [_answer(entries, answered, is_v1=self._is_v1, build_id=build_id)]

    def _call_end(self, entries: Sequence[LogEntry], answered: LogEntry) -> Instant:
        """Return when a call ended: to the nanosecond from the record for the last call, else to the millisecond."""
        finished = self._invocation.finished
        if finished is None or not begins_with(entries, log_lines.FINISHED):
            return answered.at
        return finished if finished - finished % MILLISECOND == answered.at else answered.at

    def _pass_until(self, instant: Instant) -> str:
        """Advance the clock to an instant, and return the duration."""
        passed = max(0, instant - self._now)
        self._now = Instant(self._now + passed)
        return format_duration(passed)


def _segments(entries: Sequence[LogEntry]) -> list[list[LogEntry]]:
    """Return the entries of each delivery."""
    segments: list[list[LogEntry]] = []
    for entry in entries:
        if _begins_delivery(entry) or not segments:
            segments.append([])
        segments[-1].append(entry)
    return segments


def _begins_delivery(entry: LogEntry) -> bool:
    attempt = log_lines.STARTING.match(entry.text)
    # The first attempt is part of the delivery that made the invocation.
    return _is_any(entry, _BEGINNINGS) or (attempt is not None and attempt["attempt"] != "1")


def _is_any(entry: LogEntry, templates: Iterable[Template]) -> bool:
    return any(template.begins(entry.text) for template in templates)


def _kept(instant: int) -> int:
    return instant - instant % MICROSECOND


def _seconds(line: str) -> int:
    match = log_lines.SCHEDULING_TIMER.match(line)
    try:
        seconds, rest = divmod(parse_duration(match["delay"] if match else ""), SECOND)
    except ValueError:
        seconds, rest = 0, 1
    if rest:
        raise NotReplayableError(f"the time of a status check is not a whole number of seconds: {line!r}")
    return seconds


def _is_answer(entry: LogEntry) -> bool:
    return _is_any(entry, _ANSWERS) or bool(_failure_text(entry) or log_lines.V1_STATUS.match(entry.text))


def _is_throttled(entry: LogEntry) -> bool:
    failure = log_lines.CALL_FAILED.match(entry.text)
    return failure is not None and _THROTTLED.match(failure["error"]) is not None


def _failure_text(entry: LogEntry) -> str:
    """Return the error of a failed call about the build itself; empty for other lines."""
    failure = log_lines.CALL_FAILED.match(entry.text)
    return failure["error"] if failure and failure["call"] in _BUILD_CALLS else ""


def _answer(entries: Sequence[LogEntry], answered: LogEntry, *, is_v1: bool, build_id: Any) -> dict[str, Any]:
    for entry in entries:
        if answer := _whole_answer(entry):
            return {"reply": read_json(answer)}
    if error := _failure_text(answered):
        return _failure(error, is_v1=is_v1)
    if fields := log_lines.V1_STATUS.match(answered.text):
        texts = {name: _unquoted(fields[name]) for name in _V1_FIELDS}
        return {"reply": {"build": {"id": fields["build_id"], **{name: text for name, text in texts.items() if text}}}}
    if fields := log_lines.V2_STATUS.match(answered.text):
        return {"reply": {"id": str(build_id), "status": fields["status"]}}
    raise NotReplayableError(f"its log does not show the whole answer of {answered.text!r}")


def _whole_answer(entry: LogEntry) -> str:
    for template in _BLOCKS:
        if fields := template.match(entry.text):
            return fields["answer"]
    return ""


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise NotReplayableError(f"a field of an answer in its log is not JSON: {text}") from error


def _failure(text: str, *, is_v1: bool) -> dict[str, Any]:
    """Return the answer that leads to an error such as ``UNAVAILABLE: HTTP 502: bad gateway``."""
    code, _, message = text.partition(": ")
    if message.startswith("no answer: "):
        return {"lost": True}
    text = code if is_v1 else message
    if text.startswith("HTTP "):
        status, _, body = text.removeprefix("HTTP ").partition(": ")
        body = message if is_v1 else body
        return {"http": int(status), **({"body": body} if body else {})}
    return {"error": code, **({} if code in _FIXED_TEXTS else {"message": message})}
