"""Texts in the format of Go's ``fmt`` and ``time`` packages, as they appear in the original's debug log."""

from __future__ import annotations

import re

from luci_scheduler.core.instants import HOUR, MICROSECOND, MILLISECOND, MINUTE, SECOND

__all__ = ["format_duration", "parse_duration", "quote", "valid_text"]

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


_PLAIN = re.compile(r"[ !#-\[\]-~]*")  # printable ASCII without the quote and the backslash
_SURROGATE = re.compile("[\ud800-\udfff]")


def valid_text(text: str) -> str:
    """Return the text with every unpaired surrogate replaced by U+FFFD, like Go's JSON decoder.

    JSON can spell half of a surrogate pair. Python keeps it, but then no encoder accepts the text.
    """
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def quote(text: str) -> str:
    """Write a text like Go's ``%q``: double quotes, Go escapes, printable characters as they are."""
    if _PLAIN.fullmatch(text):  # nearly every text, many times per launch
        return f'"{text}"'
    characters = valid_text(text)
    return f'"{"".join(_ESCAPES.get(char) or (char if char.isprintable() else _escape(char)) for char in characters)}"'


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x80:  # noqa: PLR2004 - ASCII
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the basic plane


def format_duration(nanoseconds: int) -> str:
    """Write a duration like Go's ``time.Duration``: ``1m0s``, ``250ms``, ``28m39.901654804s``."""
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


# Go accepts both micro signs, U+00B5 and U+03BC.
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
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_MAX_DURATION = (1 << 63) - 1
_MAX_DIGITS = len(str(_MAX_DURATION))


def parse_duration(text: str) -> int:
    """Read a duration like Go's ``time.ParseDuration``: ``1m0s``, ``-1.5h``, ``300ms``. Return nanoseconds.

    Raises:
        ValueError: the text is not a duration, or is out of range.
    """
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total = _sum_of_parts(rest)
    negative = text.startswith("-")
    if total is None or total > _MAX_DURATION + negative:  # the range has one more value below zero
        raise ValueError(f"not a duration: {quote(text)}")
    return -total if negative else total


def _sum_of_parts(text: str) -> int | None:
    """Return the nanoseconds of an unsigned duration such as ``1m30s``; None if the text is not one."""
    total, position = 0, 0
    while position < len(text):
        part = _PART.match(text, position)
        # The limit on digits keeps a hostile text from costing time in a number that is out of range anyway.
        if part is None or not (part[1] or part[2]) or len(part[1].lstrip("0")) > _MAX_DIGITS:
            return None
        unit = _UNITS[part[3]]
        total += int(part[1].lstrip("0") or 0) * unit + _fraction(part[2] or "", unit)
        position = part.end()
    return total if text else None


def _fraction(digits: str, unit: int) -> int:
    """Return the nanoseconds of a unit's decimals, in floating point, with Go's rounding."""
    # Go computes the fraction in floating point, and the result is visible in schedules. Integers would differ.
    value, scale = 0, 1.0
    for digit in digits:
        if value > _MAX_DURATION // 10:  # further digits do not count
            break
        value, scale = value * 10 + int(digit), scale * 10
    return int(value * (unit / scale))
