"""Times for people: ``5 minutes ago``, ``28 minutes``, ``1 min 4 s``."""

from __future__ import annotations

from itertools import pairwise

from luci_scheduler.core.instants import DAY, HOUR, MILLISECOND, MINUTE, SECOND

__all__ = ["exact_duration", "relative", "ui_duration"]

# The original's units: a month has 30 days, and a year has twelve of them.
_WEEK, _MONTH, _YEAR = 7 * DAY, 30 * DAY, 360 * DAY
# Each step is (upper bound, text or unit, length of the unit). Rounding is down.
_STEPS: tuple[tuple[int, str, int], ...] = (
    (SECOND, "now", 0),
    (2 * SECOND, "1 second", 0),
    (MINUTE, "seconds", SECOND),
    (2 * MINUTE, "1 minute", 0),
    (HOUR, "minutes", MINUTE),
    (2 * HOUR, "1 hour", 0),
    (DAY, "hours", HOUR),
    (2 * DAY, "1 day", 0),
    (_WEEK, "days", DAY),
    (2 * _WEEK, "1 week", 0),
    (_MONTH, "weeks", _WEEK),
    (2 * _MONTH, "1 month", 0),
    (_YEAR, "months", _MONTH),
    (540 * DAY, "1 year", 0),
    (2 * _YEAR, "2 years", 0),
    (37 * _YEAR, "years", _YEAR),
)

_UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"))


def relative(difference: int, past_label: str, future_label: str) -> str:
    """Return how long ago (positive nanoseconds) or ahead (negative) something is; ``now`` has no label."""
    text = _words(abs(difference))
    return text if text == "now" else f"{text} {past_label if difference > 0 else future_label}"


def exact_duration(nanoseconds: int) -> str:
    """Return how long something took, such as "168 ms", "1 min 4 s" or "2 h 5 min"; rounded down, never negative."""
    left = max(0, nanoseconds)
    if left < SECOND:
        return f"{left // MILLISECOND} ms"
    for (unit, name), (smaller, detail) in pairwise(_UNITS):
        if left >= unit:
            rest = left % unit // smaller
            return f"{left // unit} {name} {rest} {detail}" if rest else f"{left // unit} {name}"
    return f"{left // SECOND} s"


def ui_duration(nanoseconds: int) -> str:
    """Return how long something took, in the original's words: "1 second" is up to two seconds."""
    text = relative(nanoseconds, "", "").strip()
    return "1 second" if text == "now" else text


def _words(nanoseconds: int) -> str:
    for below, text, unit in _STEPS:
        if nanoseconds < below:
            return f"{nanoseconds // unit} {text}" if unit else text
    return "a long while"
