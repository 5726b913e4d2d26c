"""Instants: nanoseconds since the Unix epoch as integers, always UTC.

A ``datetime`` holds only microseconds, but the debug log shows how long an invocation ran with nine decimals
(``28m39.901654804s``). So instants are plain integers everywhere. Durations are also nanoseconds.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NewType

__all__ = [
    "DAY",
    "HOUR",
    "LAST_INSTANT",
    "MICROSECOND",
    "MILLISECOND",
    "MINUTE",
    "SECOND",
    "Instant",
    "format_rfc3339",
    "in_range",
    "parse_rfc3339",
    "to_datetime",
    "truncate_to_microseconds",
]

Instant = NewType("Instant", int)

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

LAST_INSTANT = Instant((1 << 63) - 1)
"""The last instant that 64 bits hold, in the year 2262. The store's integers have no more bits."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def truncate_to_microseconds(instant: Instant) -> Instant:
    """Cut an instant to the precision that the store keeps, microseconds (never rounded up)."""
    return Instant(instant - instant % MICROSECOND)


def to_datetime(instant: Instant) -> datetime:
    """Return the instant as an aware UTC datetime, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=instant // MICROSECOND)


def in_range(instant: int) -> Instant:
    """Return an instant of a foreign clock that the store can hold. Anyone who commits chooses the time of the commit.

    Raises:
        ValueError: it is before 1970 or after 2262.
    """
    if not 0 <= instant <= LAST_INSTANT:
        raise ValueError("a time before 1970 or after 2262")
    return Instant(instant)


def parse_rfc3339(text: str) -> Instant:
    """Read an RFC 3339 time with up to nine fraction digits and any zone.

    Raises:
        ValueError: the text is not such a time.
    """
    # `fromisoformat` drops digits after the sixth, so the fraction is read here.
    head, dot, tail = text.partition(".")
    nanoseconds = 0
    if dot:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        if not 1 <= digits <= 9:  # noqa: PLR2004 - nanoseconds are nine digits
            raise ValueError(f"not an RFC 3339 time: {text!r}")
        nanoseconds = int(tail[:digits].ljust(9, "0"))
        head += tail[digits:]
    moment = datetime.fromisoformat(head)
    if moment.tzinfo is None:
        raise ValueError(f"an RFC 3339 time needs a zone: {text!r}")
    since = moment - _EPOCH
    return Instant((since.days * 86_400 + since.seconds) * SECOND + nanoseconds)


def format_rfc3339(instant: Instant) -> str:
    """Write an instant as RFC 3339 in UTC, with as many of nine fraction digits as it needs."""
    seconds, nanoseconds = divmod(instant, SECOND)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{nanoseconds:09d}".rstrip("0") if nanoseconds else "") + "Z"
