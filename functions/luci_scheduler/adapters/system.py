"""The machine's clock and randomness."""

from __future__ import annotations

import random
import threading
import time

from luci_scheduler.core.identifiers import suffixes
from luci_scheduler.core.instants import SECOND, Instant

__all__ = ["SystemClock", "SystemEntropy"]


class SystemClock:
    """``ports.Clock`` of the machine."""

    def now(self) -> Instant:
        """Return the current instant."""
        return Instant(time.time_ns())

    def sleep(self, nanoseconds: int) -> None:
        """Block for that long; return at once if it is not positive."""
        time.sleep(max(0, nanoseconds) / SECOND)


class SystemEntropy:
    """``ports.Entropy`` of the machine."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._suffixes = suffixes(self._random.getrandbits(16), self._random.getrandbits(16))
        self._lock = threading.Lock()

    def invocation_suffix(self) -> int:
        """Draw 16 bits that differ from the last 65,535 draws."""
        with self._lock:
            return next(self._suffixes)

    def check_delay_seconds(self, low: int, high: int) -> int:
        """Draw whole seconds from [low, high)."""
        return self._random.randrange(low, high)

    def nonce(self) -> int:
        """Draw 63 bits, not all zero."""
        return self._random.randrange(1, 1 << 63)
