"""Instants and durations in the forms the Buildbucket APIs write them (inside: integer nanoseconds)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = [
    "HOUR",
    "MINUTE",
    "SECOND",
    "format_duration",
    "format_timestamp",
    "microseconds",
    "parse_duration",
    "parse_timestamp",
]

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_TIMESTAMP = re.compile(r"^(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)$")
_DURATION = re.compile(r"^(-?)(\d{1,12})(?:\.(\d{1,9}))?s$")


def format_timestamp(instant: int) -> str:
    """Write an instant as RFC 3339 in UTC with 0, 3, 6 or 9 digits of fraction, whichever is enough."""
    seconds, nanoseconds = divmod(instant, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}{_fraction(nanoseconds)}Z"


def parse_timestamp(text: str) -> int:
    """Read an RFC 3339 timestamp; ValueError if it is none."""
    match = _TIMESTAMP.match(text)
    if match is None:
        raise ValueError(f"invalid google.protobuf.Timestamp value {text!r}")
    zone = "+00:00" if match[3] in "Zz" else match[3]
    moment = datetime.fromisoformat(match[1].upper() + zone)
    return int(moment.timestamp()) * SECOND + int((match[2] or "0").ljust(9, "0"))


def format_duration(nanoseconds: int) -> str:
    """Write a duration as decimal seconds: ``10800s``, ``0.500s``."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{seconds}{_fraction(rest)}s"


def parse_duration(text: str) -> int:
    """Read a duration such as ``1.5s``; ValueError if it is none."""
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"invalid google.protobuf.Duration value {text!r}")
    value = int(match[2]) * SECOND + int((match[3] or "0").ljust(9, "0"))
    return -value if match[1] else value


def microseconds(instant: int) -> str:
    """Write an instant as the API of 2021 does: microseconds since the epoch in a string, cut, not rounded."""
    return str(instant // 1000)


def _fraction(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return ""
    digits = f"{nanoseconds:09}"
    for trailing in ("000000", "000"):
        if digits.endswith(trailing):
            return "." + digits[: -len(trailing)]
    return "." + digits
