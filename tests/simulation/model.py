"""The naive model: the right outcome by the plainest rules, without any code of the scheduler.

It knows jobs with a list of pending triggers and a set of runs, and goes through the script from one instant to the
next. There are no tasks, messages, claims or documents: due work happens at once.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from luci_scheduler.core.go_text import parse_duration
from tests.simulation.cron_by_hand import next_match
from tests.simulation.project import Event, JobSpec, Script, duration

__all__ = ["Model", "Pending", "choose", "interval_of"]

_SECOND = 1_000_000_000
_FORGET = 30 * 60 * _SECOND
NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Pending:
    """A trigger: its name, and its place in the order."""

    key: tuple[Any, ...]
    order: tuple[Any, ...]
    polled: bool = False
    """Whether a poll has found it. A commit that an event has reported before is then no new request, at any later
    time."""

    @property
    def created(self) -> int:
        """Its creation instant."""
        return int(self.order[0])


@dataclass(slots=True)
class _Job:
    spec: JobSpec
    paused: bool = False
    due: int | None = None
    """The next start by the schedule; None while a scheduled invocation is active, or if the job is disabled."""
    counted_from: int = 0
    pending: list[Pending] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    known: dict[tuple[Any, ...], int | None] = field(default_factory=dict)
    """Known triggers → when they were resolved; None for pending ones."""
    requested: set[tuple[Any, ...]] = field(default_factory=set)
    """The known triggers whose last request came from an event or a person."""
    heads: dict[str, int] = field(default_factory=dict)
    """For a poller: ref → number of the last commit that it has seen."""


def interval_of(schedule: str) -> int | None:
    """Return the interval of a schedule, or None if it has none."""
    if schedule == "continuously":
        return 0
    return parse_duration(schedule.split(" ")[1]) if schedule.startswith("with ") else None


def choose(spec: JobSpec, pending: list[Pending], running: int, now: int) -> tuple[list[list[Pending]], list[Pending]]:
    """Decide by a job's policy: the batches that become invocations, and the discarded triggers."""
    ordered, free = sorted(pending, key=lambda item: item.order), spec.limit - running
    if spec.policy == "NEWEST_FIRST":
        old = [item for item in ordered if now - item.created >= spec.timeout]
        fresh = [item for item in ordered if item not in old]
        return [[item] for item in fresh[max(0, len(fresh) - free) :]] if free > 0 else [], old
    batches: list[list[Pending]] = []
    while free > len(batches) and ordered:
        size = len(ordered)
        if spec.policy == "LOGARITHMIC_BATCHING":
            size = max(1, min(size, int(math.log(size) / math.log(spec.base))))
        size = min(size, spec.batch)
        batches.append(ordered[:size])
        ordered = ordered[size:]
    return batches, []


class Model:
    """Plays a script. Afterwards ``starts`` and ``discards`` hold the right outcome, by job name."""

    def __init__(self, script: Script, seed: int, listing: int) -> None:
        self.starts: dict[str, list[tuple[int, tuple[Any, ...]]]] = defaultdict(list)
        self.discards: dict[str, list[tuple[int, tuple[Any, ...], str]]] = defaultdict(list)
        self.ends: Counter[str] = Counter()
        self._script = script
        self._seed = seed
        self._listing = listing
        self._jobs: dict[str, _Job] = {}
        self._runs: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._branches: dict[str, dict[str, list[tuple[int, int]]]] = {repo: {} for repo in script.repos}
        """Repository → ref → its commits, each with number and instant."""
        self._commits: Counter[str] = Counter()
        self._agenda: list[tuple[int, int, Callable[[int], None]]] = []

    def run(self, start: int) -> None:
        """Play the script."""
        self._at(start, lambda now: self._configure(self._script.specs, now))
        for event in self._script.events:
            self._at(
                max(start, event.at) if event.kind != "push" else event.at, lambda now, e=event: self._happen(e, now)
            )
        while self._agenda and self._agenda[0][0] < self._script.end:
            now, _, action = heapq.heappop(self._agenda)
            action(now)

    def _at(self, instant: int, action: Callable[[int], None]) -> None:
        heapq.heappush(self._agenda, (instant, next(self._numbers), action))

    # Events from outside
    # -----------------------------------------------------------------------------------------------

    def _happen(self, event: Event, now: int) -> None:
        match event.kind:
            case "push":
                self._push(event, now)
            case "delete":
                self._branches[event.repo].pop(event.ref, None)
            case "config":
                self._configure(event.specs, now)
            case "emit":
                self._add_triggers(event.job, [Pending((event.trigger_id,), (now, 0, event.trigger_id.encode()))], now)
            case _:
                self._pause(self._jobs[event.job], event.kind == "pause", now)

    def _push(self, event: Event, now: int) -> None:
        commits = self._branches[event.repo].setdefault(event.ref, [])
        for _ in range(event.count):
            commits.append((self._commits[event.repo], now))
            self._commits[event.repo] += 1
        if not event.published:
            return
        tip = self._commit(event.repo, event.ref, *commits[-1], 0)
        for poller in self._jobs.values():
            if poller.spec.repo == event.repo and not poller.spec.disabled and not poller.paused:
                for name in poller.spec.targets:
                    if not self._jobs[name].spec.disabled:
                        self._add_triggers(name, [tip], now)

    @staticmethod
    def _commit(repo: str, ref: str, number: int, created: int, order: int) -> Pending:
        # The repositories in memory name their commits like this.
        revision = hashlib.sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest()
        key = f"{repo}/+/{ref}@{revision}"
        return Pending((key,), (created, order, key.encode()))

    def _configure(self, specs: tuple[JobSpec, ...], now: int) -> None:
        for spec in specs:
            job = self._jobs.get(spec.name)
            if job is None:
                job = self._jobs[spec.name] = _Job(spec)
                self._wait_from(job, now, now)
                continue
            before, job.spec = job.spec, spec
            if spec.disabled and not before.disabled:
                job.due = None
                self._tidy_up_soon(job, now)
            elif before.disabled and not spec.disabled:
                self._wait_from(job, now, now)
                if _policy(before) != _policy(spec):
                    self._tidy_up_soon(job, now)
            elif not spec.disabled:
                if _policy(before) != _policy(spec):
                    self._tidy_up_soon(job, now)
                if before.schedule != spec.schedule and not job.paused:
                    self._schedule_changed(job, now)

    def _pause(self, job: _Job, pause: bool, now: int) -> None:
        if job.spec.disabled or job.paused == pause:
            return
        job.paused = pause
        self._schedule_changed(job, now)
        if pause:
            self._tidy_up_soon(job, now)

    # Schedules -------------------------------------------------------------------------------------------------------

    def _schedule_changed(self, job: _Job, now: int) -> None:
        is_interval = not job.paused and interval_of(job.spec.schedule) is not None
        if job.due is not None:
            self._wait_from(job, job.counted_from, now)
        elif not is_interval:
            self._wait_from(job, now, now)

    def _wait_from(self, job: _Job, since: int, now: int) -> None:
        """Restart the schedule at ``since``."""
        job.counted_from, schedule = since, job.spec.schedule
        interval = interval_of(schedule)
        if job.paused or schedule == "triggered":
            job.due = NEVER
            return
        job.due = max(now, since + interval) if interval is not None else next_match(schedule, now // _SECOND) * _SECOND
        due = job.due
        self._at(due, lambda at: self._tick(job, due, at))

    def _tick(self, job: _Job, due: int, now: int) -> None:
        if job.due != due or job.spec.disabled or job.paused:
            return
        job.due = None
        if interval_of(job.spec.schedule) is None:
            self._wait_from(job, now, now)
        trigger = Pending(("cron", now), (now, 0))
        if job.spec.task == "gitiles" and not job.running and not job.pending:
            self._at(now + self._listing, lambda at: self._poll_idle(job, trigger, now, at))
        else:
            job.pending.append(trigger)
            self._fill(job, now)

    # Invocations -----------------------------------------------------------------------------------------------------

    def _add_triggers(self, name: str, triggers: list[Pending], now: int) -> None:
        job = self._jobs[name]
        new = [trigger for trigger in triggers if self._is_new(job, trigger, now)]
        reason = "the job is disabled" if job.spec.disabled else "the job is paused" if job.paused else ""
        for trigger in new:
            if reason:  # a trigger that a job refused may be emitted again under its name
                job.known.pop(trigger.key, None)
                self.discards[name].append((now, trigger.key, reason))
                continue
            job.known[trigger.key] = None
            (job.requested.discard if trigger.polled else job.requested.add)(trigger.key)
            job.pending.append(trigger)
        if new and not reason:
            self._fill(job, now)

    @staticmethod
    def _is_new(job: _Job, trigger: Pending, now: int) -> bool:
        if trigger.key not in job.known:
            return True
        if trigger.polled and trigger.key in job.requested:
            return False
        done = job.known[trigger.key]
        return done is not None and now - done >= _FORGET

    def _tidy_up_soon(self, job: _Job, now: int) -> None:
        even = (now // (2 * _SECOND) + 1) * 2 * _SECOND
        self._at(even, lambda at: self._tidy_up(job, at))

    def _tidy_up(self, job: _Job, now: int) -> None:
        self._fill(job, now, asked=True)
        if not job.running and job.due is None and not job.spec.disabled:
            self._wait_from(job, now, now)

    def _discard(self, job: _Job, items: list[Pending], reason: str, now: int) -> None:
        for item in items:
            job.pending.remove(item)
            job.known[item.key] = now
            self.discards[job.spec.name].append((now, item.key, reason))

    def _fill(self, job: _Job, now: int, *, asked: bool = False) -> None:
        """Start all invocations that may start."""
        if job.paused or job.spec.disabled:
            self._discard(
                job, list(job.pending), "the job is disabled" if job.spec.disabled else "the job is paused", now
            )
            return
        if len(job.running) >= job.spec.limit and not asked:
            return
        batches, old = choose(job.spec, job.pending, len(job.running), now)
        self._discard(job, old, "too old", now)
        runs = []
        for batch in batches:
            for item in batch:
                job.pending.remove(item)
                job.known[item.key] = now
            run = next(self._numbers)
            job.running.add(run)
            self.starts[job.spec.name].append((now, tuple(item.key for item in batch)))
            runs.append(run)
        for run in runs:
            self._run(job, run, now)

    def _run(self, job: _Job, run: int, now: int) -> None:
        if job.spec.task == "gitiles":
            self._at(now + self._listing, lambda at: self._poll(job, run, now, at))
            return
        length = duration(self._seed, job.spec, self._runs[job.spec.name])
        self._runs[job.spec.name] += 1
        targets = job.spec.targets  # the targets when it began
        self._at(now + length, lambda at: self._end(job, run, now, at, targets))

    def _end(self, job: _Job, run: int, began: int, now: int, targets: tuple[str, ...]) -> None:
        began = began // 1000 * 1000
        emitted = [
            Pending(("noop", f"p/{job.spec.name}", began, number), (now, number)) for number in range(job.spec.emits)
        ]
        self._is_over(job, run, now)
        if emitted:
            for name in targets:
                self._add_triggers(name, emitted, now)

    def _is_over(self, job: _Job, run: int, now: int) -> None:
        job.running.remove(run)
        self.ends[job.spec.name] += 1
        if job.pending:
            self._fill(job, now)
        if not job.running and job.due is None and not job.spec.disabled:
            self._wait_from(job, now, now)

    # Polls -----------------------------------------------------------------------------------------------------------

    def _poll_idle(self, job: _Job, trigger: Pending, began: int, now: int) -> None:
        """An idle poller polls. If nothing has changed, nothing is started."""
        if job.paused or job.spec.disabled:
            return
        if self._heads(job) == job.heads:
            if not job.running and job.due is None:
                self._wait_from(job, now, now)
            return
        run = next(self._numbers)
        job.running.add(run)
        self.starts[job.spec.name].append((began, (trigger.key,)))
        self._poll(job, run, began, now)

    def _heads(self, job: _Job) -> dict[str, int]:
        return {ref: commits[-1][0] for ref, commits in self._branches[job.spec.repo].items()}

    def _poll(self, job: _Job, run: int, began: int, now: int) -> None:
        branches = self._branches[job.spec.repo]
        job.heads = {ref: head for ref, head in job.heads.items() if ref in branches}
        found: list[Pending] = []
        for ref in sorted(branches):
            commits, seen = branches[ref], job.heads.get(ref)
            new = commits[-1:] if seen is None else [commit for commit in commits if commit[0] > seen][-50:]
            job.heads[ref] = commits[-1][0]
            commits_found = [self._commit(job.spec.repo, ref, *commit, len(found) + n) for n, commit in enumerate(new)]
            found += [replace(commit, polled=True) for commit in commits_found]
            if len(found) + 50 > 100:
                break
        targets = job.spec.targets
        self._is_over(job, run, now)
        if found:
            for name in targets:
                self._add_triggers(name, found, now)


def _policy(spec: JobSpec) -> tuple[Any, ...]:
    return (spec.policy, spec.limit, spec.batch, spec.base, spec.timeout)
