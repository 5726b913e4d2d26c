"""Bounded waiting for other threads and processes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], what: str = "it", seconds: float = 60.0) -> T:
    """Poll until ``look`` returns a true value, and return that. The limit is far longer than a busy machine takes.

    Raises:
        AssertionError: it did not happen in that time.
    """
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.01)
    return seen
