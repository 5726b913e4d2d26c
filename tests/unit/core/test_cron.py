"""Cron expressions against a slow calendar that shares nothing with the parser."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luci_scheduler.core.cron import BadCronError, CronExpression, parse_cron

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=200)

DayTest = Callable[[date], bool]
HORIZON_DAYS = 900
ONE_DAY = timedelta(days=1)


def at(text: str) -> int:
    """Return a time as seconds since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def ticks(text: str, start: str, count: int) -> list[str]:
    """Return the next ticks as texts."""
    cron, second, found = parse_cron(text), at(start), []
    for _ in range(count):
        due = cron.next_after(second)
        assert due is not None
        second = due
        found.append(f"{datetime.fromtimestamp(due, UTC):%Y-%m-%dT%H:%M:%S}")
    return found


# An expression is drawn together with its meaning: (text, values), or (text, test of a day).


@st.composite
def number_items(draw: st.DrawFn, low: int, high: int) -> tuple[str, set[int]]:
    """One item of a second, minute, hour or month field with its values; never empty."""
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.integers(1, high))
    return draw(
        st.sampled_from(
            [
                ("*", set(range(low, high + 1))),
                ("?", set(range(low, high + 1))),
                (str(first), {first}),
                (f"{first}-{last}", set(range(first, last + 1))),
                (f"*/{step}", {value for value in range(low, high + 1) if (value - low) % step == 0}),
                (f"{first}/{step}", {value for value in range(first, high + 1) if (value - first) % step == 0}),
                (f"{first}-{last}/{step}", {v for v in range(first, last + 1) if (v - first) % step == 0}),
            ]
        )
    )


@st.composite
def number_fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, set[int]]:
    """A list of such items."""
    items = draw(st.lists(number_items(low, high), min_size=1, max_size=3))
    return ",".join(text for text, _ in items), set().union(*(values for _, values in items))


def is_last_of_month(day: date) -> bool:
    """Whether a day is the last of its month."""
    return (day + ONE_DAY).month != day.month


def is_workday_nearest_to(number: int | None) -> DayTest:
    """Test for the working day nearest to a day of the month (None: the last), found by trying the days around it."""

    def matches(day: date) -> bool:
        month = [date(day.year, day.month, 1) + timedelta(n) for n in range(31)]
        month = [other for other in month if other.month == day.month]
        wanted = len(month) if number is None else number
        if wanted > len(month):
            return False
        workdays = [other for other in month if other.isoweekday() <= 5]
        return day == min(workdays, key=lambda other: abs(other.day - wanted))

    return matches


@st.composite
def day_items(draw: st.DrawFn) -> tuple[str, DayTest]:
    """An item of the day-of-month field with the test of a day."""
    text, values = draw(number_items(1, 31))
    number = draw(st.sampled_from([1, 2, 15, 28, 29, 30, 31]))  # the rules differ at the ends of a month
    return draw(
        st.sampled_from(
            [
                (text, lambda day: day.day in values),
                ("L", is_last_of_month),
                ("lw", is_workday_nearest_to(None)),
                (f"{number}W", is_workday_nearest_to(number)),
            ]
        )
    )


@st.composite
def weekday_items(draw: st.DrawFn) -> tuple[str, DayTest]:
    """An item of the day-of-week field with the test of a day."""
    text, values = draw(number_items(0, 6))
    number, which = draw(st.integers(0, 7)), draw(st.integers(1, 5))
    name = draw(st.sampled_from(["sun", "MON", "tuesday", "Wed", "thu", "fri", "Saturday"]))
    days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
    return draw(
        st.sampled_from(
            [
                (text, lambda day: day.isoweekday() % 7 in values),
                (str(number), lambda day: day.isoweekday() % 7 == number % 7),
                (name, lambda day: f"{day:%a}".lower() == name[:3].lower()),
                (f"{name}L", lambda day: f"{day:%a}".lower() == name[:3].lower() and (day + 7 * ONE_DAY).day <= 7),
                (f"{number}#{which}", lambda day: day.isoweekday() % 7 == number % 7 and -(-day.day // 7) == which),
                (
                    f"{name}#{which}",
                    lambda day: days[day.isoweekday() % 7] == name[:3].lower() and -(-day.day // 7) == which,
                ),
            ]
        )
    )


@st.composite
def day_fields(draw: st.DrawFn, items: st.SearchStrategy[tuple[str, DayTest]]) -> tuple[str, DayTest | None]:
    """A list of day or weekday items with the test of a day; None: any day matches."""
    drawn = draw(st.lists(items, min_size=1, max_size=2))
    text = ",".join(item for item, _ in drawn)
    if any(item in "*?" for item, _ in drawn):
        return text, None
    return text, lambda day: any(test(day) for _, test in drawn)


@st.composite
def expressions(draw: st.DrawFn) -> tuple[str, DayTest, set[int], set[int], set[int]]:
    """A seven-field expression: its text, the test of its days, its hours, minutes and seconds."""
    (second, seconds), (minute, minutes) = draw(number_fields(0, 59)), draw(number_fields(0, 59))
    (hour, hours), (month, months) = draw(number_fields(0, 23)), draw(number_fields(1, 12))
    (day, days), (weekday, weekdays) = draw(day_fields(day_items())), draw(day_fields(weekday_items()))

    def matches(when: date) -> bool:
        tests = [test for test in (days, weekdays) if test is not None]
        return when.month in months and (not tests or any(test(when) for test in tests))

    return f"{second} {minute} {hour} {day} {month} {weekday} *", matches, hours, minutes, seconds


def slow_next(after: int, test: DayTest, hours: set[int], minutes: set[int], seconds: set[int]) -> int | None:
    """Try every second of every matching minute in turn; None if none matches for a long time."""
    start = datetime.fromtimestamp(after, UTC).date()
    for number in range(HORIZON_DAYS):
        day = start + timedelta(number)
        if not test(day):
            continue
        midnight = at(f"{day}T00:00:00")
        for minute in range(24 * 60):
            if minute // 60 in hours and minute % 60 in minutes:
                for second in range(60):
                    if second in seconds and midnight + minute * 60 + second > after:
                        return midnight + minute * 60 + second
    return None


@repeatable
@given(expressions(), st.integers(at("2001-01-01"), at("2090-01-01")))
def test_the_next_tick_equals_the_slow_calendars(
    expression: tuple[str, DayTest, set[int], set[int], set[int]], start: int
) -> None:
    """Three ticks in a row, each strictly later, none left out."""
    text, test, hours, minutes, seconds = expression
    cron = parse_cron(text)
    for _ in range(3):
        due, expected = cron.next_after(start), slow_next(start, test, hours, minutes, seconds)
        if expected is None:
            assert due is None or due >= start + (HORIZON_DAYS - 1) * 86_400
            return
        assert due == expected > start
        start = due


@repeatable
@given(st.text(alphabet="0123456789*?/-,#LWlwmonfrijan @dy\t", max_size=40))
def test_any_text_is_refused_or_ticks_forward(text: str) -> None:
    """No text breaks the parser. An accepted expression advances or ends."""
    try:
        cron = parse_cron(text)
    except BadCronError:
        return
    second = at("2026-02-27T23:59:59")
    for _ in range(5):
        due = cron.next_after(second)
        if due is None:
            return
        assert due > second
        second = due


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "* * * *", "x * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *",
        "* * * 13 *",
        "* * * * 8", "* * * * * 1969", "* * * * * 2100", "60 * * * * * *", "-1 * * * *", "1- * * * *", "-5 * * * *",
        "*/0 * * * *", "*/60 * * * *", "* */24 * * *", "* * */32 * *", "* * * */13 *", "* * * * */7", "?/2 * * * *",
        "*/ * * * *",
        "1/2/3 * * * *", "1-2-3 * * * *", "1.5 * * * *", "+1 * * * *", "1e1 * * * *", "000 * * * *", "0001 * * * *",
        "٣ * * * *", ", * * * *", ",, * * * *", "jan * * * *", "* * jan * *", "* * * mon *", "* * * janu *",
        "* * * * jan",
        "* * * * L", "* * 3L * *", "* * W * *", "* * 32W * *", "* * 0W * *", "* * LL * *", "* * 1WW * *",
        "* * 1-5W * *",
        "* * * * 1#0", "* * * * 1#6", "* * * * 8#1", "* * * * 8L", "* * * * #1", "* * * * 1#", "* * * * 1-5L",
        "L * * * *",
        "50-10 * * * *", "* 5-4 * * *", "* * * 12-1 *", "9-1 * * * * * *", "@DAILY", "@midnight", "@reboot",
        "@every 1h",
        "0 0 0 1 1", "*,x * * * *", "9" * 10_000 + " * * * *", "*/" + "9" * 10_000 + " * * * *", "*\xa0* * * *",
        "***** * * * *",
    ],
)  # fmt: skip
def test_malformed_expressions_are_refused(text: str) -> None:
    """A text that is not a cron expression is refused with the parser's own error."""
    with pytest.raises(BadCronError):
        parse_cron(text)


def test_the_error_names_the_field_and_its_text() -> None:
    """A person finds the faulty field."""
    with pytest.raises(BadCronError, match="the hour field cannot hold '25'"):
        parse_cron("0 25 * * *")
    with pytest.raises(BadCronError, match="the month field '9-3' matches nothing"):
        parse_cron("0 0 1 9-3 *")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 * * 5-7", None),  # 7 becomes 0 first: a range that ends before it starts
        ("0 0 * * 6-1", None),
        ("0 0 * * 0-7", ["2026-11-29T00:00:00", "2026-12-06T00:00:00"]),
        ("0 0 * * 7L", ["2026-11-29T00:00:00", "2026-12-27T00:00:00"]),
        ("0 0 * * 7#1", ["2026-12-06T00:00:00", "2027-01-03T00:00:00"]),
        ("0 0 30 2 *", None),
        ("0 0 31W 2,4,6,9,11 *", None),  # no such day in these months
        ("0 0 * * * 2020-2010", None),
        ("0 0 1W 5,8 *", ["2027-05-03T00:00:00", "2027-08-02T00:00:00"]),  # the 1st is a Saturday, a Sunday
        ("0 0 31W 1,7 *", ["2027-01-29T00:00:00", "2027-07-30T00:00:00"]),  # the 31st is a Sunday, a Saturday
        ("0 0 LW 1 *", ["2027-01-29T00:00:00", "2028-01-31T00:00:00"]),
        ("0 0 */2 * 1", ["2026-11-27T00:00:00", "2026-11-29T00:00:00", "2026-11-30T00:00:00"]),  # */2 restricts
        ("0 0 */2,* * 1", ["2026-11-30T00:00:00", "2026-12-07T00:00:00"]),
        ("50-10,5 * * * *", ["2026-11-25T13:05:00"]),
        (",5,,6, * * * *", ["2026-11-25T13:05:00", "2026-11-25T13:06:00"]),
        ("0 0 1 01 *", ["2027-01-01T00:00:00"]),
        ("0 0 * * 05", ["2026-11-27T00:00:00"]),
        ("@weekly and the rest is ignored", ["2026-11-29T00:00:00"]),
        ("\t59 \n23 * * *  ", ["2026-11-25T23:59:00"]),
        ("0 0 0 1 1 * 2027 and more", ["2027-01-01T00:00:00"]),
        ("0 0 1 JANUARY Mon-wed", ["2027-01-01T00:00:00", "2027-01-04T00:00:00"]),
    ],
)
def test_the_originals_peculiarities(text: str, expected: list[str] | None) -> None:
    """Each rule that other cron dialects do not share."""
    start = "2026-11-25T12:06:00"
    if expected is None:
        assert parse_cron(text).next_after(at(start)) is None
    else:
        assert ticks(text, start, len(expected)) == expected


def test_the_earliest_and_the_latest_possible_tick() -> None:
    """Years are 1970 to 2099."""
    every_year = parse_cron("@yearly")
    assert every_year.next_after(at("1969-05-05")) == at("1970-01-01")
    assert every_year.next_after(at("2098-12-31")) == at("2099-01-01")
    assert every_year.next_after(at("2099-01-01")) is None
    assert every_year.next_after(at("2150-01-01")) is None


def test_a_search_without_a_match_visits_each_month_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile expression costs no more than the number of months."""
    looked: list[tuple[int, int]] = []
    days = CronExpression._days

    def counted(self: CronExpression, year: int, month: int) -> list[int]:
        looked.append((year, month))
        return days(self, year, month)

    monkeypatch.setattr(CronExpression, "_days", counted)
    assert parse_cron("* * * * 6-1").next_after(at("1970-01-01")) is None
    assert len(looked) == len(set(looked)) == 130 * 12
