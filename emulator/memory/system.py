"""Clock and chance in memory: moved and seeded by hand."""

from __future__ import annotations

import random
import threading

from luci_scheduler.core.identifiers import suffixes
from luci_scheduler.core.instants import Instant

__all__ = ["ManualClock", "SeededEntropy"]


class ManualClock:
    """``ports.Clock`` that stands still until it is moved."""

    def __init__(self, now: Instant) -> None:
        self._now = now
        self._lock = threading.Lock()

    def now(self) -> Instant:
        """Return the present instant."""
        with self._lock:
            return self._now

    def advance(self, nanoseconds: int) -> None:
        """Move forward."""
        with self._lock:
            self._now = Instant(self._now + nanoseconds)

    def sleep(self, nanoseconds: int) -> None:
        """Move forward at once, as if the time had been slept through."""
        self.advance(max(0, nanoseconds))

    def move_to(self, instant: Instant) -> None:
        """Move to an instant that is not in the past; an earlier one leaves the clock where it is."""
        with self._lock:
            self._now = max(self._now, instant)


class SeededEntropy:
    """``ports.Entropy`` from a seed: the same seed draws the same."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing secret is drawn here
        self._suffixes = suffixes(self._random.getrandbits(16), self._random.getrandbits(16))
        self._lock = threading.Lock()

    def invocation_suffix(self) -> int:
        """Draw 16 bits, other ones than the last 65,535 times."""
        with self._lock:
            return next(self._suffixes)

    def check_delay_seconds(self, low: int, high: int) -> int:
        """Draw whole seconds from [low, high)."""
        return self._random.randrange(low, high)

    def nonce(self) -> int:
        """Draw 63 bits, not all zero."""
        return self._random.randrange(1, 1 << 63)
