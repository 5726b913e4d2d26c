"""Deliveries about a Buildbucket job: launch attempts, status checks, aborts and cleanups, from their log lines. Pure.

Each method follows the calls that `managers.buildbucket` and the engine make, in their order. A call that leaves no
line has its usual answer: a search finds no build, and a cancellation succeeds.
"""

from __future__ import annotations

from collections.abc import Sequence

from luci_scheduler.api.export_answers import (
    BLOCKS,
    NOTHING,
    another_build,
    checked,
    failure,
    found_builds,
    launched,
)
from luci_scheduler.api.export_log import ABORTS, Cursor, NotReplayableError
from luci_scheduler.api.export_step import Step
from luci_scheduler.core import log_lines
from luci_scheduler.core.debug_log import LogEntry
from luci_scheduler.core.go_text import parse_duration
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.log_lines import Call, Template

__all__ = ["Builds", "tail"]

_SEARCH_LAG = 3 * MINUTE  # an earlier empty search does not end a cleanup
_SOME_BUILD = "1"
"""The ID of a build whose number the log does not show."""


def tail(step: Step, cursor: Cursor, finished: Instant | None) -> None:
    """Add the lines that are left."""
    while not cursor.is_over:
        if cursor.peek(log_lines.FINISHED):
            step.spend("end", finished)
        step.line(cursor.take())


class Builds:
    """Builds the deliveries of one invocation. Not for several."""

    def __init__(self, invocation: Invocation, *, is_v1: bool) -> None:
        self._invocation = invocation
        self._is_v1 = is_v1
        self._build_id = str(invocation.task_data.get("build_id", ""))
        self.delays: list[int] = []
        """The seconds until each status check."""
        self._may_be_left = False

    def launch(self, step: Step, cursor: Cursor, attempt: int, *, is_redecided: bool) -> None:
        """Add a launch attempt, from the line after the first. ``is_redecided``: an abort made it decide twice."""
        if is_redecided:
            self._decided_before(step, cursor)
            return
        if self._prepared(step, cursor):
            self._obtain(step, cursor, attempt)
        self._end_of_launch(step, cursor, attempt)

    def _decided_before(self, step: Step, cursor: Cursor) -> None:
        """Add an attempt whose lines were logged again after its calls, because an abort came during them."""
        until, rest = cursor.next_at, cursor.rest
        block = _block_of(rest)
        if block is None:  # the request had no answer, and the abort ended the attempt
            step.call({"lost": True}, until)
            self._cancel(step, cursor, "")
            tail(step, cursor, self._invocation.finished)
            return
        step.call(launched(block), until)
        for entry in rest[: next((place for place, entry in enumerate(rest) if _is_abort(entry)), 0)]:
            step.spend("line")
            if log_lines.SCHEDULING_TIMER.begins(entry.text):
                step.spend("enqueue")
                self.delays.append(_delay(entry))
        self._until_abort(step, cursor)

    def _until_abort(self, step: Step, cursor: Cursor) -> None:
        """Add the lines up to the end, or up to an abort and its calls."""
        while not cursor.is_over and not cursor.peek(*ABORTS, log_lines.FINISHED):
            self._plain(step, cursor)
        self._aborted(step, cursor, self._build_id)

    def _aborted(self, step: Step, cursor: Cursor, build_id: str) -> None:
        if cursor.peek(*ABORTS):
            step.line(cursor.take())
            self._cancel(step, cursor, build_id)
        tail(step, cursor, self._invocation.finished)

    def _prepared(self, step: Step, cursor: Cursor) -> bool:
        """Add the lines before the request, and return whether there was one."""
        stops = (log_lines.LAUNCH_SKIPPED, log_lines.FINISHED, log_lines.CALL_FAILED, log_lines.RETRIED)
        while not cursor.is_over and not cursor.peek(*stops):
            entry = cursor.take()
            step.line(entry)
            if log_lines.REQUEST.begins(entry.text):
                return True
        return False

    def _obtain(self, step: Step, cursor: Cursor, attempt: int) -> None:
        """Add the searches and requests of an attempt."""
        is_first = True
        while True:
            if (not is_first or attempt > 1) and self._existing(step, cursor):
                return
            is_first = False
            entry = cursor.peek(*BLOCKS, log_lines.CALL_FAILED, log_lines.BUILD_OF_ANOTHER)
            if entry is None:
                raise NotReplayableError("its log does not show Buildbucket's answer to a request for a build")
            if other := cursor.match(log_lines.BUILD_OF_ANOTHER):
                step.call(another_build(other["build_id"], is_v1=self._is_v1), entry.at)
                step.line(cursor.take())
                if cursor.peek(log_lines.RETRIED, log_lines.FINISHED):
                    return  # the last request of the attempt
                continue
            if log_lines.CALL_FAILED.begins(entry.text):
                step.call(failure(_error_of(entry), is_transient=not _is_given_up(cursor)), entry.at)
            else:
                step.call(launched(entry), entry.at)
            step.line(cursor.take())
            return

    def _existing(self, step: Step, cursor: Cursor) -> bool:
        """Add a search for the build of an earlier request; return whether it ends the attempt's calls."""
        entry = cursor.peek(log_lines.CALL_FAILED)
        if entry and _call_of(entry) == Call.FIND:
            return self._search_failed(step, cursor, entry)
        if not cursor.peek(log_lines.BUILD_DOUBLED):
            step.call(NOTHING)
            return False
        doubles = [fields["double"] for item in cursor.rest if (fields := log_lines.BUILD_DOUBLED.match(item.text))]
        block = _block_of(cursor.rest)
        oldest = launched(block)["reply"] if block else {"id": self._kept(cursor), "status": "STARTED"}
        step.call(found_builds(doubles, oldest.get("build", oldest)), cursor.next_at)
        return self._doubles(step, cursor, block)

    def _search_failed(self, step: Step, cursor: Cursor, entry: LogEntry) -> bool:
        """Add a search that failed; return whether the attempt ends with it. A refused search may be the last."""
        following = cursor.rest[1:2]
        ends = (log_lines.RETRIED, log_lines.FINISHED)
        goes_on = bool(following) and not any(template.begins(following[0].text) for template in ends)
        is_given_up = goes_on or _is_given_up(cursor)
        step.call(failure(_error_of(entry), is_transient=not is_given_up), entry.at)
        step.line(cursor.take())
        return not goes_on

    def _kept(self, cursor: Cursor) -> str:
        fields = cursor.match(log_lines.BUILD_DOUBLED)
        return fields["kept"] if fields else _SOME_BUILD

    def _doubles(self, step: Step, cursor: Cursor, block: LogEntry | None) -> bool:
        while cursor.peek(log_lines.BUILD_DOUBLED):
            step.line(cursor.take())
            self._canceled(step, cursor)
        if block is not None:
            step.line(cursor.take())
        return True

    def _canceled(self, step: Step, cursor: Cursor) -> None:
        """Add one cancellation."""
        entry = cursor.peek(log_lines.CALL_FAILED)
        if entry is None or _call_of(entry) != Call.CANCEL:
            step.call(NOTHING, cursor.next_at)
            return
        following = cursor.rest[1:3]
        is_refused = any(log_lines.ABORT_FAILED.begins(item.text) for item in following) or bool(
            following and log_lines.BUILD_DOUBLED.begins(following[0].text)
        )
        step.call(failure(_error_of(entry), is_transient=not is_refused), entry.at)
        step.line(cursor.take())

    def _cancel(self, step: Step, cursor: Cursor, build_id: str) -> None:
        """Add the calls that cancel a build; a build without a known ID is looked up first."""
        self._may_be_left = True
        if not build_id and not self._looked_up(step, cursor):
            return
        self._canceled(step, cursor)
        for template in (log_lines.BUILD_MAY_RUN, log_lines.ABORT_FAILED):
            if cursor.peek(template):
                step.line(cursor.take())

    def _looked_up(self, step: Step, cursor: Cursor) -> bool:
        """Add the search for a build to cancel, and return whether it found one."""
        entry = cursor.peek(log_lines.CALL_FAILED)
        if entry and _call_of(entry) == Call.FIND:
            is_refused = any(log_lines.ABORT_FAILED.begins(item.text) for item in cursor.rest[1:3])
            step.call(failure(_error_of(entry), is_transient=not is_refused), entry.at)
            step.line(cursor.take())
            for template in (log_lines.EARLIER_BUILD_MAY_RUN, log_lines.ABORT_FAILED):
                if cursor.peek(template):
                    step.line(cursor.take())
            return False
        found = self._builds_to_cancel(cursor)
        if not found:
            step.call(NOTHING, cursor.next_at)
            return False
        step.call(found_builds(found), cursor.next_at)
        while cursor.peek(log_lines.BUILD_DOUBLED):
            step.line(cursor.take())
            self._canceled(step, cursor)
        return True

    def _builds_to_cancel(self, cursor: Cursor) -> list[str]:
        doubles: list[str] = []
        kept = ""
        for entry in cursor.rest:
            if fields := log_lines.BUILD_DOUBLED.match(entry.text):
                doubles.append(fields["double"])
                kept = fields["kept"]
            elif fields := log_lines.BUILD_MAY_RUN.match(entry.text):
                kept = fields["build_id"]
            elif _call_of(entry) == Call.CANCEL:
                kept = kept or _SOME_BUILD
        return [*doubles, kept] if kept else []

    def _end_of_launch(self, step: Step, cursor: Cursor, attempt: int) -> None:
        has_failed = not self._build_id and _has(cursor, log_lines.FINISHED) and not _has(cursor, log_lines.RETRIED)
        is_skipped = _has(cursor, log_lines.LAUNCH_SKIPPED)
        has_asked = attempt > 1 or step.count("call") > 0
        if (has_failed or is_skipped) and has_asked:
            while not cursor.is_over and not cursor.peek(
                log_lines.CALL_FAILED, log_lines.BUILD_DOUBLED, log_lines.LAUNCH_SKIPPED, log_lines.FINISHED
            ):
                self._plain(step, cursor)
            self._cancel(step, cursor, "")
        self._until_abort(step, cursor)

    def too_many(self, step: Step, cursor: Cursor) -> None:
        """Add an attempt beyond the last one, which only cancels."""
        self._cancel(step, cursor, "")
        tail(step, cursor, self._invocation.finished)
        step.spend("end", self._invocation.finished)

    def _plain(self, step: Step, cursor: Cursor) -> None:
        """Add a line that needs no answer. A timer is enqueued before its line."""
        entry = cursor.take()
        if log_lines.SCHEDULING_TIMER.begins(entry.text):
            self.delays.append(_delay(entry))
            step.spend("enqueue", entry.at)
        step.line(entry)

    def check(self, step: Step, cursor: Cursor) -> None:
        """Add a status check, with the line about its cause."""
        answered = checked(cursor.rest, self._build_id)
        if answered is None and not _has(cursor, log_lines.HANDLER_FAILED):
            raise NotReplayableError(f"its log does not show Buildbucket's answer after {cursor.rest[0].text[:100]!r}")
        while not cursor.is_over:
            if cursor.peek(log_lines.FINISHED):
                step.spend("end", self._invocation.finished)
            if answered is not None and cursor.rest[0] is answered[0]:
                step.call(answered[1], answered[0].at)
            self._plain(step, cursor)

    def abort(self, step: Step, cursor: Cursor, *, is_known: bool, has_asked: bool) -> None:
        """Add an abort from its line on. ``is_known``: the build runs; ``has_asked``: a launch was attempted."""
        step.line(cursor.take())
        if is_known or has_asked:
            self._cancel(step, cursor, self._build_id if is_known else "")
        tail(step, cursor, self._invocation.finished)

    def cleanup(self, step: Step, entry: LogEntry, before: Instant) -> None:
        """Add a cleanup that ends with a line. ``before`` is the time of the line before it."""
        if not self._may_be_left:
            raise NotReplayableError("one launch attempt overtook another, and the build of the other was canceled")
        refused = log_lines.CLEANUP_REFUSED.match(entry.text)
        error = refused["error"] if refused else ""
        answer = dict(NOTHING)
        if log_lines.CLEANUP_GAVE_UP.begins(entry.text):
            step.call({"lost": True}, entry.at)
            return
        if error:
            answer = failure(error.partition(": ")[2], is_transient=False)
        if not self._build_id and not error.startswith(f"failed to {Call.FIND}"):
            if not error and entry.at - before >= _SEARCH_LAG:
                step.call(NOTHING, entry.at)
                return
            step.call(found_builds([_SOME_BUILD]))
        step.call(answer, entry.at)


def _block_of(entries: Sequence[LogEntry]) -> LogEntry | None:
    return next((entry for entry in entries if any(item.begins(entry.text) for item in BLOCKS)), None)


def _has(cursor: Cursor, template: Template) -> bool:
    return any(template.begins(entry.text) for entry in cursor.rest)


def _is_given_up(cursor: Cursor) -> bool:
    """Whether the attempt was not tried again."""
    return not _has(cursor, log_lines.RETRIED) and _has(cursor, log_lines.FINISHED)


def _is_abort(entry: LogEntry) -> bool:
    return any(template.begins(entry.text) for template in ABORTS)


def _call_of(entry: LogEntry) -> str:
    fields = log_lines.CALL_FAILED.match(entry.text)
    return fields["call"] if fields else ""


def _error_of(entry: LogEntry) -> str:
    fields = log_lines.CALL_FAILED.match(entry.text)
    return fields["error"] if fields else ""


def _delay(entry: LogEntry) -> int:
    match = log_lines.SCHEDULING_TIMER.match(entry.text)
    try:
        seconds, rest = divmod(parse_duration(match["delay"] if match else ""), SECOND)
    except ValueError:
        seconds, rest = 0, 1
    if rest:
        raise NotReplayableError(f"the time of a status check is not a whole number of seconds: {entry.text!r}")
    return seconds
