"""Times for people."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luci_scheduler.core.humanized import exact_duration, relative, ui_duration
from luci_scheduler.core.instants import DAY, HOUR, MILLISECOND, MINUTE, SECOND

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=200)
UNITS = {
    "second": SECOND,
    "minute": MINUTE,
    "hour": HOUR,
    "day": DAY,
    "week": 7 * DAY,
    "month": 30 * DAY,
    "year": 360 * DAY,
}


@repeatable
@given(st.integers(SECOND, 37 * 360 * DAY - 1))
def test_the_words_are_rounded_down_by_less_than_two_units(nanoseconds: int) -> None:
    """The shown value is never too large, and too small by less than the unit. One is singular, more are plural."""
    number, unit = ui_duration(nanoseconds).split()
    shown = int(number) * UNITS[unit.removesuffix("s")]
    assert unit.endswith("s") == (number != "1")
    assert shown <= nanoseconds or (number, unit) == ("2", "years")
    assert nanoseconds - shown < UNITS[unit.removesuffix("s")]


@repeatable
@given(st.integers(SECOND, 50 * 360 * DAY))
def test_past_and_future_differ_in_the_label_only(nanoseconds: int) -> None:
    """A positive difference is past, a negative one future."""
    words = ui_duration(nanoseconds)
    assert relative(nanoseconds, "ago", "from now") == f"{words} ago"
    assert relative(-nanoseconds, "ago", "from now") == f"{words} from now"


def test_the_present_has_no_label() -> None:
    """Less than a second away is now, but a duration is at least a second."""
    for difference in (0, SECOND - 1, 1 - SECOND):
        assert relative(difference, "ago", "from now") == "now"
    assert ui_duration(0) == ui_duration(SECOND - 1) == "1 second"


def test_a_year_and_a_half_is_shown_as_two_years() -> None:
    """The original shows 540 days as two years already."""
    assert ui_duration(540 * DAY - 1) == "1 year"
    assert ui_duration(540 * DAY) == "2 years"
    assert ui_duration(37 * 360 * DAY - 1) == "36 years"
    assert ui_duration(37 * 360 * DAY) == "a long while"


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [
        (-SECOND, "0 ms"),
        (168 * MILLISECOND, "168 ms"),
        (SECOND - 1, "999 ms"),
        (SECOND, "1 s"),
        (59 * SECOND, "59 s"),
        (MINUTE, "1 min"),
        (64 * SECOND, "1 min 4 s"),
        (HOUR, "1 h"),
        (2 * HOUR + 5 * MINUTE + 59 * SECOND, "2 h 5 min"),
        (DAY + 3 * HOUR, "1 d 3 h"),
    ],
)
def test_an_exact_duration_has_two_units(nanoseconds: int, words: str) -> None:
    """It is rounded down to milliseconds, or to the smaller of its two units."""
    assert exact_duration(nanoseconds) == words
