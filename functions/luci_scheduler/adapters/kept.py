"""A bounded memory of answers that a process keeps."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["Kept"]

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Keeps values up to a total weight; the value that was not used for the longest time goes first. Thread-safe."""

    def __init__(self, most: int) -> None:
        """Keep values whose weights are at most ``most`` together."""
        self._most = most
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def get(self, key: K) -> V | None:
        """Return a value; None if it is not kept."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Keep a value in place of the one with this key, unless it weighs more than all may weigh together."""
        with self._lock:
            self._weight -= self._values.pop(key, (value, 0))[1]
            if weight > self._most:
                return
            self._values[key] = value, weight
            self._weight += weight
            while self._weight > self._most:
                _, (_, dropped) = self._values.popitem(last=False)
                self._weight -= dropped
