"""Instants and durations in the forms of the Buildbucket APIs."""

import pytest

from emulator.building.wire_time import (
    format_duration,
    format_timestamp,
    microseconds,
    parse_duration,
    parse_timestamp,
)
from luci_scheduler.core.instants import SECOND

AT = 1_700_000_000 * SECOND  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("nanoseconds", "fraction"),
    [(0, ""), (100_000_000, ".100"), (120_000, ".000120"), (123_456_789, ".123456789"), (1, ".000000001")],
)
def test_an_instant_has_as_many_groups_of_three_digits_as_it_needs(nanoseconds: int, fraction: str) -> None:
    text = f"2023-11-14T22:13:20{fraction}Z"
    assert format_timestamp(AT + nanoseconds) == text
    assert parse_timestamp(text) == AT + nanoseconds


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2023-11-14t22:13:20z", AT),
        ("2023-11-14T23:13:20+01:00", AT),
        ("2023-11-14T16:43:20-05:30", AT),
        ("2023-11-14T22:13:20.5Z", AT + SECOND // 2),
        ("1969-12-31T23:59:59Z", -SECOND),
    ],
)
def test_other_forms_of_an_instant(text: str, instant: int) -> None:
    assert parse_timestamp(text) == instant


@pytest.mark.parametrize(
    "text",
    ["", "2023-11-14", "2023-11-14T22:13:20", "2023-11-14 22:13:20Z", "2023-11-14T22:13:20.Z", "2023-13-14T22:13:20Z"],
)
def test_no_instant(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text differs
        parse_timestamp(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "0s"),
        (3 * 3600 * SECOND, "10800s"),
        (SECOND // 2, "0.500s"),
        (1, "0.000000001s"),
        (SECOND + 1_000, "1.000001s"),
    ],
)
def test_a_duration(duration: int, text: str) -> None:
    assert (format_duration(duration), parse_duration(text)) == (text, duration)


def test_a_negative_duration_is_parsed() -> None:
    assert parse_duration("-1.5s") == -3 * SECOND // 2


@pytest.mark.parametrize("text", ["", "1", "s", "1.s", ".5s", "1m", "+1s", "1.0000000001s", "1234567890123s"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid google\.protobuf\.Duration value"):
        parse_duration(text)


def test_microseconds_are_truncated() -> None:
    assert microseconds(AT + 1_999) == "1700000000000001"
