"""A log of the latest requests of a server, for tests."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import fields, is_dataclass
from typing import Generic, TypeVar

__all__ = ["RequestLog"]

_LOG_SIZE = 10_000
_CHARACTERS = 32 << 20
"""Characters of all records: answers may be large, and a local cloud polls for weeks."""

RecordT = TypeVar("RecordT")


class RequestLog(Generic[RecordT]):
    """The latest 10,000 requests, or fewer if their texts are long. Thread-safe."""

    def __init__(self, characters: int = _CHARACTERS) -> None:
        self._records: deque[RecordT] = deque()
        self._most = characters
        self._size = 0
        self._lock = threading.Lock()

    def add(self, record: RecordT) -> None:
        """Record a request."""
        with self._lock:
            self._records.append(record)
            self._size += _size(record)
            while len(self._records) > 1 and (len(self._records) > _LOG_SIZE or self._size > self._most):
                self._size -= _size(self._records.popleft())

    def all(self) -> list[RecordT]:
        """Return the requests, oldest first."""
        with self._lock:
            return list(self._records)

    def clear(self) -> None:
        """Remove all records."""
        with self._lock:
            self._records.clear()
            self._size = 0


def _size(record: object) -> int:
    """Return the number of characters in a record's texts."""
    if not is_dataclass(record):
        return 0
    return sum(len(text) for name in fields(record) if isinstance(text := getattr(record, name.name), str))
