"""Instants and durations as the Buildbucket APIs write them. In memory both are integer nanoseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from luci_scheduler.core.instants import MICROSECOND, SECOND

__all__ = ["format_duration", "format_timestamp", "microseconds", "parse_duration", "parse_timestamp"]

_TIMESTAMP = re.compile(r"^(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)$")
_DURATION = re.compile(r"^(-?)(\d{1,12})(?:\.(\d{1,9}))?s$")


def format_timestamp(instant: int) -> str:
    """Format an instant as RFC 3339 in UTC, with as many of 0, 3, 6 or 9 fraction digits as it needs."""
    seconds, nanoseconds = divmod(instant, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}{_fraction(nanoseconds)}Z"


def parse_timestamp(text: str) -> int:
    """Parse an RFC 3339 timestamp.

    Raises:
        ValueError: the text is not an RFC 3339 timestamp.
    """
    match = _TIMESTAMP.match(text)
    if match is None:
        raise ValueError(f"invalid google.protobuf.Timestamp value {text!r}")
    zone = "+00:00" if match[3] in "Zz" else match[3]
    moment = datetime.fromisoformat(match[1].upper() + zone)
    return int(moment.timestamp()) * SECOND + int((match[2] or "0").ljust(9, "0"))


def format_duration(nanoseconds: int) -> str:
    """Format a duration as decimal seconds: ``10800s``, ``0.500s``."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{seconds}{_fraction(rest)}s"


def parse_duration(text: str) -> int:
    """Parse a duration such as ``1.5s``.

    Raises:
        ValueError: the text is not a duration.
    """
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"invalid google.protobuf.Duration value {text!r}")
    value = int(match[2]) * SECOND + int((match[3] or "0").ljust(9, "0"))
    return -value if match[1] else value


def microseconds(instant: int) -> str:
    """Format an instant as the v1 API does: microseconds since the epoch in a string, truncated."""
    return str(instant // MICROSECOND)


def _fraction(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return ""
    digits = f"{nanoseconds:09}"
    for trailing in ("000000", "000"):
        if digits.endswith(trailing):
            return "." + digits[: -len(trailing)]
    return "." + digits
