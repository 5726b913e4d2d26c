"""The world of one run: the real functions on services in memory, on one virtual clock."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.memory.store import MemoryStore
from emulator.storm.choices import Choices, Trace
from emulator.storm.history import Build, Commit, History, Observer, Run, Schedule
from emulator.storm.kernel import Kernel
from luci_scheduler.core.instants import Instant, parse_rfc3339

__all__ = ["START", "World", "run"]

START = Instant(parse_rfc3339("2026-02-09T12:00:00Z"))


class World:
    """Everything that a run consists of."""

    def __init__(self, schedule: Schedule, observers: Sequence[Observer] = ()) -> None:
        self.schedule = schedule
        self.kernel = Kernel(START)
        self.trace = Trace()
        self.choices = Choices(
            schedule.seed, schedule.faults, without=schedule.without, rate=schedule.rate, trace=self.trace
        )
        self.history = History()
        self.store = MemoryStore()
        """The documents, without faults."""
        self._observers = observers

    @property
    def live_builds(self) -> list[Build]:
        """The builds that have not ended."""
        return [build for build in self.history.builds if build.is_live]

    def committed(self, commit: Commit) -> None:
        """Note a commit that landed."""
        self.history.commits.append(commit)
        for observer in self._observers:
            observer.committed(self, commit)

    def run(self) -> Run:
        """Play the schedule to its end."""
        raise NotImplementedError


def run(schedule: Schedule, observers: Sequence[Observer] = ()) -> Run:
    """Play a schedule.

    Raises:
        Exception: as an observer or the world itself raises it. The world is then closed.
    """
    return World(schedule, observers).run()
