"""The debug log of an invocation: how lines look, and how a huge log is cut."""

from __future__ import annotations

from collections.abc import Iterable

from luci_scheduler.core.foreign_text import escaped, redacted, without_forged_lines
from luci_scheduler.core.instants import Instant, to_datetime

__all__ = ["LOG_LIMIT", "format_line", "triage_block", "trim", "trim_bytes"]

LOG_LIMIT = 200_000
"""Bytes of a log that are kept (the original's limit)."""

_CUT = b"--- the log has been cut here ---"
_TAIL_LINES = 100
_MIN_HEAD_LINES = 50
_RULE = "-" * 39 + "\n"


def format_line(instant: Instant, text: str) -> str:
    """Return a message as the log holds it: UTC time of day cut to milliseconds, the text, a newline.

    The text may have several lines and may come from anywhere. Secrets that are known by their form are redacted, control
    characters are escaped, and a second line cannot look like another message.
    """
    moment = to_datetime(instant)
    return f"[{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}] {_safe(text)}\n"


def _safe(text: str) -> str:
    return without_forged_lines(escaped(redacted(text), lines=True))


def triage_block(lines: Iterable[str]) -> str:
    """Return the block with the triage's output that precedes the invocation's own log; a huge one is trimmed."""
    body = "".join(f"{_safe(line)}\n" for line in lines)
    block = f"Debug output from the triage procedure:\n{_RULE}{body}{_RULE}\n"
    return trim(block) + "Debug output from the invocation itself:\n"


def trim(log: str, limit: int = LOG_LIMIT) -> str:
    """Cut a log to ``limit`` bytes as UTF-8: head and the last lines stay, a character that would be split goes.

    The result is never longer than the limit, so trimming it again changes nothing.
    """
    data = log.encode()
    return log if len(data) <= limit else trim_bytes(data, limit).decode(errors="ignore")


def trim_bytes(log: bytes, limit: int = LOG_LIMIT) -> bytes:
    """Cut a log to ``limit`` bytes: whole head lines as fit, a line about the cut, the last 100 lines."""
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
    lines: list[bytes] = []
    for line in [*log[:head_end].split(b"\n"), _CUT, *tail.split(b"\n")]:
        if line != _CUT or lines[-1:] != [_CUT]:
            lines.append(line)
    return b"\n".join(lines)
