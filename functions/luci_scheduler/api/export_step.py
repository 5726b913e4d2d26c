"""One delivery of a scenario, built on a clock that shows the time that a replay will have. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from luci_scheduler.core.debug_log import LogEntry
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.instants import Instant, format_rfc3339

__all__ = ["Pace", "Step"]

_NONE = "0s"


class Pace:
    """The clock of the future replay: time passes only in the operations that the scenario names."""

    def __init__(self, now: Instant) -> None:
        self.now = now

    def reach(self, instant: int) -> Instant:
        """Move to an instant, or not at all if it is past, and return the new time."""
        self.now = Instant(max(self.now, instant))
        return self.now


class Step:
    """A delivery in the making: the durations of its operations, and the answers that it gets."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._takes: dict[str, list[str]] = defaultdict(list)
        self._answers: dict[str, list[Any]] = {}

    def count(self, name: str) -> int:
        """Return how many operations of a name the delivery has so far."""
        return len(self._takes[name])

    def spend(self, name: str, until: int | None = None) -> None:
        """Add an operation that ends at an instant; without one, it takes no time."""
        passed = 0 if until is None else max(0, until - self.pace.now)
        self.pace.reach(self.pace.now + passed)
        self._takes[name].append(format_duration(passed))

    def line(self, entry: LogEntry) -> None:
        """Add a line of the log; the machine's own work may precede it."""
        self.spend("line", entry.at)

    def call(self, answer: Mapping[str, Any], until: int | None = None, *, to: str = "answers") -> None:
        """Add a call and its answer. ``to`` is the member of the delivery that holds the answer."""
        self.spend("call" if to == "answers" else to, until)
        self._answers.setdefault(to, []).append(answer)

    def arrive(self, at: int) -> str:
        """Let the delivery arrive at an instant, or as soon as the previous one is done; return its time."""
        return format_rfc3339(self.pace.reach(at))

    def members(self) -> dict[str, Any]:
        """Return the members of the delivery, without empty ones."""
        takes = {name: kept for name, values in self._takes.items() if (kept := _trimmed(values))}
        return {**({"takes": takes} if takes else {}), **self._answers}


def _trimmed(values: list[str]) -> list[str]:
    """Return the durations without the zeros at the end, which are the default."""
    end = len(values)
    while end and values[end - 1] == _NONE:
        end -= 1
    return values[:end]
