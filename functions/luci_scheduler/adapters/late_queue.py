"""A queue whose library is loaded with the first task: many deliveries, and most pages, enqueue none."""

from __future__ import annotations

import threading
from collections.abc import Callable

from luci_scheduler.ports import Queue, QueueTask

__all__ = ["LateQueue"]


class LateQueue:
    """``ports.Queue`` that makes its queue when the first task is enqueued; thread-safe."""

    def __init__(self, make: Callable[[], Queue]) -> None:
        self._make = make
        self._made: Queue | None = None
        self._lock = threading.Lock()

    @property
    def queue(self) -> Queue:
        """The queue; the first use makes it."""
        with self._lock:
            self._made = self._made or self._make()
            return self._made

    def enqueue(self, task: QueueTask) -> None:
        """Put a task on the queue, as the queue does."""
        self.queue.enqueue(task)
