"""A log of the latest requests of a server, for tests."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["RequestLog"]

_LOG_SIZE = 10_000

RecordT = TypeVar("RecordT")


class RequestLog(Generic[RecordT]):
    """The latest 10,000 requests. Thread-safe."""

    def __init__(self) -> None:
        self._records: deque[RecordT] = deque(maxlen=_LOG_SIZE)
        self._lock = threading.Lock()

    def add(self, record: RecordT) -> None:
        """Record a request."""
        with self._lock:
            self._records.append(record)

    def all(self) -> list[RecordT]:
        """Return the requests, oldest first."""
        with self._lock:
            return list(self._records)

    def clear(self) -> None:
        """Remove all records."""
        with self._lock:
            self._records.clear()
