"""The time of a delivery: no outside call outlasts it, so that the handler answers before the platform ends the process.

The entry points begin a budget, and the clients in ``adapters`` ask `time_left` before each call. It is measured on the
machine's stopwatch: neither a moved clock nor the local cloud's faster one changes how long a socket may be open.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

from luci_scheduler.core.errors import TransientError

__all__ = ["begin", "time_left"]

_end: ContextVar[float | None] = ContextVar("end_of_delivery", default=None)


def begin(seconds: float) -> None:
    """Start the budget of the present context: calls made in it, and in copies of it, are over in that many seconds."""
    _end.set(time.monotonic() + seconds)


def time_left(limit: float) -> float:
    """Return the seconds that an outside call may take: its own limit, or the rest of the budget if that is less.

    Raises:
        TransientError: the delivery has no time left. The call must not be made; the delivery comes again.
    """
    end = _end.get()
    if end is None:
        return limit
    left = end - time.monotonic()
    if left <= 0:
        raise TransientError("the time of this delivery is over; it is tried again when the message is delivered again")
    return min(limit, left)
