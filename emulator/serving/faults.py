"""Faults that a test injects into a server, each for a number of requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

__all__ = ["CountedFault", "Faults", "use_matching"]


class CountedFault(Protocol):
    """A fault that affects a limited number of requests.

    Attributes:
        times: how many requests are still affected; None means all, until the fault is removed.
    """

    times: int | None


FaultT = TypeVar("FaultT", bound=CountedFault)


def use_matching(faults: list[FaultT], matches: Callable[[FaultT], bool]) -> list[FaultT]:
    """Return the faults that match a request, count the request, and remove the faults that are used up.

    The caller holds the lock of the list.
    """
    matching = [fault for fault in faults if matches(fault)]
    for fault in matching:
        if fault.times is None:
            continue
        fault.times -= 1
        if fault.times <= 0:
            # By identity: two equal faults may be active at the same time.
            faults[:] = [other for other in faults if other is not fault]
    return matching


class Faults(Generic[FaultT]):
    """The active faults of a server. Thread-safe."""

    def __init__(self) -> None:
        self._faults: list[FaultT] = []
        self._lock = threading.Lock()

    def add(self, fault: FaultT) -> None:
        """Activate a fault."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def active(self) -> list[FaultT]:
        """Return the faults that are not used up."""
        with self._lock:
            return list(self._faults)

    def use(self, matches: Callable[[FaultT], bool]) -> list[FaultT]:
        """Return the faults that match a request, and count the request."""
        with self._lock:
            return use_matching(self._faults, matches)
