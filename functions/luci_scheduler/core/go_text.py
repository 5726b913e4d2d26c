"""Texts as Go's ``fmt`` and ``time`` packages write them; the debug log of the original is full of them."""

from __future__ import annotations

import re

from luci_scheduler.core.instants import HOUR, MICROSECOND, MILLISECOND, MINUTE, SECOND

__all__ = ["format_duration", "parse_duration", "quote"]

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}


def quote(text: str) -> str:
    """Write a text as Go's ``%q`` does: double quotes, Go escapes, printable characters as they are."""
    return '"' + "".join(_ESCAPES.get(char) or (char if char.isprintable() else _escape(char)) for char in text) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x80:  # noqa: PLR2004 - ASCII
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the basic plane


def format_duration(nanoseconds: int) -> str:
    """Write a duration as Go's ``time.Duration`` does: ``1m0s``, ``250ms``, ``28m39.901654804s``."""
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if nanoseconds == 0:
        return "0s"
    for unit, name in ((1, "ns"), (MICROSECOND, "µs"), (MILLISECOND, "ms")):
        if nanoseconds < unit * 1000:
            return _decimal(nanoseconds, unit) + name
    hours, rest = divmod(nanoseconds, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    text = f"{hours}h" if hours else ""
    if hours or minutes:
        text += f"{minutes}m"
    return text + _decimal(rest, SECOND) + "s"


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


_UNITS = {
    "ns": 1,
    "us": MICROSECOND,
    "µs": MICROSECOND,
    "μs": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_PART = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)")
_MAX_DURATION = (1 << 63) - 1


def parse_duration(text: str) -> int:
    """Read a duration as Go's ``time.ParseDuration`` does: ``1m0s``, ``-1.5h``, ``300ms``; return nanoseconds.

    Raises:
        ValueError: the text is not such a duration, or it is out of range.
    """
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total, position = 0, 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None or not (part[1] or part[2]):
            raise ValueError(f"not a duration: {quote(text)}")
        unit = _UNITS[part[3]]
        fraction = part[2] or ""
        total += int(part[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        position = part.end()
    if not rest or total > _MAX_DURATION:
        raise ValueError(f"not a duration: {quote(text)}")
    return -total if text.startswith("-") else total
