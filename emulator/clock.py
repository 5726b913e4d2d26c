"""The clock that the servers of the local cloud share: real, fast or stepped.

All instants are integers, nanoseconds since the Unix epoch (UTC), as in ``luci_scheduler.core.instants``.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["AdjustableClock", "Clock", "FastClock", "RealClock", "SteppedClock"]

SECOND = 1_000_000_000


class Clock(Protocol):
    """What a server needs of time: to read it and to wait for it."""

    def now(self) -> int:
        """Return the present instant."""

    def wait_until(self, instant: int, woken: threading.Event) -> None:
        """Block until ``instant`` has come or ``woken`` is set, whichever is first; may return early without reason."""


class FastClock:
    """Wall-clock time that runs ``speed`` times as fast from the moment the clock is made (1 is real time)."""

    def __init__(self, speed: float = 1.0, start: int | None = None) -> None:
        if speed <= 0:
            raise ValueError(f"a clock's speed must be positive, got {speed}")
        self._speed = speed
        self._monotonic_start = time.monotonic_ns()
        self._start = time.time_ns() if start is None else start

    def now(self) -> int:
        """Return the present instant."""
        return self._start + int((time.monotonic_ns() - self._monotonic_start) * self._speed)

    def wait_until(self, instant: int, woken: threading.Event) -> None:
        """Block until ``instant`` has come or ``woken`` is set."""
        remaining = (instant - self.now()) / SECOND / self._speed
        if remaining > 0:
            woken.wait(remaining)


class RealClock(FastClock):
    """The machine's own clock."""

    def __init__(self) -> None:
        super().__init__(1.0)


class AdjustableClock:
    """A clock whose speed can be changed while it runs, and which can be put forward; it never goes back."""

    _LOOK_SECONDS = 0.05

    def __init__(self, speed: float = 1.0) -> None:
        self._lock = threading.Lock()
        self._ahead = 0
        self._running = FastClock(speed)
        self.speed = speed

    def now(self) -> int:
        """Return the present instant."""
        with self._lock:
            return self._running.now() + self._ahead

    def run_at(self, speed: float) -> None:
        """Run ``speed`` times as fast from now on; one that is not positive is refused with ValueError."""
        with self._lock:
            running = FastClock(speed, self._running.now())
            self._running, self.speed = running, speed

    def advance(self, nanoseconds: int) -> None:
        """Put the clock forward; putting it back is refused with ValueError."""
        if nanoseconds < 0:
            raise ValueError("a clock does not go back")
        with self._lock:
            self._ahead += nanoseconds

    def wait_until(self, instant: int, woken: threading.Event) -> None:
        """Block until ``instant`` has come or ``woken`` is set; looked at every 50 ms of real time, as the speed may change."""
        while (now := self.now()) < instant and not woken.is_set():
            woken.wait(min((instant - now) / SECOND / self.speed, self._LOOK_SECONDS))


class SteppedClock:
    """A clock that stands still until somebody moves it; waiters wake when it passes their instant."""

    def __init__(self, start: int) -> None:
        self._now = start
        self._moved = threading.Condition(threading.RLock())

    def now(self) -> int:
        """Return the present instant."""
        with self._moved:
            return self._now

    def move_to(self, instant: int) -> None:
        """Move to ``instant``; moving backwards is refused with ValueError."""
        with self._moved:
            if instant < self._now:
                raise ValueError(f"a clock does not go back: {instant} is before {self._now}")
            self._now = instant
            self._moved.notify_all()

    def advance(self, nanoseconds: int) -> None:
        """Move forward by ``nanoseconds``."""
        with self._moved:
            self.move_to(self._now + nanoseconds)

    def wait_until(self, instant: int, woken: threading.Event) -> None:
        """Block until the clock was moved to ``instant`` or ``woken`` is set (looked at every 50 ms of real time)."""
        with self._moved:
            while self._now < instant and not woken.is_set():
                self._moved.wait(0.05)
