"""The rate limit of a queue: a token bucket in whole nanoseconds."""

from __future__ import annotations

from emulator.cloud_tasks.model import RateLimits
from luci_scheduler.core.instants import SECOND

__all__ = ["RateBucket"]


class RateBucket:
    """A token bucket, stored as the instant at which it would be full again.

    Whole nanoseconds instead of fractions of a token make a token available exactly at `ready_at`, without rounding
    errors.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._period = 1
        self._burst = 1
        self._full_at = 0
        self._set(limits)

    def _set(self, limits: RateLimits) -> None:
        self._period = max(1, round(SECOND / limits.max_dispatches_per_second))
        self._burst = limits.max_burst_size

    def update(self, limits: RateLimits, now: int) -> None:
        """Change rate and size. The number of missing tokens stays the same, up to the new size."""
        missing = max(0, self._full_at - now) / self._period
        self._set(limits)
        self._full_at = now + round(min(missing, self._burst) * self._period)

    def ready_at(self) -> int:
        """Return the earliest instant at which a token is available."""
        return self._full_at - (self._burst - 1) * self._period

    def take(self, now: int) -> bool:
        """Take a token; False if none is available."""
        if now < self.ready_at():
            return False
        self._full_at = max(self._full_at, now) + self._period
        return True
