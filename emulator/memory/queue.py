"""The task queue in memory: a list that tests inspect and deliver from."""

from __future__ import annotations

import threading

from luci_scheduler.core.instants import Instant
from luci_scheduler.ports import QueueTask

__all__ = ["MemoryQueue"]


class MemoryQueue:
    """``ports.Queue`` that keeps its tasks until a test takes them."""

    def __init__(self) -> None:
        self._tasks: list[QueueTask] = []
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def enqueue(self, task: QueueTask) -> None:
        """Put a task on the queue, unless an earlier task had its name."""
        with self._lock:
            if task.name in self._names:
                return
            self._names |= {task.name} - {""}
            self._tasks.append(task)

    @property
    def tasks(self) -> list[QueueTask]:
        """The tasks on the queue, in the order in which they were enqueued."""
        with self._lock:
            return list(self._tasks)

    def take_due(self, now: Instant) -> list[QueueTask]:
        """Remove and return all tasks that are due, the earliest first."""
        with self._lock:
            due = sorted((task for task in self._tasks if task.eta <= now), key=lambda task: task.eta)
            self._tasks = [task for task in self._tasks if task.eta > now]
        return due

    def next_due(self) -> Instant | None:
        """Return when the next task is due, or None if the queue is empty."""
        with self._lock:
            return min((task.eta for task in self._tasks), default=None)

    def purge(self) -> None:
        """Lose all tasks."""
        with self._lock:
            self._tasks.clear()

    def remove(self, task: QueueTask) -> None:
        """Remove a task from the queue. Raises ValueError if the queue does not have it."""
        with self._lock:
            self._tasks.remove(task)
