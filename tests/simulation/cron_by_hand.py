"""Cron expressions by brute force: try one minute after the other.

Only the syntax of the simulated projects is supported.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

__all__ = ["next_match"]

_NAMES = {
    **{name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))},
    **{name: number for number, name in enumerate(("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL"), 1)},
}


def next_match(expression: str, second: int) -> int:
    """Return the first second after ``second`` (both since the epoch) that an expression of 5 to 7 fields matches."""
    fields = expression.split()
    if len(fields) == 5:
        fields = ["0", *fields, "*"]
    elif len(fields) == 6:
        fields = ["0", *fields]
    seconds = _values(fields[0], 0, 59)
    now = second + 1
    while True:
        moment = datetime.fromtimestamp(now, UTC)
        if not _is_day(moment, fields):
            now = int((moment.replace(hour=0, minute=0, second=0) + timedelta(days=1)).timestamp())
        elif (
            moment.minute in _values(fields[1], 0, 59)
            and moment.hour in _values(fields[2], 0, 23)
            and moment.second in seconds
        ):
            return now
        elif moment.second == 0 and moment.minute not in _values(fields[1], 0, 59):
            now += 60
        else:
            now += 1


def _is_day(moment: datetime, fields: list[str]) -> bool:
    if moment.month not in _values(fields[4], 1, 12) or moment.year not in _values(fields[6], 1970, 2099):
        return False
    by_date = moment.day in _values(fields[3], 1, 31)
    by_weekday = moment.isoweekday() % 7 in _values(fields[5], 0, 6)
    if "*" in (fields[3], fields[5]) or "?" in (fields[3], fields[5]):
        return by_date and by_weekday
    return by_date or by_weekday


@cache
def _values(text: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, dash, last = span.partition("-")
        begin = low if first in "*?" else _number(first)
        end = _number(last) if dash else high if first in "*?" or step else begin
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str) -> int:
    return _NAMES[text] if text in _NAMES else int(text)
