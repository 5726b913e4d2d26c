"""Virtual time: processes run one at a time, in the order of their instants, and sleep without real time.

A process is an ordinary function in its own thread. Only one thread runs at any moment, so a seed gives the same run
every time. Handlers are still interleaved at each wait: in a call, a commit or a sleep.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from luci_scheduler.core.instants import Instant

__all__ = ["Kernel"]


class _Worker:
    """A thread that runs one process after another."""

    def __init__(self, kernel: Kernel) -> None:
        self.resumed = threading.Lock()
        self.resumed.acquire()
        self.work: Callable[[], None] | None = None
        self._kernel = kernel
        self._thread = threading.Thread(target=self._loop, daemon=True, name="process")
        self._thread.start()

    def end(self) -> None:
        """Let the thread end, and wait for that."""
        self.resumed.release()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            self.resumed.acquire()
            if self.work is None:
                return
            try:
                self.work()
            except _Abandoned:
                return
            except BaseException as error:  # noqa: BLE001 - the thread that drives the run raises it again
                self._kernel.failure = error
            self._kernel.retire(self)


class _Abandoned(BaseException):
    """Ends the thread of a process that sleeps when the run is over."""


class Kernel:
    """The clock (``ports.Clock``), and the events to come, each at its instant."""

    def __init__(self, start: Instant) -> None:
        self._now = start
        self._until: int = start
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._idle: list[_Worker] = []
        self._asleep: dict[_Worker, None] = {}
        self._current: _Worker | None = None
        self._closed = False
        self._back = threading.Lock()
        self._back.acquire()
        self.failure: BaseException | None = None

    def now(self) -> Instant:
        """Return the current instant."""
        return self._now

    def at(self, instant: int, action: Callable[[], None]) -> None:
        """Schedule an action at an instant. It takes no time. A past one is next. Equal instants keep their order."""
        heapq.heappush(self._agenda, (max(instant, self._now), next(self._numbers), action))

    def spawn(self, instant: int, process: Callable[[], None]) -> None:
        """Start a process at an instant. Unlike an action, it may sleep."""
        self.at(instant, lambda: self._begin(process))

    def sleep(self, nanoseconds: int) -> None:
        """Suspend the calling process, so that others can run."""
        if self._closed:
            raise _Abandoned
        worker = self._current
        if worker is None:
            raise RuntimeError("only a process can sleep")
        wake = self._now + max(0, nanoseconds)
        if wake < self._until and (not self._agenda or self._agenda[0][0] > wake):
            self._now = Instant(wake)  # nothing else is due until then, so no other thread has to run
            return
        self.at(wake, lambda: self._run(worker))
        self._asleep[worker] = None
        self._back.release()
        worker.resumed.acquire()
        if self._closed:
            raise _Abandoned
        del self._asleep[worker]

    def run(self, until: int) -> None:
        """Run everything due before an instant, then set the clock to it."""
        self._until = until
        while self._agenda and self._agenda[0][0] < until:
            instant, _, action = heapq.heappop(self._agenda)
            self._now = Instant(instant)
            action()
            if self.failure is not None:
                raise self.failure
        self._now = Instant(until)

    def close(self) -> None:
        """End all threads. Processes that sleep are abandoned: they end where they are."""
        self._closed = True
        for worker in self._asleep:
            worker.end()
        for worker in self._idle:
            worker.work = None
            worker.end()

    def retire(self, worker: _Worker) -> None:
        """Accept back a worker whose process has ended. Its thread calls this."""
        self._idle.append(worker)
        self._back.release()

    def _begin(self, process: Callable[[], None]) -> None:
        worker = self._idle.pop() if self._idle else _Worker(self)
        worker.work = process
        self._run(worker)

    def _run(self, worker: _Worker) -> None:
        self._current = worker
        worker.resumed.release()
        self._back.acquire()
        self._current = None
