"""Measure how much memory a call takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

__all__ = ["peak_bytes"]

_ATTEMPTS = 5


def peak_bytes(call: Callable[[], object]) -> int:
    """Return the most memory, in bytes, that a call holds beyond the memory in use before it.

    Tracing counts the allocations of every thread, and servers of other tests may still run. Their share only adds, so
    the smallest figure of five attempts is the closest to the truth. ``call`` must be safe to repeat.
    """
    return min(_traced_peak(call) for _ in range(_ATTEMPTS))


def _traced_peak(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
