"""The debug log of an invocation: time stamps, the triage's block, and the cut of a huge log. Pure.

`log_lines` has the texts of the lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from luci_scheduler.core.foreign_text import escaped, redacted, without_forged_lines
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Instant
from luci_scheduler.core.log_lines import CUT, OWN_HEADING, TRIAGE_HEADING

__all__ = ["LOG_LIMIT", "LogEntry", "entries", "format_line", "is_cut", "triage_block", "trim", "trim_bytes"]

LOG_LIMIT = 200_000
"""Bytes of a log that are kept (the original's limit)."""

_CUT = CUT.encode()
_TAIL_LINES = 100  # kept from the end of a log (the original's number)
_MIN_HEAD_LINES = 50  # kept from its start, or else only its start is kept (the original's number)
_RULE = "-" * 39 + "\n"
_STAMP = re.compile(r"^\[(\d\d):(\d\d):(\d\d)\.(\d{3})\] ", re.MULTILINE)
_HALF_DAY = 12 * HOUR


@frozen
class LogEntry:
    """A stamped line, with the unstamped lines that follow it."""

    at: Instant
    """To the millisecond."""
    text: str
    """Without the stamp and the line ends at the end."""


def format_line(instant: Instant, text: str) -> str:
    """Return a message as the log holds it: the UTC time of day, truncated to milliseconds, the text, and a newline.

    The text may have several lines and may come from any server. Secrets with a known form are redacted. Control
    characters are escaped. No line but the first can look like a message.
    """
    seconds, milliseconds = divmod(instant // MILLISECOND % (DAY // MILLISECOND), SECOND // MILLISECOND)
    minutes, seconds = divmod(seconds, MINUTE // SECOND)
    hours, minutes = divmod(minutes, HOUR // MINUTE)
    return f"[{hours:02d}:{minutes:02d}:{seconds:02d}.{milliseconds:03d}] {_safe(text)}\n"


def _safe(text: str) -> str:
    return without_forged_lines(escaped(redacted(text), lines=True))


def entries(log: str, started: Instant) -> Iterator[LogEntry]:
    """Yield the stamped lines of a log with their instants.

    The invocation's start, ``started``, gives the date of the first line.
    """
    stamps = list(_STAMP.finditer(log))
    ends = [*(stamp.start() for stamp in stamps[1:]), len(log)]
    midnight, last = started - started % DAY, started
    for stamp, end in zip(stamps, ends, strict=False):
        hours, minutes, seconds, milliseconds = map(int, stamp.groups())
        at = midnight + hours * HOUR + minutes * MINUTE + seconds * SECOND + milliseconds * MILLISECOND
        # A stamp has no date. The lines of one log come from several machines whose clocks differ a little, so a stamp
        # that goes back by less than half a day is from the same day.
        while at + _HALF_DAY < last:
            midnight, at = midnight + DAY, at + DAY
        last = Instant(at)
        yield LogEntry(last, log[stamp.end() : end].rstrip("\n"))


def triage_block(lines: Iterable[str]) -> str:
    """Return the block with the triage's output that precedes the invocation's own log. A huge block is trimmed."""
    body = "".join(f"{_safe(line)}\n" for line in lines)
    return trim(f"{TRIAGE_HEADING}\n{_RULE}{body}{_RULE}\n") + f"{OWN_HEADING}\n"


def is_cut(log: str) -> bool:
    """Whether a log was trimmed, so that lines are missing."""
    return CUT in log


def trim(log: str, limit: int = LOG_LIMIT) -> str:
    """Cut a log to ``limit`` bytes of UTF-8. Its head and its last lines stay, and no character is split.

    The result is never longer than the limit, so trimming it again changes nothing.
    """
    data = log.encode()
    return log if len(data) <= limit else trim_bytes(data, limit).decode(errors="ignore")


def trim_bytes(log: bytes, limit: int = LOG_LIMIT) -> bytes:
    """Cut a log to ``limit`` bytes: as many head lines as fit, a line about the cut, and the last 100 lines."""
    if len(log) <= limit:
        return log
    kept = _head_and_tail(log, limit)
    return kept if kept is not None else log[: limit - len(_CUT) - 2] + b"\n" + _CUT + b"\n"


def _head_and_tail(log: bytes, limit: int) -> bytes | None:
    tail_start = len(log)
    for _ in range(_TAIL_LINES):
        tail_start = log.rfind(b"\n", 0, tail_start - 1)
        if tail_start <= 0:
            return None
    tail = log[tail_start + 1 :]
    head_size = limit - len(tail) - len(_CUT) - 1
    if head_size <= 0:
        return None
    head_end = log.rfind(b"\n", 0, head_size)
    if head_end <= 0 or log.count(b"\n", 0, head_end) < _MIN_HEAD_LINES:
        return None
    return _joined_once([*log[:head_end].split(b"\n"), _CUT, *tail.split(b"\n")])


def _joined_once(lines: Iterable[bytes]) -> bytes:
    kept: list[bytes] = []
    for line in lines:
        # A log that is trimmed at each commit would otherwise collect one line about the cut for each.
        if line != _CUT or kept[-1:] != [_CUT]:
            kept.append(line)
    return b"\n".join(kept)
