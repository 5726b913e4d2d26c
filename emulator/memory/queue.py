"""The task queue in memory: a list that tests inspect and deliver from."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from dataclasses import replace

from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import DAY, HOUR, MICROSECOND, Instant
from luci_scheduler.core.queue_tasks import with_version
from luci_scheduler.ports import Clock, QueueTask

__all__ = ["MemoryQueue"]

_NAME = re.compile(r"[A-Za-z0-9_-]{0,500}")
_MAX_BYTES = 99 * 1024
"""Cloud Tasks takes 100 KB. A task's addresses, headers and times take less than one of them."""
_MAX_AHEAD = 30 * DAY
_TOMBSTONE = HOUR
"""How long the name of a finished task stays reserved at least, as `emulator.cloud_tasks.limits` has it."""


class MemoryQueue:
    """``ports.Queue`` that keeps its tasks until a test takes them. It accepts and refuses tasks like Cloud Tasks.

    Args:
        clock: the time at which tasks come and go. Without it, a name stays reserved, and any time is near enough.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._tasks: list[QueueTask] = []
        self._names: dict[str, Instant | None] = {}
        """Name → when it is free again; None while its task is on the queue."""
        self._lock = threading.Lock()

    def enqueue(self, task: QueueTask) -> None:
        """Put a task on the queue, unless a task has its name, or had it a short time ago.

        Raises:
            TransientError: Cloud Tasks refuses such a task. Its adapter reports every refusal as transient.
        """
        now = self._clock.now() if self._clock else None
        task = replace(task, eta=_in_microseconds(task.eta))
        if problem := _problem(task, now):
            raise TransientError(f"the queue did not accept a {task.kind} task: {problem}")
        with self._lock:
            if task.name in self._names and self._is_reserved(task.name, now):
                return
            if task.name:
                self._names[task.name] = None
            self._tasks.append(replace(task, eta=_in_microseconds(max(task.eta, now or task.eta))))

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
            self._bury(due)
        return due

    def next_due(self) -> Instant | None:
        """Return when the next task is due, or None if the queue is empty."""
        with self._lock:
            return min((task.eta for task in self._tasks), default=None)

    def purge(self) -> None:
        """Lose all tasks."""
        with self._lock:
            self._bury(self._tasks)
            self._tasks = []

    def remove(self, task: QueueTask) -> None:
        """Remove a task from the queue. Raises ValueError if the queue does not have it."""
        with self._lock:
            self._tasks.remove(task)
            self._bury([task])

    def _is_reserved(self, name: str, now: Instant | None) -> bool:
        until = self._names[name]
        return until is None or now is None or now < until

    def _bury(self, tasks: Iterable[QueueTask]) -> None:
        """Reserve the names of tasks that leave the queue."""
        if self._clock is not None:
            free = Instant(self._clock.now() + _TOMBSTONE)
            self._names.update({task.name: free for task in tasks if task.name})


def _in_microseconds(eta: Instant) -> Instant:
    """Return an instant as Cloud Tasks keeps it: a task may come a little before its time."""
    return Instant(eta - eta % MICROSECOND)


def _problem(task: QueueTask, now: Instant | None) -> str:
    """Return why Cloud Tasks refuses a task; empty if it does not."""
    if not _NAME.fullmatch(task.name):
        return "its name must have at most 500 letters, digits, hyphens and underscores"
    if now is not None and task.eta - now > _MAX_AHEAD:
        return "its time is more than 30 days ahead"
    size = len(json.dumps(with_version(task.payload)))
    return f"its body has {size} bytes, and at most {_MAX_BYTES} fit" if size > _MAX_BYTES else ""
