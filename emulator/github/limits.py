"""GitHub's rate limits: the hourly quota of each caller, and the secondary limits that stop bursts."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from emulator.clock import Clock
from emulator.github.errors import ApiError
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND

__all__ = ["Meter", "RateLimits", "exhausted", "secondary"]

_GUIDE = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api"
_SECONDARY_GUIDE = "https://docs.github.com/free-pro-team@latest/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"
_FORBIDDEN = 403
_READ, _WRITE = 1, 5  # points
_PAUSE = 60  # seconds of Retry-After


@dataclass(slots=True)
class RateLimits:
    """The limits of one caller. GitHub documents the numbers.

    Attributes:
        requests: requests an hour of a token or of an installation; a 304 does not count.
        anonymous: requests an hour without a token, where a 304 counts.
        points: points a minute; a read has 1 and a write 5.
        writes_minute: writes a minute.
        writes_hour: writes an hour.
    """

    requests: int = 5_000
    anonymous: int = 60
    points: int = 900
    writes_minute: int = 80
    writes_hour: int = 500


@dataclass(slots=True)
class _Window:
    """The usage of one caller.

    Attributes:
        ends: the end of the hour of the quota, in seconds since the epoch.
        used: the counted requests of that hour.
        recent: instant and points of each request of the last hour that counts for the secondary limits.
    """

    ends: int = 0
    used: int = 0
    recent: deque[tuple[int, int]] = field(default_factory=deque)


def exhausted(caller: str) -> ApiError:
    """Return the error about the hourly quota; ``caller`` is such as ``installation ID 4711``."""
    return ApiError(403, f"API rate limit exceeded for {caller}.", documentation=_GUIDE)


def secondary(status: int, seconds: float) -> ApiError:
    """Return the error about a secondary limit, with ``Retry-After`` unless ``seconds`` is 0."""
    headers = {"Retry-After": str(int(seconds))} if seconds else {}
    text = "You have exceeded a secondary rate limit."
    if status == _FORBIDDEN:
        text += " Please wait a few minutes before you try again."
    return ApiError(status, text, headers, _SECONDARY_GUIDE if status == _FORBIDDEN else "https://docs.github.com/rest")


class Meter:
    """Counts the requests of each caller. Thread-safe.

    Args:
        clock: the server's time.
        limits: the limits; their members may change while the server runs.
    """

    def __init__(self, clock: Clock, limits: RateLimits) -> None:
        self._clock = clock
        self.limits = limits
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def enter(self, caller: str, *, is_write: bool, is_anonymous: bool) -> ApiError | None:
        """Return the error of a request over a limit, or None. An admitted request counts for the secondary limits."""
        with self._lock:
            window = self._window(caller)
            if window.used >= self._limit(is_anonymous=is_anonymous):
                return exhausted(caller)
            if self._is_burst(window, is_write=is_write):
                return secondary(_FORBIDDEN, _PAUSE)
            window.recent.append((self._clock.now(), _WRITE if is_write else _READ))
            return None

    def count(self, caller: str) -> None:
        """Count a request against the hourly quota."""
        with self._lock:
            self._window(caller).used += 1

    def used(self, caller: str = "") -> int:
        """Return the counted requests of the present hour: of one caller, or of all."""
        with self._lock:
            callers = [caller] if caller else list(self._windows)
            return sum(self._window(name).used for name in callers)

    def reset(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._windows.clear()

    def headers(self, caller: str, *, is_anonymous: bool, is_exhausted: bool = False) -> dict[str, str]:
        """Return the headers of an answer; ``is_exhausted`` shows a quota that is used up."""
        quota = self.quota(caller, is_anonymous=is_anonymous, is_exhausted=is_exhausted)
        named = {f"X-RateLimit-{name.capitalize()}": str(value) for name, value in quota.items()}
        return {**named, "X-RateLimit-Resource": "core"}

    def quota(self, caller: str, *, is_anonymous: bool, is_exhausted: bool = False) -> dict[str, int]:
        """Return the quota of an hour as ``/rate_limit`` shows it; ``is_exhausted`` shows a quota that is used up."""
        with self._lock:
            window = self._window(caller)
            limit = self._limit(is_anonymous=is_anonymous)
            used = limit if is_exhausted else min(window.used, limit)
            return {"limit": limit, "remaining": limit - used, "used": used, "reset": window.ends}

    def _limit(self, *, is_anonymous: bool) -> int:
        return self.limits.anonymous if is_anonymous else self.limits.requests

    def _window(self, caller: str) -> _Window:
        now = self._clock.now()
        window = self._windows.setdefault(caller, _Window())
        if now // SECOND >= window.ends:
            window.ends, window.used = (now + HOUR) // SECOND, 0
        while window.recent and window.recent[0][0] <= now - HOUR:
            window.recent.popleft()
        return window

    def _is_burst(self, window: _Window, *, is_write: bool) -> bool:
        """Return whether one more request is over a secondary limit."""
        minute = [points for instant, points in window.recent if instant > self._clock.now() - MINUTE]
        if sum(minute) + (_WRITE if is_write else _READ) > self.limits.points:
            return True
        if not is_write:
            return False
        hour = sum(points == _WRITE for _, points in window.recent)
        return hour >= self.limits.writes_hour or minute.count(_WRITE) >= self.limits.writes_minute
