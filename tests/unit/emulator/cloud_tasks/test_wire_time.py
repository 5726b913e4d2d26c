"""Timestamps and durations between messages and nanoseconds."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from emulator.cloud_tasks.errors import InvalidArgumentError
from emulator.cloud_tasks.wire_time import read_duration, read_timestamp, write_duration, write_timestamp
from luci_scheduler.core.instants import SECOND

FIRST, LAST = -62_135_596_800, 253_402_300_799  # the years 1 and 9999
LONGEST = 315_576_000_000  # 10,000 years


@pytest.mark.parametrize(
    ("seconds", "nanos", "instant"),
    [
        (0, 0, 0),
        (1, 1_000, SECOND + 1_000),
        (1, 1_999, SECOND + 1_000),
        (1, 999_999_999, 2 * SECOND - 1_000),
        (-1, 5_000, -SECOND + 5_000),
        (FIRST, 0, FIRST * SECOND),
        (LAST, 0, LAST * SECOND),
    ],
)
def test_a_timestamp_is_truncated_to_microseconds(seconds: int, nanos: int, instant: int) -> None:
    assert read_timestamp("f", Timestamp(seconds=seconds, nanos=nanos)) == instant


@pytest.mark.parametrize(("seconds", "nanos"), [(FIRST - 1, 0), (LAST + 1, 0), (0, -1), (0, 1_000_000_000)])
def test_a_timestamp_out_of_range_is_refused(seconds: int, nanos: int) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^f: not a valid Timestamp$"):
        read_timestamp("f", Timestamp(seconds=seconds, nanos=nanos))


@pytest.mark.parametrize(
    ("seconds", "nanos", "duration"), [(0, 0, 0), (0, 1, 1), (2, 5, 2 * SECOND + 5), (LONGEST, 0, LONGEST * SECOND)]
)
def test_a_duration_keeps_its_nanoseconds(seconds: int, nanos: int, duration: int) -> None:
    assert read_duration("f", Duration(seconds=seconds, nanos=nanos)) == duration


@pytest.mark.parametrize(("seconds", "nanos"), [(-1, 0), (0, -1), (LONGEST + 1, 0), (0, 1_000_000_000)])
def test_a_negative_or_too_long_duration_is_refused(seconds: int, nanos: int) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^f: not a valid Duration, or negative$"):
        read_duration("f", Duration(seconds=seconds, nanos=nanos))


def test_written_times_are_read_back() -> None:
    timestamp, duration = Timestamp(), Duration()
    write_timestamp(timestamp, 5 * SECOND + 7_999)
    write_duration(duration, 3 * SECOND + 7)
    assert (timestamp.seconds, timestamp.nanos) == (5, 7_000)
    assert read_duration("f", duration) == 3 * SECOND + 7


def test_a_zero_duration_is_present_in_its_message() -> None:
    from google.cloud.tasks_v2 import types

    message = types.RetryConfig.pb()()
    assert not message.HasField("min_backoff")
    write_duration(message.min_backoff, 0)
    assert message.HasField("min_backoff")
