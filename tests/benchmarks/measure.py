"""A measure: our numbers beside the numbers of a baseline, taken in turn in one run.

A module of this folder that measures has a function ``measures(*, quick: bool) -> list[Measure]``. Its name is in
``SUITES`` of `tests.benchmarks.suites`. Each suite runs in a fresh process, so it may change the environment and the
logging. With ``quick``, all suites together take less than a minute.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Better", "Measure", "Verdict", "interleave", "read_measure", "seconds_of"]


class Better(StrEnum):
    """The direction in which a number improves."""

    LESS = "less"
    MORE = "more"


class Verdict(StrEnum):
    """The place of a number among its goals."""

    AIM = "aim"
    """The aim is met."""
    MUST = "must"
    """The must is met, the aim is not."""
    MISSED = "missed"
    """The must is missed."""
    SHOWN = "shown"
    """The measure has no goal."""
    NOT_RUN = "not run"
    """The measure could not run here; its notes say why."""


@dataclass(frozen=True, slots=True)
class Measure:
    """The samples of one measure, and its goals.

    The goals are for the ratio of the medians if there is a baseline, and else for the median of ``ours``.
    """

    name: str
    """Short and unique, for example ``commit event``."""
    unit: str
    """Of both lists of samples, for example ``ms``."""
    ours: tuple[float, ...]
    baseline: tuple[float, ...] = ()
    against: str = ""
    """The baseline in a few words, for example ``the same raw calls``."""
    must: float | None = None
    aim: float | None = None
    better: Better = Better.LESS
    exact: bool = False
    """Whether the samples are counts. Other work on the machine excuses no miss of a count."""
    details: Mapping[str, float] = field(default_factory=dict)
    """Further numbers by their names with units, for example ``CPU ms per event, ours``."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ours", tuple(map(float, self.ours)))
        object.__setattr__(self, "baseline", tuple(map(float, self.baseline)))
        object.__setattr__(self, "details", dict(self.details))
        object.__setattr__(self, "notes", tuple(self.notes))

    @property
    def median(self) -> float:
        """The median of our samples."""
        return statistics.median(self.ours)

    @property
    def baseline_median(self) -> float | None:
        """The median of the baseline's samples."""
        return statistics.median(self.baseline) if self.baseline else None

    @property
    def ratio(self) -> float | None:
        """Our median as a multiple of the baseline's median."""
        base = self.baseline_median
        return self.median / base if base else None

    @property
    def value(self) -> float:
        """The number that the goals are for."""
        return self.median if self.ratio is None else self.ratio

    @property
    def spread(self) -> float:
        """The relative spread of our samples, or of the baseline's if that is larger."""
        return max(_spread(self.ours), _spread(self.baseline))

    @property
    def verdict(self) -> Verdict:
        """Compare the value with the goals."""
        if not self.ours:
            return Verdict.NOT_RUN
        if self.must is None and self.aim is None:
            return Verdict.SHOWN
        if self.aim is not None and self._meets(self.aim):
            return Verdict.AIM
        return Verdict.MUST if self.must is None or self._meets(self.must) else Verdict.MISSED

    def _meets(self, goal: float) -> bool:
        return self.value <= goal if self.better is Better.LESS else self.value >= goal

    def as_json(self) -> dict[str, Any]:
        """Return the samples and the numbers made from them, with text and numbers only."""
        raw = {**asdict(self), "better": str(self.better), "verdict": str(self.verdict)}
        if not self.ours:
            return raw
        base, ratio = self.baseline_median, self.ratio
        made = {"median": self.median, "baseline_median": base, "ratio": ratio, "spread": self.spread}
        return {**raw, **{key: None if number is None else round(number, 4) for key, number in made.items()}}


def read_measure(row: Mapping[str, Any]) -> Measure:
    """Read what `Measure.as_json` wrote."""
    made = {"median", "baseline_median", "ratio", "spread", "verdict"}
    kept = {key: value for key, value in row.items() if key not in made}
    return Measure(**{**kept, "better": Better(row["better"])})


def _spread(samples: Sequence[float]) -> float:
    """Return the interquartile range divided by the median; for fewer than four samples, the whole range."""
    if len(samples) < 2:
        return 0.0
    middle = statistics.median(samples)
    low, high = min(samples), max(samples)
    if len(samples) >= 4:
        low, _, high = statistics.quantiles(samples, n=4)
    return (high - low) / middle if middle else 0.0


def interleave(
    ours: Callable[[int], float], baseline: Callable[[int], float], rounds: int, warm: int = 1
) -> tuple[list[float], list[float]]:
    """Call both in turn, and return the samples that they return.

    Each gets the number of the round, from zero. Every second round begins with the other one, so that neither
    always runs after the other's garbage. The first ``warm`` rounds do not count.
    """
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(warm + rounds):
        for place in (0, 1) if number % 2 else (1, 0):
            sample = (ours, baseline)[place](number)
            if number >= warm:
                found[place].append(sample)
    return found


def seconds_of(call: Callable[[int], object]) -> Callable[[int], float]:
    """Return a function that makes the call and returns its seconds."""

    def timed(number: int) -> float:
        begun = time.perf_counter()
        call(number)
        return time.perf_counter() - begun

    return timed
