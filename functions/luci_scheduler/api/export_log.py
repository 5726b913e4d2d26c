"""The debug log of an invocation, read back for an export: its entries, and the entries of each delivery. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from luci_scheduler.core import debug_log, log_lines
from luci_scheduler.core.debug_log import LogEntry
from luci_scheduler.core.instants import DAY, HOUR, MILLISECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.log_lines import Template

__all__ = [
    "ABORTS",
    "CLEANUPS",
    "Cursor",
    "NotReplayableError",
    "begins_with",
    "entries_of",
    "first_match",
    "read_json",
    "segments",
    "stamp_of",
]

ABORTS = (log_lines.ABORTED, log_lines.ABORTED_V1)
CLEANUPS = (log_lines.CLEANUP_DONE, log_lines.CLEANUP_REFUSED, log_lines.CLEANUP_GAVE_UP)
"""These lines follow the line about the invocation's end."""

_BEGINNINGS = (log_lines.NOTIFIED, log_lines.HANDLING_TIMER, log_lines.TOO_MANY_ATTEMPTS, log_lines.QUEUED, *CLEANUPS)
"""The first lines of deliveries. A launch attempt begins with ``STARTING`` instead, and some aborts with their line."""
_HALF_DAY = 12 * HOUR


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


def stamp_of(instant: int) -> int:
    """Return an instant as the log's stamps show it: to the millisecond."""
    return instant - instant % MILLISECOND


def entries_of(log: str, invocation: Invocation) -> list[LogEntry]:
    """Return the entries of a whole log.

    Raises:
        NotReplayableError: the log was cut, or does not begin with the line about the invocation's creation.
    """
    if debug_log.is_cut(log):
        raise NotReplayableError("its log was so long that its middle was cut out")
    entries = list(debug_log.entries(log, invocation.started))
    if not entries or log_lines.QUEUED.match(entries[0].text) is None:
        raise NotReplayableError("its log does not begin with the line about its creation")
    return entries


def segments(entries: Sequence[LogEntry], invocation: Invocation, *, is_inline: bool) -> list[list[LogEntry]]:
    """Return the entries of each delivery.

    Args:
        entries: all entries, the first about the creation.
        invocation: the record.
        is_inline: whether the delivery that makes the invocation also makes its first launch attempt.
    """
    found: list[list[LogEntry]] = []
    for place, entry in enumerate(entries):
        following = entries[place:]
        if not found or _begins_delivery(following, found[-1], invocation, is_inline=is_inline):
            found.append([])
        found[-1].append(entry)
    return _with_dates(found, invocation.finished)


def _with_dates(found: list[list[LogEntry]], finished: Instant | None) -> list[list[LogEntry]]:
    """Return the deliveries with the missing days: a stamp has no date, and the record has that of the end."""
    if finished is None:
        return found
    ends = [place for place, segment in enumerate(found) if begins_with(segment, log_lines.FINISHED)]
    last = ends[-1] if ends else len(found) - 1
    days = (finished - found[last][-1].at + _HALF_DAY) // DAY * DAY
    if days <= 0:
        return found
    # Stamps do not say between which deliveries the days passed. The last delivery is the likely one.
    later = [[replace(entry, at=Instant(entry.at + days)) for entry in segment] for segment in found[last:]]
    return [*found[:last], *later]


def _begins_delivery(
    following: Sequence[LogEntry], before: Sequence[LogEntry], invocation: Invocation, *, is_inline: bool
) -> bool:
    entry = following[0]
    if (attempt := log_lines.STARTING.match(entry.text)) is not None:
        return attempt["attempt"] != "1" or not is_inline
    if _is_any(entry, ABORTS):
        return not _is_in_launch(before, following, invocation)
    return _is_any(entry, _BEGINNINGS)


def _is_in_launch(before: Sequence[LogEntry], following: Sequence[LogEntry], invocation: Invocation) -> bool:
    """Whether a line about an abort belongs to the launch attempt before it.

    An attempt that meets a request for an abort is decided again, so all its lines come after the request.
    """
    own = _after_starting(before)
    if not own:
        return False
    if begins_with(following, log_lines.IGNORING_TIMER):
        return True  # only a delivery that added the timer ignores it
    requested = invocation.abort_requested_at
    return requested is not None and stamp_of(requested) <= own[0].at


def _after_starting(segment: Sequence[LogEntry]) -> Sequence[LogEntry]:
    """Return the lines of a launch attempt after its first line; nothing for other deliveries."""
    for place, entry in enumerate(segment):
        if _is_any(entry, [log_lines.STARTING]):
            return segment[place + 1 :]
    return ()


def _is_any(entry: LogEntry, templates: Iterable[Template]) -> bool:
    return any(template.begins(entry.text) for template in templates)


class Cursor:
    """Reads the entries of one delivery in order."""

    def __init__(self, entries: Sequence[LogEntry]) -> None:
        self._entries = entries
        self._place = 0

    @property
    def rest(self) -> Sequence[LogEntry]:
        """The entries that are left."""
        return self._entries[self._place :]

    @property
    def is_over(self) -> bool:
        """Whether no entry is left."""
        return self._place >= len(self._entries)

    @property
    def next_at(self) -> Instant | None:
        """The stamp of the next entry; None if none is left."""
        return None if self.is_over else self._entries[self._place].at

    def peek(self, *templates: Template) -> LogEntry | None:
        """Return the next entry if it begins like one of the templates."""
        entry = None if self.is_over else self._entries[self._place]
        return entry if entry and _is_any(entry, templates) else None

    def match(self, template: Template) -> dict[str, str] | None:
        """Return the fields of the next entry if it matches a template."""
        return None if self.is_over else template.match(self._entries[self._place].text)

    def take(self) -> LogEntry:
        """Return the next entry and go on."""
        self._place += 1
        return self._entries[self._place - 1]
