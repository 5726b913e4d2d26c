"""Many runs: each schedule is played and judged, in this process or in several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from multiprocessing import get_context

from emulator.storm.faults import Fault, Kind
from emulator.storm.history import Run, Schedule
from emulator.storm.invariants import Violation
from emulator.storm.judgment import violations
from emulator.storm.pairs import Pairs, Scouted, pairs, scout
from emulator.storm.shrink import shrink
from emulator.storm.world import run
from luci_scheduler.core.instants import MILLISECOND

__all__ = ["Outcome", "Tally", "find_pairs", "play_and_judge", "shrunk", "storm"]

_AHEAD = 8  # pieces of work that wait for a process, per process
_PIECE = 8  # schedules


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run and its judgment, small enough for a pipe."""

    schedule: Schedule
    violations: tuple[Violation, ...]
    faults: tuple[Fault, ...]
    invocations: int
    builds: int
    deliveries: int
    commits: int
    calls: int
    rest_ms: int
    """The virtual time from the last possible fault until everything had come to rest."""
    trace_hash: str
    error: str = ""
    """The error with which the run itself failed; empty if it did not."""

    @property
    def holds(self) -> bool:
        """Whether every invariant held."""
        return not (self.violations or self.error)


@dataclass(slots=True)
class Tally:
    """The sums of many runs."""

    schedules: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    invocations: int = 0
    builds: int = 0
    deliveries: int = 0
    commits: int = 0
    calls: int = 0
    longest_rest_ms: int = 0
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Add a run."""
        self.schedules += 1
        self.faults.update(str(fault.kind) for fault in outcome.faults)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(outcome, name))
        self.longest_rest_ms = max(self.longest_rest_ms, outcome.rest_ms)
        if not outcome.holds:
            self.failed.append(outcome)

    def join(self, other: Tally) -> None:
        """Add the runs of another tally."""
        self.schedules += other.schedules
        self.faults += other.faults
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.longest_rest_ms = max(self.longest_rest_ms, other.longest_rest_ms)
        self.failed += other.failed


_SUMS = ("invocations", "builds", "deliveries", "commits", "calls")


def _work(schedules: Sequence[Schedule]) -> Tally:
    """Play and judge the schedules of a piece of work."""
    tally = Tally()
    for schedule in schedules:
        tally.add(play_and_judge(schedule))
    return tally


def play_and_judge(schedule: Schedule) -> Outcome:
    """Play a schedule and judge the run. An error of the run itself is part of the outcome."""
    try:
        played = run(schedule)
    except Exception as error:  # noqa: BLE001 - one broken run must not end a night of others
        return Outcome(schedule, (), (), 0, 0, 0, 0, 0, 0, "", f"{type(error).__name__}: {error}")
    return _outcome(played)


def _outcome(played: Run) -> Outcome:
    history = played.history
    created = sum(type(write).__name__ == "CreateInvocation" for item in history.commits for write in item.writes)
    return Outcome(
        schedule=played.schedule,
        violations=tuple(violations(played)),
        faults=tuple(played.faults),
        invocations=created,
        builds=len(history.builds),
        deliveries=len(history.deliveries),
        commits=len(history.commits),
        calls=len(history.calls),
        rest_ms=max(0, played.ended - played.storm_ended) // MILLISECOND,
        trace_hash=played.trace_hash,
    )


def storm(schedules: Sequence[Schedule], processes: int) -> Iterator[Tally]:
    """Yield the tally of each few schedules: in their order with one process, as they end with several."""
    if processes <= 1:
        yield from (_work((schedule,)) for schedule in schedules)
        return
    # A forked process would inherit the locks of this one's threads.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        left = (schedules[start : start + _PIECE] for start in range(0, len(schedules), _PIECE))
        running = set[Future[Tally]]()
        while True:
            running |= {pool.submit(_work, piece) for piece in islice(left, processes * _AHEAD - len(running))}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def find_pairs(
    firsts: Sequence[Schedule], which: str, processes: int, without: Collection[Kind], show: Callable[[int], None]
) -> Pairs:
    """Play each schedule with one fault or none, and return the pairs to play: see `pairs.pairs`.

    Args:
        firsts: the schedules.
        which: ``hangs`` or ``pairs``.
        processes: how many play.
        without: kinds of second faults that are switched off.
        show: gets the number of the schedules that are played, after each one.
    """
    look, scouted = partial(scout, which=which), list[Scouted]()
    with ExitStack() as stack:
        found: Iterable[Scouted] = map(look, firsts)
        if processes > 1:
            pool = stack.enter_context(ProcessPoolExecutor(processes, mp_context=get_context("spawn")))
            found = pool.map(look, firsts, chunksize=_PIECE)
        for item in found:
            scouted.append(item)
            show(len(scouted))
    return pairs(scouted, without)


def shrunk(outcome: Outcome, tries: int = 400, play: Callable[[Schedule], Outcome] = play_and_judge) -> Outcome:
    """Return the outcome of the smallest set of the run's faults that still violates the same invariant."""
    wanted = _symptoms(outcome)[0]

    def fails(faults: Sequence[Fault]) -> bool:
        return wanted in _symptoms(play(_with(outcome.schedule, faults)))

    return play(_with(outcome.schedule, shrink(outcome.faults, fails, tries)))


def _symptoms(outcome: Outcome) -> list[str]:
    names = [str(violation.invariant) for violation in outcome.violations]
    return [*names, *([outcome.error.partition(":")[0]] if outcome.error else ())]


def _with(schedule: Schedule, faults: Sequence[Fault]) -> Schedule:
    return Schedule(schedule.seed, tuple(faults), scenario=schedule.scenario, is_brief=schedule.is_brief)
