"""The comparison of the engine's actions with the naive model and with the invariants."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from luci_scheduler.core.instants import HOUR, MILLISECOND, MINUTE, SECOND
from tests.simulation.cron_by_hand import next_match
from tests.simulation.model import Model, Pending, choose, interval_of
from tests.simulation.project import MAIN, POLLS, START, Event, JobSpec, Script
from tests.simulation.scheduler import Arrived, Discarded, Ended, History, Key, Started

__all__ = ["differences", "violations"]

_FORGET = 30 * MINUTE
_SETTLING = 5 * MINUTE
"""The longest delay until a change of a config, or a pause, takes effect."""
_TOLERANCE = 6 * MINUTE
"""The longest delay after a lost task: the grace of the sweep, its period, and some failed deliveries."""
_SWEPT_AGAIN = (0, 10 * MINUTE)
"""The extra delay by the number of lost sweep tasks for the same work. Each further one costs an hour."""
_NOTICED = 15 * MINUTE + _TOLERANCE
"""The longest time until a poll notices a push: an interval, and the delay of a lost task."""
_EARLY = 50 * MILLISECOND
_COMMIT = 100 * MILLISECOND
"""Longer than any commit takes. A time measured from the decision can be this much earlier than the commit."""
_LONGEST = 4 * HOUR
"""Longer than any build of the script, with all delays of its notification."""


def differences(model: Model, history: History) -> list[str]:
    """Return the differences of two runs of one script without faults. There must be none at all."""
    found: list[str] = []
    for name in sorted({*model.starts, *history.starts, *model.discards, *history.discards}):
        started = sorted((item.started, item.triggers) for item in history.starts[name])
        expected = sorted((at // 1000 * 1000, keys) for at, keys in model.starts[name])
        found += _compare(f"{name}: starts", expected, started)
        dropped = [(item.at, item.key, _short(item.reason)) for item in history.discards[name]]
        found += _compare(f"{name}: discards", sorted(model.discards[name], key=str), sorted(dropped, key=str))
        if model.ends[name] != len(history.ends[name]):
            found.append(f"{name}: {len(history.ends[name])} ends instead of {model.ends[name]}")
    return found


def _compare(what: str, expected: list[Any], actual: list[Any]) -> list[str]:
    if expected == actual:
        return []
    pairs = enumerate(zip(expected, actual, strict=False))
    place = next((n for n, (one, other) in pairs if one != other), min(len(expected), len(actual)))
    return [
        (
            f"{what}: {len(actual)} instead of {len(expected)}; the first difference, number {place}:\n"
            f"  expected {expected[place : place + 2]}\n  actual   {actual[place : place + 2]}"
        )
    ]


def _short(reason: str) -> str:
    return "too old" if "was pending for longer" in reason else reason


def violations(history: History, script: Script) -> list[str]:
    """Return the violations of invariants that must hold with any faults.

    Each trigger is in exactly one invocation, or was discarded for a reason that was true. No limit is exceeded. Each
    decision is the policy's decision about the pending triggers at that moment. No trigger is pending while a slot is
    free. No tick of a schedule is missing or far from its time. Every push is noticed. Every invocation ends, and has
    one build.
    """
    fates = _Fates(script)
    found = [f"invocation {identifier} has {n} builds" for identifier, n in history.builds.items() if n != 1]
    for name in sorted(fates.names):
        job = _Job(name, history, fates, script.end)
        checks = (job.each_trigger_once(), job.true_reasons(), job.decisions(), job.ends(), job.schedule())
        found += [f"{name}: {text}" for check in checks for text in check]
    return found + list(_pushes(history, fates, script))


class _Fates:
    """The definition of each job, and whether it was paused, at any moment. A change takes a while to be in force."""

    def __init__(self, script: Script) -> None:
        self._specs: dict[str, list[tuple[int, JobSpec]]] = {spec.name: [(START, spec)] for spec in script.specs}
        self._pauses: dict[str, list[tuple[int, bool]]] = {spec.name: [] for spec in script.specs}
        self.names = [spec.name for spec in script.specs]
        for event in script.events:
            if event.kind == "config":
                for spec in event.specs:
                    if self._specs[spec.name][-1][1] != spec:
                        self._specs[spec.name].append((event.at, spec))
            elif event.kind in ("pause", "resume"):
                self._pauses[event.job].append((event.at, event.kind == "pause"))

    def specs(self, name: str, since: int, until: int) -> list[JobSpec]:
        """Return the definitions that may have been in force at some time between two instants."""
        nexts = [at for at, _ in self._specs[name][1:]] + [until + 1]
        return [spec for (at, spec), end in zip(self._specs[name], nexts, strict=True) if at <= until and end >= since]

    def may_be_paused(self, name: str, since: int, until: int) -> bool:
        """Whether a job may have been paused at some time between two instants."""
        earlier = [pause for at, pause in self._pauses[name] if at < since]
        return earlier[-1:] == [True] or any(pause for at, pause in self._pauses[name] if since <= at <= until)

    def stretches(self, name: str, end: int) -> Iterator[tuple[int, int, JobSpec]]:
        """Yield the periods in which a job is enabled, not paused and unchanged, each with its definition."""
        touched = sorted({at for at, _ in (*self._specs[name], *self._pauses[name])})
        for since, until in zip(touched, [*touched[1:], end], strict=True):
            (spec,) = self.specs(name, since + 1, until - 1)[:1] or [None]
            settled = since + _SETTLING
            if (
                settled < until
                and spec is not None
                and not spec.disabled
                and not self.may_be_paused(name, settled, until - 1)
            ):
                yield settled, until, spec


class _Job:
    """The history of one job."""

    def __init__(self, name: str, history: History, fates: _Fates, end: int) -> None:
        self._name = name
        self._fates = fates
        self._end = end
        self._starts = history.starts[name]
        self._ends = history.ends[name]
        self._discards = history.discards[name]
        self._arrivals = history.arrivals[name]
        self._lost = history.swept_and_lost[name]
        self._idle: list[tuple[int, int]] = []
        """Commits that ended the last active invocation, each with its number and instant; `decisions` fills the
        list."""

    def each_trigger_once(self) -> Iterator[str]:
        """Within half an hour of a trigger's end, its ID starts nothing again, unless the job refused it.

        A trigger without an end came late.
        """
        came = {(item.number, item.key) for item in self._arrivals}
        ends: dict[Key, list[int]] = defaultdict(list)
        for item in self._starts:
            for key in item.triggers:
                ends[key].append(item.at)
        for dropped in self._discards:
            if (dropped.number, dropped.key) not in came:  # else it was never pending, and may be emitted again at once
                ends[dropped.key].append(dropped.at)
        for key, times in ends.items():
            times.sort()
            if any(later - earlier < _FORGET - SECOND for earlier, later in itertools.pairwise(times)):
                yield f"trigger {key} has {len(times)} ends at {times}"
        known = {item.key for item in self._arrivals}
        yield from (f"trigger {key} ended without an arrival" for key in ends if key not in known)

    def true_reasons(self) -> Iterator[str]:
        """A discarded trigger's reason was true at the time, or a little earlier."""
        for item in self._discards:
            since, reason = item.at - _SETTLING, _short(item.reason)
            specs = self._fates.specs(self._name, since, item.at)
            created = next(a.order[0] for a in reversed(self._arrivals) if a.key == item.key and a.at <= item.at)
            good = {
                "the job is paused": self._fates.may_be_paused(self._name, since, item.at),
                "the job is disabled": any(spec.disabled for spec in specs),
                "too old": any(s.policy == "NEWEST_FIRST" and item.at - created >= s.timeout - SECOND for s in specs),
            }
            if not good.get(reason, False):
                yield f"trigger {item.key} was discarded at {item.at} as {item.reason!r}, which is not true"

    def decisions(self) -> Iterator[str]:
        """Each commit starts the policy's choice of the pending triggers.

        No trigger is pending while a slot is free.
        """
        pending: dict[Key, Arrived] = {}
        running: set[int] = set()
        since = START
        for number, items in self._commits():
            now = max(item.at for item in items)
            yield from self._patience(pending, len(running), since, now)
            running -= {item.identifier for item in items if isinstance(item, Ended)}
            pending.update({item.key: item for item in items if isinstance(item, Arrived)})
            starts = [item for item in items if isinstance(item, Started)]
            if starts:
                yield from self._decision(starts, pending, len(running))
            yield from self._consumed(starts, pending)
            running |= {start.identifier for start in starts}
            for item in items:
                if isinstance(item, Discarded):
                    pending.pop(item.key, None)
            if not running and any(isinstance(item, Ended) for item in items):
                self._idle.append((number, now))
            since = now
        yield from self._patience(pending, len(running), since, self._end)

    def _commits(self) -> list[tuple[int, list[Any]]]:
        """Return the events of each commit, with its number, in order."""
        by_commit: dict[int, list[Any]] = defaultdict(list)
        for item in (*self._arrivals, *self._discards, *self._starts, *self._ends):
            by_commit[item.number].append(item)
        return sorted(by_commit.items())

    @staticmethod
    def _consumed(starts: list[Started], pending: dict[Key, Arrived]) -> Iterator[str]:
        """Remove the triggers of new invocations from the pending ones. Each of them must have been pending."""
        for start in starts:
            for key in start.triggers:
                if pending.pop(key, None) is None:
                    yield f"trigger {key} was not pending when invocation {start.identifier} consumed it"

    def _patience(self, pending: dict[Key, Arrived], running: int, since: int, now: int) -> Iterator[str]:
        if not pending or now - since <= _slack(self._lost, since, now):
            return
        if running < min(spec.limit for spec in self._fates.specs(self._name, since, now)):
            some = list(pending)[:3]
            yield f"{len(pending)} triggers are pending from {since} to {now} although a slot is free: {some}"

    def _decision(self, starts: list[Started], pending: dict[Key, Arrived], running: int) -> Iterator[str]:
        number, seen, at = starts[0].number, starts[0].seen, starts[0].at
        actual = [item.triggers for item in starts]
        taken = {key for keys in actual for key in keys}
        visible = [
            Pending(key, item.order)
            for key, item in pending.items()
            if item.number <= seen or item.number == number or key in taken
        ]
        specs = self._fates.specs(self._name, at - _SETTLING, at)
        wanted = [[tuple(w.key for w in batch) for batch in choose(spec, visible, running, at)[0]] for spec in specs]
        if actual not in wanted:
            yield f"at {at} with {running} running, {len(visible)} pending: started {actual}, wanted one of {wanted}"

    def ends(self) -> Iterator[str]:
        """Every invocation that began long enough ago has succeeded."""
        statuses = {item.identifier: item.status for item in self._ends}
        for item in self._starts:
            status = statuses.get(item.identifier)
            if status != "SUCCEEDED" and (status is not None or item.at < self._end - _LONGEST):
                yield f"invocation {item.identifier} of {item.at} is {status or 'not over'}"

    def schedule(self) -> Iterator[str]:
        """In each quiet period, ticks follow the schedule. Call it after `decisions`."""
        ticks = sorted((item.order[0], item.number) for item in self._arrivals if item.key[0] == "cron")
        for since, until, spec in self._fates.stretches(self._name, self._end):
            mine = [(tick, number) for tick, number in ticks if since <= tick < until]
            if spec.schedule == "triggered":
                yield from (f"a tick at {tick} of a job without a schedule" for tick, _ in mine)
            elif spec.task == "gitiles":
                continue  # polls that find nothing leave no trace; `_pushes` checks the others
            elif interval_of(spec.schedule) is None:
                yield from self._calendar(spec.schedule, since, until, [tick for tick, _ in mine])
            else:
                yield from self._intervals(interval_of(spec.schedule) or 0, since, until, mine)

    def _calendar(self, schedule: str, since: int, until: int, ticks: list[int]) -> Iterator[str]:
        for place, before in enumerate((since, *ticks)):
            due = next_match(schedule, (before + _EARLY) // SECOND) * SECOND
            tick = ticks[place] if place < len(ticks) else None
            slack = _slack(self._lost, due, until if tick is None else tick)
            if tick is None:
                if due < until - slack:
                    yield f"no tick at {due} of {schedule!r}"
            elif tick > due + slack or (place and tick < due - _EARLY):
                yield f"the tick at {tick} of {schedule!r} should have been at {due}"

    def _intervals(self, interval: int, since: int, until: int, ticks: list[tuple[int, int]]) -> Iterator[str]:
        if not ticks and until - since > interval + _TOLERANCE + _LONGEST:
            yield f"no tick from {since} to {until}"
        for place, (_, number) in enumerate(ticks):
            idle = next((at for ended, at in self._idle if ended > number), None)
            if idle is None:
                continue
            due, tick = idle + interval, ticks[place + 1][0] if place + 1 < len(ticks) else None
            slack = _slack(self._lost, due, until if tick is None else tick)
            if tick is None:
                if due < until - slack:
                    yield f"no tick at {due}, an interval after the end at {idle}"
            elif not due - _EARLY - _COMMIT <= tick <= due + slack:
                yield f"the tick at {tick} should have been at {due}, an interval after the end at {idle}"


def _slack(lost: list[int], since: int, until: int) -> int:
    """Return how late work may be that was due at ``since`` and done at ``until``."""
    times = sum(since <= at <= until for at in lost)
    return _TOLERANCE + _SWEPT_AGAIN[min(times, 1)] + max(0, times - 1) * HOUR


def _pushes(history: History, fates: _Fates, script: Script) -> Iterator[str]:
    """A push to a main branch reaches every target of a poller within an interval, unless its range is too long."""
    came = {name: {item.key[0] for item in history.arrivals[name]} for name in fates.names}
    short = _short_pushes(script)
    for spec in script.specs:
        polling = _polling(spec, fates, script.end)
        for event in short:
            if event.repo != spec.repo or not any(
                since <= event.at and event.at + _NOTICED < until for since, until in polling
            ):
                continue
            key = f"{event.repo}/+/{MAIN}@{history.tips[event.repo, event.at]}"
            yield from (f"{name}: never got {key}" for name in spec.targets if key not in came[name])


def _short_pushes(script: Script) -> list[Event]:
    """Return the pushes to main branches whose range is short enough for one poll."""
    pushes = [event for event in script.events if event.kind == "push"]
    large = [event.at for event in pushes if event.count > 1]
    tips = [event for event in pushes if event.ref == MAIN and event.at > START]
    return [event for event in tips if all(abs(at - event.at) >= _NOTICED for at in large)]


def _polling(spec: JobSpec, fates: _Fates, end: int) -> list[tuple[int, int]]:
    """Return the quiet periods in which a job polls."""
    if spec.task != "gitiles":
        return []
    return [(since, until) for since, until, then in fates.stretches(spec.name, end) if then.schedule in POLLS]
