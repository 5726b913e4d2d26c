"""Entropy in memory: seeded, so that a run can be repeated."""

from __future__ import annotations

import random
import threading

from luci_scheduler.core.identifiers import suffixes

__all__ = ["SeededEntropy"]


class SeededEntropy:
    """``ports.Entropy`` from a seed: the same seed draws the same numbers."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing secret is drawn here
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
