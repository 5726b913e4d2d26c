"""Responses of the Buildbucket server that a test prepares in advance."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CannedResponse", "CannedResponses"]


@dataclass(frozen=True, slots=True)
class CannedResponse:
    """A prepared response.

    Attributes:
        body: the JSON of a success, or a text to send unchanged.
        status: the HTTP status.
        headers: additional headers.
        code: a gRPC code that turns the response into an error of the service, with ``body`` as its text (v2 only).
    """

    body: Mapping[str, Any] | str = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    code: int | None = None


class CannedResponses:
    """A queue of prepared responses per method, used in order. Thread-safe."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[CannedResponse]] = {}
        self._lock = threading.Lock()

    def add(self, method: str, response: CannedResponse) -> None:
        """Append a response to a method's queue."""
        with self._lock:
            self._queues.setdefault(method, deque()).append(response)

    def take(self, method: str) -> CannedResponse | None:
        """Remove and return the next response of a method; None if it has none."""
        with self._lock:
            queue = self._queues.get(method)
            return queue.popleft() if queue else None

    def left(self) -> dict[str, int]:
        """Return the number of prepared responses per method, without methods that have none."""
        with self._lock:
            return {method: len(queue) for method, queue in self._queues.items() if queue}
