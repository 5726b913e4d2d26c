"""Enumeration: every single fault at every occurrence of every point of the fixed scenarios, and combinations of two.

A scenario without faults shows which points occur, and how often. Each kind of fault that can happen at a point is one
run for each of its amounts that matter. For pairs, the run with the first fault shows where a second one can follow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from emulator.storm.faults import KINDS, Fault, Kind, kinds_at
from emulator.storm.history import Call, Run, Schedule
from emulator.storm.scripts import DRAWN, SCENARIOS
from emulator.storm.world import World

__all__ = ["ENUMERATIONS", "followers", "points_of", "scenarios", "singles"]

ENUMERATIONS = ("single", "hangs", "pairs")
_HANGS = frozenset(
    {
        Kind.STORE_HANG,
        Kind.STORE_LATE_LANDING,
        Kind.BUILD_HANG,
        Kind.BUILD_LATE_LANDING,
        Kind.ENQUEUE_HANG,
        Kind.HOST_HANG,
        Kind.STALL,
    }
)
_SUCCESSORS = 4
"""Deliveries after the one with the first fault that count as its successors. Its own repetitions also count."""
_IDLE = ("on_task sync", "on_task sweep")
"""Handlers that run each minute, and mostly find nothing to do. They are successors only if they commit something."""
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
            yield from _faults_at(point, nth, without)


def scenarios(only: str = "") -> Sequence[str]:
    """Return the names of the enumerated scenarios."""
    return [only] if only else [name for name in SCENARIOS if name not in DRAWN]


def followers(run: Run, which: str) -> Iterator[Fault]:
    """Yield the second faults for a run with one fault.

    ``hangs``: after a call that hung, each fault of any later call. ``pairs``: each fault of a later call of the same
    delivery, of its repetitions, and of its successors.
    """
    if not run.faults or (which == "hangs" and run.faults[0].kind not in _HANGS):
        return
    calls, first = run.history.calls, _place(run, run.faults[0])
    if first is None:
        return
    chosen = None if which == "hangs" else _successors(run, calls[first])
    for call in calls[first + 1 :]:
        if call.delivery in chosen if chosen is not None else not _is_idle(call):
            yield from _faults_at(f"{call.point}/before", call.before, ())
            if call.after is not None:
                yield from _faults_at(f"{call.point}/after", call.after, ())


def _faults_at(point: str, nth: int, without: Collection[Kind]) -> Iterator[Fault]:
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


def _place(run: Run, fault: Fault) -> int | None:
    """Return the place of a fault's call among the calls; None if it belongs to no call."""
    return next((place for place, call in enumerate(run.history.calls) if _is_at(call, fault)), None)


def _is_at(call: Call, fault: Fault) -> bool:
    return (fault.point, fault.nth) in ((f"{call.point}/before", call.before), (f"{call.point}/after", call.after))


def _is_idle(call: Call) -> bool:
    return call.handler in _IDLE


def _successors(run: Run, call: Call) -> Collection[int]:
    """Return the numbers of the delivery of a call, of its repetitions, and of the deliveries that follow it."""
    deliveries, commits = run.history.deliveries, {commit.delivery for commit in run.history.commits}
    own = next(delivery for delivery in deliveries if delivery.number == call.delivery)
    later = [
        delivery.number
        for delivery in deliveries
        if delivery.began >= call.at and (delivery.handler not in _IDLE or delivery.number in commits)
    ]
    repetitions = [delivery.number for delivery in deliveries if delivery.key == own.key]
    return {own.number, *repetitions, *islice((n for n in later if n not in repetitions), _SUCCESSORS)}
