"""Schedules of jobs: ``triggered``, ``continuously``, ``with <duration> interval`` or a cron expression."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_random import first_fraction
from luci_scheduler.core.go_text import parse_duration, quote
from luci_scheduler.core.instants import LAST_INSTANT, SECOND, Instant

if TYPE_CHECKING:
    from luci_scheduler.core.cron import CronExpression

__all__ = ["DISTANT_FUTURE", "BadScheduleError", "Schedule", "parse_schedule"]

DISTANT_FUTURE = Instant(4_604_952_467 * SECOND)
"""2115-12-05T01:27:47Z, the original's sign for "never by itself": the next tick of a ``triggered`` job."""

_CACHED = 1024  # every tick parses the schedule of its job again; an instance sees few different schedules


class BadScheduleError(ValueError):
    """The text is not a schedule. The message gives the reason."""


@frozen
class Schedule:
    """A parsed schedule; made by ``parse_schedule``. Without cron and interval it means ``triggered``."""

    text: str
    cron: CronExpression | None = None
    interval: int | None = None
    """Nanoseconds."""

    @property
    def is_absolute(self) -> bool:
        """Whether ticks depend on the calendar only. Otherwise they count from the previous rewind."""
        return self.interval is None

    def next(self, now: Instant, previous: Instant | None, *, seed: int = 0) -> Instant | None:
        """Return when the next tick is due, or None if there is no further tick.

        Args: now: the current time. A cron tick is strictly later. An interval that has passed ends now.
            previous: the last rewind, which matters to intervals only. It is None for no enabled machine. In that case
                the original spreads first ticks over one interval, by a fraction made from ``seed``.
            seed: for the original, the 64-bit FNV-1 hash of the job's ID.
        """
        if self.cron is not None:
            second = self.cron.next_after(now // SECOND)
            return None if second is None else Instant(second * SECOND)
        if self.interval is None:
            return DISTANT_FUTURE
        if previous is None:
            due = now + int(self.interval * first_fraction(seed))
        else:
            # A job whose interval passed during a pause or an invocation runs at once, without catching up.
            due = max(now, previous + self.interval)
        return Instant(min(due, LAST_INSTANT))


@lru_cache(maxsize=_CACHED)
def parse_schedule(text: str) -> Schedule:
    """Read a schedule. Case and spaces matter, except in cron expressions.

    Raises:
        BadScheduleError: the text is not a schedule.
    """
    if text == "triggered":
        return Schedule(text)
    if text == "continuously":
        return Schedule(text, interval=0)
    if text.startswith("with "):
        return Schedule(text, interval=_interval(text))
    from luci_scheduler.core.cron import BadCronError, parse_cron  # noqa: PLC0415 - few deliveries read an expression

    try:
        return Schedule(text, cron=parse_cron(text))
    except BadCronError as error:
        raise BadScheduleError(f"bad schedule {quote(text)}: {error}") from error


def _interval(text: str) -> int:
    words = text.split(" ", 2)
    if len(words) != 3 or words[2] != "interval":  # noqa: PLR2004 - with, duration, interval
        raise BadScheduleError(f'bad schedule {quote(text)}: expecting "with <duration> interval"')
    try:
        interval = parse_duration(words[1])
    except ValueError as error:
        raise BadScheduleError(f"bad schedule {quote(text)}: {error}") from error
    if interval < 0:
        raise BadScheduleError(f"bad schedule {quote(text)}: an interval cannot be negative")
    return interval
