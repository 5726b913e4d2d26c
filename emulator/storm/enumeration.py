"""Enumeration: every single fault at every occurrence of every point of the fixed scenarios.

A scenario without faults shows which points occur, and how often. Each kind of fault that can happen at a point is one
run for each of its amounts that matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from emulator.storm.faults import KINDS, Fault, Kind, kinds_at
from emulator.storm.history import Schedule
from emulator.storm.scripts import DRAWN, SCENARIOS
from emulator.storm.world import World

__all__ = ["ENUMERATIONS", "faults_at", "is_greatest", "points_of", "scenarios", "singles"]

ENUMERATIONS = ("single", "hangs", "pairs")
_SELECTS = 8
"""The largest amount of a kind that selects among answers; all its values are enumerated."""


def points_of(schedule: Schedule) -> Mapping[str, int]:
    """Return how often each point occurs in a run."""
    world = World(schedule)
    world.run()
    return world.choices.counts


def singles(schedule: Schedule, without: Collection[Kind] = ()) -> Iterator[Fault]:
    """Yield every fault that can happen alone in a scenario: at each occurrence of each point, each kind and amount."""
    counts = points_of(replace(schedule, faults=()))
    for point, count in counts.items():
        for nth in range(count):
            yield from faults_at(point, nth, without)


def scenarios(only: Sequence[str] = ()) -> Sequence[str]:
    """Return the names of the enumerated scenarios."""
    return only or [name for name in SCENARIOS if name not in DRAWN]


def faults_at(point: str, nth: int, without: Collection[Kind]) -> Iterator[Fault]:
    """Yield each kind and amount at an occurrence of a point."""
    for kind in kinds_at(point):
        if kind not in without:
            for amount in _amounts(kind):
                yield Fault(kind, point, nth, amount)


def _amounts(kind: Kind) -> Sequence[int]:
    """Return the amounts that matter: all selections of an answer, otherwise the least and the greatest."""
    spec = KINDS[kind]
    if spec.high <= _SELECTS:
        return range(spec.low, spec.high + 1)
    return (spec.low, spec.high)


def is_greatest(fault: Fault) -> bool:
    """Whether the amount of a fault is the greatest of its kind, or selects an answer."""
    return fault.amount == KINDS[fault.kind].high or KINDS[fault.kind].high <= _SELECTS
