"""Converts timestamps and durations between protobuf messages and nanoseconds."""

from __future__ import annotations

from typing import Any

from emulator.cloud_tasks.errors import InvalidArgumentError
from luci_scheduler.core.instants import MICROSECOND, SECOND

__all__ = ["read_duration", "read_timestamp", "write_duration", "write_timestamp"]

# google.protobuf.Timestamp and .Duration: years 1 to 9999, about 10,000 years.
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
_LONGEST_SECONDS = 315_576_000_000


def read_timestamp(field: str, message: Any) -> int:
    """Return the instant of a Timestamp, truncated to microseconds like the service does.

    Raises:
        InvalidArgumentError: the value is outside of the type's range.
    """
    if not _FIRST_SECOND <= message.seconds <= _LAST_SECOND or not 0 <= message.nanos < SECOND:
        raise InvalidArgumentError(f"{field}: not a valid Timestamp")
    return int(message.seconds * SECOND + message.nanos - message.nanos % MICROSECOND)


def read_duration(field: str, message: Any) -> int:
    """Return a Duration in nanoseconds.

    Raises:
        InvalidArgumentError: the value is negative or outside of the type's range.
    """
    if not 0 <= message.seconds <= _LONGEST_SECONDS or not 0 <= message.nanos < SECOND:
        raise InvalidArgumentError(f"{field}: not a valid Duration, or negative")
    return int(message.seconds * SECOND + message.nanos)


def write_timestamp(message: Any, instant: int) -> None:
    """Set a Timestamp message, truncated to microseconds."""
    message.seconds, nanos = divmod(instant, SECOND)
    message.nanos = nanos - nanos % MICROSECOND


def write_duration(message: Any, duration: int) -> None:
    """Set a Duration message. A zero duration is set explicitly, not left out."""
    message.SetInParent()
    message.seconds, message.nanos = divmod(duration, SECOND)
