"""Cron expressions in the original's dialect: five to seven fields, ``L``, ``W``, ``#``, names, UTC.

The original's parser has peculiarities that no cron library for Python shares: the days of ``5-7``, when a field counts
as restricted, ``nW`` at the ends of a month. So the rules are implemented here.

Two kinds of text that the original accepts but cannot execute are handled differently. A second, minute, hour or month
that matches nothing (``50-10``) is refused; the original crashes. A number with a leading zero is also read as the
number in months and weekdays; the original reads ``01`` as 0.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import date

from luci_scheduler.core.frozen import frozen

__all__ = ["BadCronError", "CronExpression", "parse_cron"]

_ALIASES = {
    "@yearly": "0 0 0 1 1 * *",
    "@annually": "0 0 0 1 1 * *",
    "@monthly": "0 0 0 1 * * *",
    "@weekly": "0 0 0 * * 0 *",
    "@daily": "0 0 0 * * * *",
    "@hourly": "0 0 * * * * *",
}
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")

_MIN_FIELDS, _MAX_FIELDS = 5, 7
_SECONDS_A_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
_SATURDAY, _SUNDAY = 6, 0

_FIELD = re.compile(r"[^\t\n\f\r ]+")
# One item of a list: `*`, `a`, `a-b`, each with an optional step. `*-b` is not valid.
_SPAN = re.compile(r"(?:\*|([0-9]{1,4}|[a-z]+)(?:-([0-9]{1,4}|[a-z]+))?)(?:/([0-9]{1,4}))?")
_WORKDAY = re.compile(r"([0-9]{1,2})w")
_LAST_WEEKDAY = re.compile(r"([0-9]{1,2}|[a-z]+?)l")
_NTH_WEEKDAY = re.compile(r"([0-9]{1,2}|[a-z]+)#([1-5])")


class BadCronError(ValueError):
    """The text is not a cron expression. The message names the field and quotes its content."""


@frozen
class _Kind:
    """The kind of a field: its name, range and aliases."""

    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)
    digits: int = 2

    def value(self, text: str) -> int:
        if text in self.names:
            return self.names[text]
        if text.isdigit() and len(text) <= self.digits and self.low <= int(text) <= self.high:
            return int(text)
        raise self.error(text)

    def error(self, text: str) -> BadCronError:
        return BadCronError(f"the {self.name} field cannot hold {text!r}")


def _names(names: tuple[str, ...], first: int) -> dict[str, int]:
    numbers = {name: number for number, name in enumerate(names, first)}
    # Three letters suffice: `jan`, `sun`.
    return numbers | {name[:3]: number for name, number in numbers.items()}


_SECOND = _Kind("second", 0, 59)
_MINUTE = _Kind("minute", 0, 59)
_HOUR = _Kind("hour", 0, 23)
_DAY = _Kind("day of month", 1, 31)
_MONTH = _Kind("month", 1, 12, _names(_MONTHS, 1))
# 7 is another name of Sunday. It becomes 0 before ranges are expanded, so 5-7 is a range that ends before it starts.
_WEEKDAY = _Kind("day of week", 0, 6, _names(_WEEKDAYS, 0) | {"7": 0, "07": 0})
_YEAR = _Kind("year", 1970, 2099, digits=4)


@frozen
class _DaysOfMonth:
    """The content of the day field. It is ``restricted`` unless it holds a bare ``*`` or ``?``."""

    restricted: bool
    days: frozenset[int]
    workdays: frozenset[int]
    last: bool
    last_workday: bool

    def of(self, last: int, first_weekday: int) -> set[int]:
        """Return the days of a month with ``last`` days whose first day is ``first_weekday`` (Sunday is 0)."""
        days = {day for day in self.days if day <= last}
        days |= {_nearest_workday(day, last, first_weekday) for day in self.workdays if day <= last}
        if self.last:
            days.add(last)
        if self.last_workday:
            days.add(_nearest_workday(last, last, first_weekday))
        return days


@frozen
class _DaysOfWeek:
    """The content of the weekday field; ``nth`` holds (weekday, which of the month, from 1)."""

    restricted: bool
    weekdays: frozenset[int]
    last: frozenset[int]
    nth: frozenset[tuple[int, int]]

    def of(self, last: int, first_weekday: int) -> set[int]:
        """Return the days of a month with ``last`` days whose first day is ``first_weekday`` (Sunday is 0)."""
        days = {day for day in range(1, last + 1) if (first_weekday + day - 1) % 7 in self.weekdays}
        # The last seven days of a month hold each weekday once.
        days |= {day for day in range(last - 6, last + 1) if (first_weekday + day - 1) % 7 in self.last}
        days |= {1 + (weekday - first_weekday) % 7 + 7 * (which - 1) for weekday, which in self.nth}
        return {day for day in days if day <= last}


def _nearest_workday(day: int, last: int, first_weekday: int) -> int:
    """Return the working day nearest to a day, within its month."""
    weekday = (first_weekday + day - 1) % 7
    if weekday == _SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == _SUNDAY:
        return day + 1 if day < last else day - 2
    return day


@frozen
class CronExpression:
    """A parsed cron expression; made by ``parse_cron``."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days_of_month: _DaysOfMonth
    months: tuple[int, ...]
    days_of_week: _DaysOfWeek
    years: tuple[int, ...]

    def next_after(self, second: int) -> int | None:
        """Return the first match strictly after a time, or None; both are whole seconds since the epoch.

        The search looks at each month up to 2099 at most once.
        """
        # Strictly after: start the search one second later.
        day, time = divmod(second + 1, _SECONDS_A_DAY)
        start = date.fromordinal(_EPOCH + day)
        for match in self._dates(start):
            time_of_day = self._time_of_day(time if match == start else 0)
            if time_of_day is not None:
                return (match.toordinal() - _EPOCH) * _SECONDS_A_DAY + time_of_day
        return None

    def _dates(self, start: date) -> Iterator[date]:
        """Yield the matching dates from ``start`` on, in order."""
        for year in self.years:
            for month in self.months:
                if (year, month) >= (start.year, start.month):
                    yield from (
                        date(year, month, day)
                        for day in self._days(year, month)
                        if (year, month, day) >= (start.year, start.month, start.day)
                    )

    def _days(self, year: int, month: int) -> list[int]:
        first_weekday, last = calendar.monthrange(year, month)
        # As in every cron, a date must match only one of two restricted day fields.
        restricted = [days for days in (self.days_of_month, self.days_of_week) if days.restricted]
        if not restricted:
            return list(range(1, last + 1))
        sunday_is_0 = (first_weekday + 1) % 7
        return sorted(set().union(*(days.of(last, sunday_is_0) for days in restricted)))

    def _time_of_day(self, start: int) -> int | None:
        """Return the first matching second of a day from ``start`` on."""
        for hour in self.hours:
            if hour * 3600 + 3599 < start:
                continue
            for minute in self.minutes:
                if hour * 3600 + minute * 60 + 59 < start:
                    continue
                for second in self.seconds:
                    if (time := hour * 3600 + minute * 60 + second) >= start:
                        return time
        return None


def parse_cron(text: str) -> CronExpression:
    """Read a cron expression.

    Raises:
        BadCronError: it is not one, or it has a second, minute, hour or month that matches nothing.
    """
    # Aliases are replaced anywhere in the text, as in the original.
    for alias, fields in _ALIASES.items():
        text = text.replace(alias, fields)
    found = _FIELD.findall(text)[:_MAX_FIELDS]
    if len(found) < _MIN_FIELDS:
        raise BadCronError(f"a cron expression has at least {_MIN_FIELDS} fields, this has {len(found)}")
    if len(found) < _MAX_FIELDS:
        # With fewer than seven fields, the first one is the minute. A sixth field is the year.
        found.insert(0, "0")
    second, minute, hour, day, month, weekday, *year = found
    return CronExpression(
        seconds=_some(_SECOND, second),
        minutes=_some(_MINUTE, minute),
        hours=_some(_HOUR, hour),
        days_of_month=_days_of_month(day),
        months=_some(_MONTH, month),
        days_of_week=_days_of_week(weekday),
        years=_values(_YEAR, year[0] if year else "*"),
    )


def _some(kind: _Kind, text: str) -> tuple[int, ...]:
    values = _values(kind, text)
    if not values:
        raise BadCronError(f"the {kind.name} field {text!r} matches nothing: its ranges end before they start")
    return values


def _values(kind: _Kind, text: str) -> tuple[int, ...]:
    values: set[int] = set()
    for item in _items(kind, text):
        values |= _span(kind, item)
    return tuple(sorted(values))


def _items(kind: _Kind, text: str) -> list[str]:
    """Return the items of a field's list in lower case, without empty items."""
    items = [item for item in text.lower().split(",") if item]
    if not items:
        raise kind.error(text)
    return items


def _is_any(item: str) -> bool:
    return item in ("*", "?")


def _span(kind: _Kind, item: str) -> set[int]:
    """Return the values of ``*``, ``?``, ``a``, ``a-b``, ``*/n``, ``a/n`` or ``a-b/n``."""
    if _is_any(item):
        return set(range(kind.low, kind.high + 1))
    match = _SPAN.fullmatch(item)
    if match is None:
        raise kind.error(item)
    first, last, step = match.groups()
    low = kind.value(first) if first else kind.low
    # `a/n` runs from `a` to the end of the range, but `a` alone is one value.
    high = kind.value(last) if last else kind.high if step or not first else low
    if step and not 1 <= int(step) <= kind.high:
        raise kind.error(item)
    return set(range(low, high + 1, int(step or 1)))


def _days_of_month(text: str) -> _DaysOfMonth:
    items = _items(_DAY, text)
    days: set[int] = set()
    workdays: set[int] = set()
    for item in items:
        if match := _WORKDAY.fullmatch(item):
            workdays.add(_DAY.value(match[1]))
        elif item not in ("l", "lw"):
            days |= _span(_DAY, item)
    return _DaysOfMonth(
        restricted=not any(map(_is_any, items)),
        days=frozenset(days),
        workdays=frozenset(workdays),
        last="l" in items,
        last_workday="lw" in items,
    )


def _days_of_week(text: str) -> _DaysOfWeek:
    items = _items(_WEEKDAY, text)
    weekdays: set[int] = set()
    last: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for item in items:
        if match := _LAST_WEEKDAY.fullmatch(item):
            last.add(_WEEKDAY.value(match[1]))
        elif match := _NTH_WEEKDAY.fullmatch(item):
            nth.add((_WEEKDAY.value(match[1]), int(match[2])))
        else:
            weekdays |= _span(_WEEKDAY, item)
    restricted = not any(map(_is_any, items))
    return _DaysOfWeek(restricted, frozenset(weekdays), frozenset(last), frozenset(nth))
