"""Actions at future instants, on any clock."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable

from emulator.clock import Clock
from luci_scheduler.core.instants import HOUR

__all__ = ["Timeline"]

_LOG = logging.getLogger(__name__)
# The longest sleep of the thread, by the clock. A new entry wakes it at once.
_IDLE = HOUR


class Timeline:
    """Runs actions when the clock passes their instants, in the order of the instants, one at a time.

    An action receives its scheduled instant, so that its effect does not depend on when the thread woke. An exception
    of an action is logged, and the other actions still run.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[int, int, Callable[[int], None]]] = []
        self._sequence = itertools.count()
        self._lock = threading.Lock()
        self._running = threading.RLock()
        self._woken = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def at(self, instant: int, action: Callable[[int], None]) -> None:
        """Run ``action`` when the clock passes ``instant``; for a past instant, as soon as possible."""
        with self._lock:
            heapq.heappush(self._due, (instant, next(self._sequence), action))
        self._woken.set()

    def run_due(self) -> int:
        """Run all due actions, and any actions that these make due. Return the number of actions.

        When this returns, the timeline's thread runs no due action either.
        """
        count = 0
        with self._running:
            while (action := self._take()) is not None:
                instant, call = action
                try:
                    call(instant)
                except Exception:  # noqa: BLE001 - a failing action must not end the thread; it is logged
                    _LOG.exception("an action due at %d failed", instant)
                count += 1
        return count

    def start(self) -> None:
        """Run due actions in a separate thread until `stop`."""
        if self._thread is not None:
            raise RuntimeError("the timeline is running already")
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="buildbucket-timeline", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Later actions run only after another `start`."""
        self._stopped = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
            self._thread = None

    def _take(self) -> tuple[int, Callable[[int], None]] | None:
        with self._lock:
            if not self._due or self._due[0][0] > self._clock.now():
                return None
            instant, _, action = heapq.heappop(self._due)
            return instant, action

    def _run(self) -> None:
        while not self._stopped:
            self._woken.clear()
            self.run_due()
            with self._lock:
                instant = self._due[0][0] if self._due else self._clock.now() + _IDLE
            if not self._stopped:
                self._clock.wait_until(instant, self._woken)
