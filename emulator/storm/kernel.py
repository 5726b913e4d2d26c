"""Virtual time: processes run one at a time, in the order of their instants, and sleep without real time.

A process is an ordinary function in its own greenlet. Only one runs at any moment, so a seed gives the same run every
time. Handlers are still interleaved at each wait: in a call, a commit or a sleep.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from greenlet import GreenletExit, getcurrent, greenlet

from luci_scheduler.core.instants import Instant

__all__ = ["Kernel"]


class Kernel:
    """The clock (``ports.Clock``), and the events to come, each at its instant."""

    def __init__(self, start: Instant) -> None:
        self._now = start
        self._until: int = start
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._asleep: dict[greenlet, None] = {}
        self._driver: greenlet | None = None
        self._closed = False
        self.failure: BaseException | None = None
        """An error outside of the processes. `run` raises it."""

    def now(self) -> Instant:
        """Return the current instant."""
        return self._now

    @property
    def is_waiting(self) -> bool:
        """Whether a process sleeps."""
        return bool(self._asleep)

    def at(self, instant: int, action: Callable[[], None]) -> None:
        """Schedule an action at an instant. It takes no time. A past one is next. Equal instants keep their order."""
        heapq.heappush(self._agenda, (max(instant, self._now), next(self._numbers), action))

    def spawn(self, instant: int, process: Callable[[], None]) -> None:
        """Start a process at an instant. Unlike an action, it may sleep."""
        self.at(instant, lambda: self._begin(process))

    def sleep(self, nanoseconds: int) -> None:
        """Suspend the calling process, so that others can run."""
        if self._closed:
            raise GreenletExit
        process, driver = getcurrent(), self._driver
        if driver is None or process is driver:
            raise RuntimeError("only a process can sleep")
        wake = self._now + max(0, nanoseconds)
        if wake < self._until and (not self._agenda or self._agenda[0][0] > wake):
            self._now = Instant(wake)  # nothing else is due until then, so no other process has to run
            return
        self.at(wake, process.switch)
        self._asleep[process] = None
        try:
            driver.switch()
        finally:
            del self._asleep[process]

    def run(self, until: int) -> None:
        """Run everything due before an instant, then set the clock to it. The clock never goes back.

        Raises:
            BaseException: as a process raises it, or `failure`.
        """
        self._until = until
        self._driver = getcurrent()
        while self._agenda and self._agenda[0][0] < until:
            instant, _, action = heapq.heappop(self._agenda)
            self._now = Instant(instant)
            action()
            if self.failure is not None:
                raise self.failure
        self._now = max(Instant(until), self._now)

    def close(self) -> None:
        """End all processes that sleep, where they are."""
        self._closed = True
        for process in list(self._asleep):
            process.throw(GreenletExit)

    def _begin(self, process: Callable[[], None]) -> None:
        # A process returns to the driver when it ends, and an error of it continues there.
        greenlet(process, self._driver).switch()
