"""The chart of a job's durations and results, as the geometry of an SVG. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.humanized import exact_duration
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status

__all__ = ["HEIGHT", "Bar", "Chart", "duration_chart"]

HEIGHT = 120
"""The height of the tallest bar, in units of the drawing."""

_STEP = 16
_WIDTH = 12
_LEAST = 3


@frozen
class Bar:
    """The bar of one invocation."""

    x: int
    y: float
    width: int
    height: float
    css: str
    """CSS class of its status."""
    bad: bool
    """Whether the bar has the mark of a failure, because color alone is not accessible."""


@frozen
class Chart:
    """Bars from the oldest on the left to the newest on the right."""

    bars: tuple[Bar, ...]
    width: int
    longest: str
    words: str
    """A description of the chart as text."""


def duration_chart(invocations: Sequence[Invocation], now: Instant) -> Chart | None:
    """Return the chart of invocations, which are given newest first; None if there are none."""
    if not invocations:
        return None
    oldest_first = list(reversed(invocations))
    lengths = [max(0, (item.finished or now) - item.started) for item in oldest_first]
    longest = max(1, *lengths)
    bars = []
    for number, (item, length) in enumerate(zip(oldest_first, lengths, strict=True)):
        height = round(max(_LEAST, HEIGHT * length / longest), 1)
        bad = item.status in (Status.FAILED, Status.ABORTED, Status.OVERRUN)
        bars.append(Bar(number * _STEP, round(HEIGHT - height, 1), _WIDTH, height, _css(item.status), bad))
    words = _words([str(item.status).lower() for item in oldest_first], lengths)
    return Chart(tuple(bars), len(bars) * _STEP, exact_duration(longest), words)


def _words(statuses: Sequence[str], lengths: Sequence[int]) -> str:
    if len(lengths) == 1:
        return f"1 invocation: {statuses[0]}. Duration: {exact_duration(lengths[0])}."
    results = ", ".join(f"{number} {status}" for status, number in Counter(statuses).most_common())
    middle = sorted(lengths)[(len(lengths) - 1) // 2]
    return (
        f"{len(lengths)} invocations, the oldest on the left: {results}. "
        f"The longest took {exact_duration(max(lengths))}, half of them {exact_duration(middle)} or less."
    )


def _css(status: Status) -> str:
    return f"bar-{str(status).lower()}"
