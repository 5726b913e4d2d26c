"""Schedules: the valid texts, and the next tick."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luci_scheduler.core.go_random import first_fraction
from luci_scheduler.core.instants import MINUTE, SECOND, Instant, parse_rfc3339
from luci_scheduler.core.schedule import DISTANT_FUTURE, BadScheduleError, parse_schedule

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=200)
NOW = parse_rfc3339("2026-11-25T12:00:00.5Z")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "Triggered", "triggered ", " triggered", "Continuously", "with", "with ", "with 1s",
        "with 1s Interval",
        "with  1s interval", "with 1s interval ", "With 1s interval", "with -1ns interval", "with 1 interval",
        "with  interval", "with 1s\tinterval", "with 9999999h interval", "every 5 minutes", "@midnight", "\x00",
        "\ud800",
    ],
)  # fmt: skip
def test_texts_that_are_not_schedules_are_refused(text: str) -> None:
    """Case and spaces matter. The error quotes the text."""
    with pytest.raises(BadScheduleError, match=r'^bad schedule "'):
        parse_schedule(text)


@repeatable
@given(st.text(max_size=30))
def test_no_text_breaks_the_parser(text: str) -> None:
    """A text is a schedule or it is refused."""
    try:
        schedule = parse_schedule(text)
    except BadScheduleError:
        return
    assert schedule.text == text


def test_a_triggered_job_never_ticks_by_itself() -> None:
    """Its next tick is always in the distant future."""
    schedule = parse_schedule("triggered")
    assert schedule.is_absolute
    assert (
        schedule.next(NOW, None) == schedule.next(NOW, NOW) == DISTANT_FUTURE == parse_rfc3339("2115-12-05T01:27:47Z")
    )


def test_a_cron_tick_falls_on_a_whole_second_after_now() -> None:
    """Fractions of the current second are cut. A tick that is due right now is not the next."""
    schedule = parse_schedule("* * * * * * *")
    assert schedule.next(NOW, None) == NOW + SECOND // 2
    assert schedule.next(Instant(NOW + SECOND // 2), None) == NOW + 3 * SECOND // 2
    assert schedule.next(Instant(NOW + SECOND // 2 - 1), None) == NOW + SECOND // 2


def test_an_interval_counts_from_the_previous_rewind() -> None:
    """An interval that has passed ends now."""
    schedule = parse_schedule("with 1m30s interval")
    assert not schedule.is_absolute
    assert schedule.next(NOW, Instant(NOW - MINUTE)) == NOW + MINUTE // 2
    assert schedule.next(NOW, Instant(NOW - 2 * MINUTE)) == NOW
    assert parse_schedule("continuously").next(NOW, NOW) == NOW


def test_the_longest_interval_ends_within_the_stores_integers() -> None:
    """292 years are a valid duration, but the store's integers end in 2262."""
    due = parse_schedule("with 2562047h interval").next(NOW, NOW)
    assert due == (1 << 63) - 1


@pytest.mark.parametrize(
    ("seed", "fraction"),
    [
        (0, 0.9451961492941164),
        (1, 0.6046602879796196),
        (42, 0.3730283610466326),
    ],
)
def test_the_first_fraction_equals_gos(seed: int, fraction: float) -> None:
    """The value of Go's rand.New(rand.NewSource(seed)).Float64()."""
    assert first_fraction(seed) == fraction


@repeatable
@given(st.integers(0, (1 << 64) - 1))
def test_a_first_tick_without_a_rewind_falls_within_one_interval(seed: int) -> None:
    """The first tick is spread over one interval."""
    due = parse_schedule("with 10s interval").next(NOW, None, seed=seed)
    assert due is not None
    assert NOW <= due <= NOW + 10 * SECOND
