"""Bursts of commits against Buildbot, in turn, and a kill -9 within a burst on both sides."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import psutil

from tests.benchmarks.contender import BUILDERS, Burst, Contender, Outcome, revisions_of
from tests.benchmarks.measure import Better, Measure
from tests.benchmarks.peers.buildbot import VERSION, Buildbot, BuildbotError

__all__ = ["measures"]

_PATIENCE = 400.0
_KILLED_COMMITS, _KILL_AFTER, _KILL_PATIENCE, _KILL_QUIET = 300, 1.0, 400.0, 60.0
_TOO_SLOW = "Buildbot did not finish the burst in time, so there is no comparison"

Side = Callable[[Burst], Outcome]


def measures(*, quick: bool) -> list[Measure]:
    """Measure bursts of one job, ten jobs and 300 jobs; without ``quick`` also a kill, and Buildbot beside all."""
    with Contender("emulators") as emulated, Contender("memory") as memory:
        ours: dict[str, Side] = {
            "emulators": emulated.play,
            "direct": lambda burst: emulated.play(Burst(burst.category, burst.commits, burst.number, direct=True)),
            "memory": memory.play,
        }
        with _beside("one", ours, quick=quick) as (sides, peer, missing):
            found = _bursts(sides, "one", "1 job", quick=quick, must=5, aim=8, missing=missing)
            found += [] if quick else _kill(sides, peer, missing)
        with _beside("ten", ours, quick=quick) as (sides, _, missing):
            found += _bursts(sides, "ten", "10 jobs", quick=quick, must=6, aim=10, missing=missing)
        with _beside("many", ours, quick=quick) as (sides, _, missing):
            return found + _fan_out(sides, quick=quick, missing=missing)


@contextmanager
def _beside(
    category: str, ours: Mapping[str, Side], *, quick: bool
) -> Iterator[tuple[dict[str, Side], Buildbot | None, str]]:
    """Start a Buildbot that has the builders of one category, because each idle builder slows its master down.

    Yields all sides, the Buildbot, and the reason why there is none.
    """
    with ExitStack() as stack:
        peer, missing = (None, "the short form plays no Buildbot") if quick else _peer(stack, category)
        sides = dict(ours)
        if peer is not None:
            sides["Buildbot"] = partial(_on_buildbot, peer)
        yield sides, peer, missing


def _peer(stack: ExitStack, category: str) -> tuple[Buildbot | None, str]:
    """Start Buildbot; if it cannot be installed, return the reason."""
    try:
        return stack.enter_context(Buildbot({category: BUILDERS[category]})), ""
    except BuildbotError as error:
        return None, f"no peer: {error}"


# Throughput -----------------------------------------------------------------------------------------------------------

_NAMES = {
    "emulators": "on the official emulators",
    "direct": "messages delivered directly",
    "memory": "in memory",
}
_COMMITS = {"one": 200, "ten": 50}
_QUICK_COMMITS = {"one": 20, "ten": 3}


def _bursts(
    sides: dict[str, Side], category: str, title: str, *, quick: bool, must: float, aim: float, missing: str
) -> list[Measure]:
    """Play the same burst on all sides, in turn; the first, smaller round does not count."""
    commits, rounds = (_QUICK_COMMITS, 1) if quick else (_COMMITS, 3)
    base = 100 if category == "one" else 200
    for place, side in enumerate(sides.values()):  # two sides share a local cloud, which builds a revision once
        side(Burst(category, max(2, commits[category] // 5), base + place, patience=_PATIENCE))
    outcomes: dict[str, list[Outcome]] = {name: [] for name in sides}
    for number in range(rounds):
        for place, (name, side) in enumerate(sides.items()):
            burst = Burst(category, commits[category], base + 10 * (number + 1) + place, patience=_PATIENCE)
            outcomes[name].append(side(burst))
    theirs = outcomes.pop("Buildbot", [])
    if any(each.lost for each in theirs):
        theirs, missing = [], _TOO_SLOW
    baseline = [each.builds / each.seconds for each in theirs]
    found = [_exactness(title, outcomes)]
    for name, words in _NAMES.items():
        played = outcomes[name]
        # The goals are for the ratio: without a baseline, and for direct delivery, there is none.
        goals = (must, aim if name == "memory" else None) if name != "direct" and baseline else (None, None)
        found.append(
            Measure(
                f"burst, {title} x {commits[category]} commits, {words}",
                "builds/s",
                [each.builds / each.seconds for each in played],
                baseline,
                against=f"Buildbot {VERSION}, the same commits",
                must=goals[0],
                aim=goals[1],
                better=Better.MORE,
                details={**_cpu_of(played, "ours"), **_cpu_of(theirs, "Buildbot")},
                notes=(missing,) if missing else (),
            )
        )
    return found


def _exactness(title: str, outcomes: dict[str, list[Outcome]]) -> Measure:
    """Return a measure of the commits without a build, or with several, in all our bursts of a kind."""
    wrong = {name: float(sum(each.lost + each.doubled for each in played)) for name, played in outcomes.items()}
    name = f"bursts, {title}: builds lost or doubled"
    return Measure(name, "builds", [sum(wrong.values())], must=0, exact=True, details=wrong)


def _cpu_of(outcomes: list[Outcome], whose: str) -> dict[str, float]:
    """Return the milliseconds of CPU for each build, in all and by group of processes; medians."""
    if not outcomes:
        return {}
    total = statistics.median(1000 * sum(each.cpu.values()) / max(1, each.builds) for each in outcomes)
    groups = sorted({name for each in outcomes for name in each.cpu})
    parts = {
        name: statistics.median(1000 * each.cpu.get(name, 0.0) / max(1, each.builds) for each in outcomes)
        for name in groups
    }
    named = {f"CPU ms per build, {whose}: {name}": round(value, 1) for name, value in parts.items()}
    return {f"CPU ms per build, {whose}": round(total, 1), **named}


def _wrong(outcomes: list[Outcome]) -> list[str]:
    """Return a note if a burst did not lead to exactly one build for each commit of each job."""
    lost, doubled = sum(each.lost for each in outcomes), sum(each.doubled for each in outcomes)
    return [f"{lost} builds lost, {doubled} doubled"] if lost or doubled else []


def _fan_out(sides: dict[str, Side], *, quick: bool, missing: str) -> list[Measure]:
    """One commit for 300 jobs: the seconds until all builds exist, and until all ends are recorded."""
    names = ["emulators"] if quick or "Buildbot" not in sides else ["emulators", "Buildbot"]
    played: dict[str, list[Outcome]] = {name: [] for name in names}
    for number in range(1 if quick else 3):
        for place, name in enumerate(names):
            played[name].append(sides[name](Burst("many", 1, 300 + 10 * number + place, patience=_PATIENCE)))
    ours, theirs = played["emulators"], played.get("Buildbot", [])
    notes = (*_wrong(ours), *([missing] if missing else []))
    first = statistics.median(each.first for each in ours)
    return [
        Measure(
            "one commit for 300 jobs: all builds created",
            "s",
            [each.created for each in ours],
            must=7,
            details={"seconds to the first build": round(first, 2)},
            notes=notes,
        ),
        Measure(
            "one commit for 300 jobs: all ends recorded",
            "s",
            [each.seconds for each in ours],
            [each.seconds for each in theirs],
            against=f"Buildbot {VERSION}, 300 builders",
            notes=notes,
        ),
    ]


# The kill -------------------------------------------------------------------------------------------------------------


def _kill(sides: dict[str, Side], peer: Buildbot | None, missing: str) -> list[Measure]:
    """Kill one second into 300 commits; a sender repeats the commits that were not acknowledged."""
    burst = Burst("one", _KILLED_COMMITS, 400, kill_after=_KILL_AFTER, patience=_KILL_PATIENCE)
    ours = sides["emulators"](burst)
    theirs = _killed_buildbot(peer) if peer else None
    notes = [f"kill, ours: {ours.builds} builds, the last end after {ours.seconds:.0f} s"]
    if theirs is not None:
        notes += [f"kill, Buildbot: {theirs.builds} builds, the last end after {theirs.seconds:.0f} s"]
        notes += [f"kill, Buildbot: it had acknowledged {theirs.first:.0f} commits before it was killed"]
    about = f"Buildbot {VERSION}, its master killed"
    notes += [missing] if missing else []
    return [
        Measure(
            f"kill -9 one second into {_KILLED_COMMITS} commits: {what}",
            "commits",
            [mine],
            [other] if theirs is not None else (),
            against=about,
            must=0,
            exact=True,
            notes=notes,
        )
        for what, mine, other in (
            ("lost", ours.lost, theirs.lost if theirs else 0),
            ("doubled", ours.doubled, theirs.doubled if theirs else 0),
        )
    ]


def _killed_buildbot(peer: Buildbot) -> Outcome:
    burst = Burst("one", _KILLED_COMMITS, 500)
    revisions = revisions_of(burst)
    begun = time.monotonic()
    # One by one, as a hook sends them: of changes that come all at once, the master acknowledges none in a second.
    peer.send(burst.category, revisions, at_once=1)
    time.sleep(_KILL_AFTER)
    peer.kill_master()
    acknowledged = peer.sent()
    peer.wait_for(revisions, len(revisions), _KILL_PATIENCE, quiet=_KILL_QUIET)
    seconds, built = time.monotonic() - begun, peer.successes(revisions)
    return Outcome(
        seconds=seconds,
        first=acknowledged,
        created=seconds,
        builds=built.total(),
        lost=len(revisions) - len(built),
        doubled=built.total() - len(built),
    )


# Buildbot -------------------------------------------------------------------------------------------------------------


def _on_buildbot(peer: Buildbot, burst: Burst) -> Outcome:
    revisions = revisions_of(burst)
    wanted = len(revisions) * len(BUILDERS[burst.category])
    before, begun = _cpu(peer), time.monotonic()
    peer.send(burst.category, revisions, at_once=len(revisions))
    peer.wait_for(revisions, wanted, burst.patience)
    seconds, after = time.monotonic() - begun, _cpu(peer)
    peer.sent()
    built = peer.successes(revisions)
    cpu = {name: round(after[name] - before[name], 3) for name in after}
    lost = wanted - len(built)
    return Outcome(seconds, 0.0, seconds, built.total(), lost=lost, doubled=built.total() - len(built), cpu=cpu)


def _cpu(peer: Buildbot) -> dict[str, float]:
    processes = {"master": peer.master, "worker": peer.worker, "sender": peer.sender}
    times = {name: psutil.Process(process.pid).cpu_times() for name, process in processes.items()}
    return {name: each.user + each.system for name, each in times.items()}
