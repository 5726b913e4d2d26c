"""The clocks of the local cloud: real, adjustable or stepped by hand.

Each is both the ``ports.Clock`` of the functions and the clock of the servers, so that both share one time.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from luci_scheduler import ports
from luci_scheduler.core.instants import SECOND, Instant

__all__ = ["AdjustableClock", "Clock", "RealClock", "SteppedClock"]

_LOOK_SECONDS = 0.05
"""How often a waiter looks at a clock that may be adjusted or stepped, in real time."""


class Clock(ports.Clock, Protocol):
    """A clock on which a server can wait and be woken."""

    def wait_until(self, instant: int, woken: threading.Event) -> None:
        """Block until ``instant`` has come or ``woken`` is set, whichever is first; may return early without reason."""


class RealClock:
    """The machine's clock, or a clock that runs ``speed`` times as fast.

    Args:
        speed: how many seconds pass in one second of real time.
        start: the current instant; the machine's if None.
    """

    def __init__(self, speed: float = 1.0, start: int | None = None) -> None:
        if speed <= 0:
            raise ValueError(f"a clock's speed must be positive, got {speed}")
        self._speed = speed
        self._monotonic_start = time.monotonic_ns()
        self._start = time.time_ns() if start is None else start

    def now(self) -> Instant:
        """Return the current instant."""
        return Instant(self._start + int((time.monotonic_ns() - self._monotonic_start) * self._speed))

    def sleep(self, nanoseconds: int) -> None:
        """Block until this clock has advanced by the given time."""
        _wait_out(self, nanoseconds)

    def wait_until(self, instant: int, woken: threading.Event) -> None:
        """Block until ``instant`` has come or ``woken`` is set."""
        remaining = (instant - self.now()) / SECOND / self._speed
        if remaining > 0:
            woken.wait(remaining)


class AdjustableClock:
    """A clock that can be advanced, and whose speed can be changed while it runs; it never goes back.

    Args:
        speed: how many seconds pass in one second of real time.
        start: the current instant; the machine's if None.
    """

    def __init__(self, speed: float = 1.0, start: int | None = None) -> None:
        self._lock = threading.Lock()
        self._ahead = 0
        self._running = RealClock(speed, start)
        self.speed = speed

    def now(self) -> Instant:
        """Return the current instant."""
        with self._lock:
            return Instant(self._running.now() + self._ahead)

    def run_at(self, speed: float) -> None:
        """Run ``speed`` times as fast from now on.

        Raises:
            ValueError: the speed is not positive.
        """
        with self._lock:
            running = RealClock(speed, self._running.now())
            self._running, self.speed = running, speed

    def advance(self, nanoseconds: int) -> None:
        """Advance the clock.

        Raises:
            ValueError: ``nanoseconds`` is negative.
        """
        if nanoseconds < 0:
            raise ValueError("a clock does not go back")
        with self._lock:
            self._ahead += nanoseconds

    def sleep(self, nanoseconds: int) -> None:
        """Block until this clock has advanced by the given time."""
        _wait_out(self, nanoseconds)

    def wait_until(self, instant: int, woken: threading.Event) -> None:
        """Block until ``instant`` has come or ``woken`` is set."""
        while (now := self.now()) < instant and not woken.is_set():
            # Wait in short steps, because another thread may advance the clock or change its speed.
            woken.wait(min((instant - now) / SECOND / self.speed, _LOOK_SECONDS))


class SteppedClock:
    """A clock that stands still until it is moved; waiters wake when it passes their instant."""

    def __init__(self, start: int) -> None:
        self._now = start
        self._moved = threading.Condition(threading.RLock())

    def now(self) -> Instant:
        """Return the current instant."""
        with self._moved:
            return Instant(self._now)

    def move_to(self, instant: int) -> None:
        """Move to ``instant``.

        Raises:
            ValueError: ``instant`` is past.
        """
        with self._moved:
            if instant < self._now:
                raise ValueError(f"a clock does not go back: {instant} is before {self._now}")
            self._now = instant
            self._moved.notify_all()

    def reach(self, instant: int) -> None:
        """Move to ``instant``, or not at all if it is past."""
        with self._moved:
            self.move_to(max(instant, self._now))

    def advance(self, nanoseconds: int) -> None:
        """Move forward by ``nanoseconds``."""
        with self._moved:
            self.move_to(self._now + nanoseconds)

    def set_back(self, nanoseconds: int) -> None:
        """Move back by ``nanoseconds``: the next delivery may run on a machine whose clock is behind."""
        with self._moved:
            self._now -= nanoseconds

    def sleep(self, nanoseconds: int) -> None:
        """Move forward at once, as if the caller had slept."""
        self.advance(max(0, nanoseconds))

    def wait_until(self, instant: int, woken: threading.Event) -> None:
        """Block until the clock has reached ``instant`` or ``woken`` is set."""
        with self._moved:
            while self._now < instant and not woken.is_set():
                self._moved.wait(_LOOK_SECONDS)  # setting ``woken`` sends no notification


def _wait_out(clock: Clock, nanoseconds: int) -> None:
    until, never = clock.now() + nanoseconds, threading.Event()
    while clock.now() < until:
        clock.wait_until(until, never)
