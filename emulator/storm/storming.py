"""Many runs: each schedule is played and judged, in this process or in several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import get_context

from emulator.storm.enumeration import followers
from emulator.storm.faults import Fault
from emulator.storm.history import Run, Schedule
from emulator.storm.invariants import Violation
from emulator.storm.judgment import violations
from emulator.storm.shrink import shrink
from emulator.storm.world import run
from luci_scheduler.core.instants import MILLISECOND

__all__ = ["Outcome", "Tally", "Work", "play_and_judge", "shrunk", "storm", "work"]

_AHEAD = 8  # schedules that wait for a process, per process


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


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one process at a time: a schedule, and perhaps each second fault that can follow its first."""

    schedule: Schedule
    followers: str = ""
    """``hangs`` or ``pairs``: see `enumeration.followers`. Empty: only the schedule itself."""


def work(item: Work) -> Tally:
    """Play and judge the schedules of a piece of work."""
    tally = Tally()
    if not item.followers:
        tally.add(play_and_judge(item.schedule))
        return tally
    first = run(item.schedule)
    for fault in followers(first, item.followers):
        tally.add(play_and_judge(replace(item.schedule, faults=(*first.faults, fault))))
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


def storm(items: Iterable[Work], processes: int) -> Iterator[Tally]:
    """Yield the tally of each piece of work: in their order with one process, as they end with several."""
    if processes <= 1:
        yield from map(work, items)
        return
    # Worlds run threads, and a forked process would inherit their locks.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        left, running = iter(items), set[Future[Tally]]()
        while True:
            running |= {pool.submit(work, item) for item in islice(left, processes * _AHEAD - len(running))}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


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
    return Schedule(schedule.seed, tuple(faults), scenario=schedule.scenario)
