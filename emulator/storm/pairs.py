"""Combinations of two faults: the list of the pairs to play.

A run with one fault shows where a second one can follow. Most pairs repeat another pair. So one pair
stands for all pairs in its *situation*: the two faults, and for each of them the calls that its delivery had made
before, with their answers and what their commits wrote. Two more rules leave out what another pair shows:

- A crash before a call is the crash after the call before it.
- If two faults at a point have equal effects in all runs with a single fault, only one of them is played.

An amount that selects no answer is always the greatest. `Pairs` has the numbers.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from emulator.storm.enumeration import faults_at, is_greatest, singles
from emulator.storm.faults import Fault, Kind
from emulator.storm.history import Call, Commit, Run, Schedule
from emulator.storm.world import run
from luci_scheduler.ports import CreateInvocation, PutJob, UpdateInvocation, Write

__all__ = ["Pairs", "Place", "Scouted", "firsts", "pairs", "places", "scout"]

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
_SUCCESSORS = 1
"""Deliveries after the one with the first fault that count as its successors. Its repetitions count in addition."""
_IDLE = ("on_task sync", "on_task sweep")
"""Handlers that run each minute, and mostly find nothing to do. They are successors only if they commit something."""


def firsts(scenario: str, seed: int = 1, without: Collection[Kind] = ()) -> Iterator[Schedule]:
    """Yield the schedules that `scout` plays for the pairs of a scenario: one without a fault, and all single faults.

    Only faults of calls can begin a pair, each with its greatest amount or a selection.
    """
    base = Schedule(seed, (), scenario=scenario, is_brief=True)
    yield base
    for fault in singles(base, without):
        if not fault.point.startswith("platform/") and is_greatest(fault):
            yield replace(base, faults=(fault,))


@dataclass(frozen=True, slots=True)
class Place:
    """An occurrence of a point in a run with one fault, where a second one can follow."""

    point: str
    nth: int
    path: bytes
    """A digest of what the delivery had done before, and of whether it is the delivery with the first fault."""
    follows: bool
    """Whether a crash here is the crash after the call before it."""


@dataclass(frozen=True, slots=True)
class Scouted:
    """What a run with one fault shows about the pairs that begin with it."""

    schedule: Schedule
    effect: str
    """`Run.effect_hash`."""
    path: bytes
    """A digest of what the delivery with the fault had done before."""
    follows: bool
    """As for a `Place`."""
    places: tuple[Place, ...]
    """Empty also if the fault belongs to no call, or cannot begin a pair of this enumeration."""


@dataclass(slots=True)
class Pairs:
    """The pairs to play, and the number of those for which they stand."""

    schedules: list[Schedule] = field(default_factory=list)
    """One for each situation."""
    stands_for: int = 0
    """All pairs of such faults, those in equal situations and with equal faults included."""


def scout(schedule: Schedule, which: str) -> Scouted:
    """Play a schedule with one fault, and return where a second one can follow.

    Args:
        schedule: has one fault, or none for the effect of no fault.
        which: ``hangs`` or ``pairs``, see `places`.
    """
    played = run(schedule)
    if not played.faults:
        return Scouted(schedule, played.effect_hash, b"", follows=False, places=())
    first = _place(played, played.faults[0])
    path, follows = (b"", False) if first is None else _paths(played)[first]
    return Scouted(schedule, played.effect_hash, path, follows=follows, places=tuple(places(played, which)))


def places(run: Run, which: str) -> Iterator[Place]:
    """Yield the places for a second fault in a run with one fault.

    ``hangs``: after a call that hung, any later call. ``pairs``: the answer of the same call, and a later call of the
    same delivery, of its repetitions, and of its successor.
    """
    if not run.faults or (which == "hangs" and run.faults[0].kind not in _HANGS):
        return
    calls, first = run.history.calls, _place(run, run.faults[0])
    if first is None:
        return
    paths, own = _paths(run), calls[first].delivery
    near = None if which == "hangs" else _successors(run, calls[first])
    is_answer = run.faults[0].point.endswith("/after")
    if not is_answer:
        yield from _answer_of(calls[first], paths[first][0] + b"same")
    following = next((call for call in calls[first + 1 :] if call.delivery == own), None)
    for number, call in enumerate(calls[first + 1 :], first + 1):
        if call.delivery in near if near is not None else not _is_idle(call):
            path, follows = paths[number]
            path += b"own" if call.delivery == own else b""
            # An answer has one fault. So after one, no other fault of it stands for a crash before the next call.
            follows = follows and not (is_answer and call is following)
            yield Place(f"{call.point}/before", call.before, path, follows)
            yield from _answer_of(call, path)


def _answer_of(call: Call, path: bytes) -> Iterator[Place]:
    if call.after is not None:
        yield Place(f"{call.point}/after", call.after, path, follows=False)


def pairs(scouted: Iterable[Scouted], without: Collection[Kind] = ()) -> Pairs:
    """Return the pairs to play: one for each situation.

    Args:
        scouted: for each scenario the run without a fault, and each run with a single fault.
        without: kinds that are switched off.
    """
    runs = list(scouted)
    calm = {item.schedule.scenario: item.effect for item in runs if not item.schedule.faults}
    alike, seen, found = _alike(runs), set[tuple[object, ...]](), Pairs()
    effects = set(calm.items())
    for item in runs:
        effect = (item.schedule.scenario, item.effect)
        for first in item.schedule.faults or ():  # one at most
            is_new = effect not in effects and not _repeats(first, item.follows)
            effects.add(effect)
            for place in item.places:
                seconds = list(filter(is_greatest, faults_at(place.point, place.nth, without)))
                found.stands_for += len(seconds)
                for fault in seconds if is_new else ():
                    shape = (fault.kind, fault.amount)
                    if _repeats(fault, place.follows) or alike.get((place.point, *shape), shape) != shape:
                        continue
                    situation = (first.kind, first.amount, item.path, place.point, place.path, *shape)
                    if situation not in seen:
                        seen.add(situation)
                        found.schedules.append(replace(item.schedule, faults=(first, fault)))
    return found


def _repeats(fault: Fault, follows: bool) -> bool:
    """Whether a fault is a crash that equals the one after the call before it."""
    return fault.kind is Kind.CRASH_BEFORE and follows


def _alike(runs: Iterable[Scouted]) -> Mapping[tuple[str, Kind, int], tuple[Kind, int]]:
    """Return for each point, kind and amount the first one there with the same effect in each single run."""
    effects = defaultdict[tuple[str, Kind, int], list[tuple[str, int, str]]](list)
    for item in runs:
        for fault in item.schedule.faults or ():
            effects[fault.point, fault.kind, fault.amount].append((item.schedule.scenario, fault.nth, item.effect))
    first: dict[tuple[str, tuple[tuple[str, int, str], ...]], tuple[Kind, int]] = {}
    return {
        (point, kind, amount): first.setdefault((point, tuple(sorted(found))), (kind, amount))
        for (point, kind, amount), found in effects.items()
    }


def _paths(run: Run) -> list[tuple[bytes, bool]]:
    """Return for each call a digest of what its delivery had done before it, and whether its last call had landed."""
    commits: dict[int, list[Commit]] = defaultdict(list)
    for commit in run.history.commits:
        commits[commit.delivery].append(commit)
    wrote = {number: iter(found) for number, found in commits.items()}
    now: dict[int, tuple[bytes, bool]] = {}
    found = []
    for call in run.history.calls:
        before = now.get(call.delivery, (call.handler.encode(), False))
        found.append(before)
        parts = [before[0].hex(), call.point, call.told]
        if call.landed and call.point.endswith("/store.commit"):
            landed = next(wrote[call.delivery], None)
            parts += map(_described, landed.writes if landed else ())
        digest = hashlib.blake2b("\t".join(parts).encode(), digest_size=8).digest()
        now[call.delivery] = digest, call.after is not None
    return found


def _described(write: Write) -> str:
    """Return the kind of a write, with the part of the record that decides about later calls."""
    match write:
        case CreateInvocation(invocation) | UpdateInvocation(invocation):
            return f"{type(write).__name__} {invocation.status}"
        case PutJob(job):
            return f"PutJob {len(job.active_invocations)}"
    return type(write).__name__


def _place(run: Run, fault: Fault) -> int | None:
    """Return the place of a fault's call among the calls; None if it belongs to no call."""
    return next((place for place, call in enumerate(run.history.calls) if _is_at(call, fault)), None)


def _is_at(call: Call, fault: Fault) -> bool:
    return (fault.point, fault.nth) in ((f"{call.point}/before", call.before), (f"{call.point}/after", call.after))


def _is_idle(call: Call) -> bool:
    return call.handler in _IDLE


def _successors(run: Run, call: Call) -> Collection[int]:
    """Return the numbers of the delivery of a call, of its repetitions, and of the deliveries that follow it.

    An idle handler that found nothing to do has no successors.
    """
    deliveries, commits = run.history.deliveries, {commit.delivery for commit in run.history.commits}
    own = next(delivery for delivery in deliveries if delivery.number == call.delivery)
    later = [
        delivery.number
        for delivery in deliveries
        if delivery.began >= call.at and (delivery.handler not in _IDLE or delivery.number in commits)
    ]
    repetitions = [delivery.number for delivery in deliveries if delivery.key == own.key]
    if own.handler in _IDLE and own.number not in commits:
        later = []
    return {own.number, *repetitions, *islice((n for n in later if n not in repetitions), _SUCCESSORS)}
