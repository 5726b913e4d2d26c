"""Cloud Tasks in a world: at least once, in no order, late, a little early, purged or paused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions

from emulator.storm.choices import Choices
from emulator.storm.faults import Fault, Kind
from emulator.storm.kernel import Kernel
from emulator.storm.outside import Outside
from luci_scheduler.core.instants import MILLISECOND, SECOND, Instant, truncate_to_microseconds

__all__ = ["HeldTask", "QueueClient", "TaskQueue"]


@dataclass(slots=True)
class HeldTask:
    """A task on the queue."""

    name: str
    kind: str
    headers: Mapping[str, str]
    body: bytes
    due: Instant
    attempt: int = 0


class TaskQueue:
    """The queue.

    Args:
        kernel: the clock.
        choices: decide the fate of each task.
        deliver: calls a function with a task.
    """

    def __init__(self, kernel: Kernel, choices: Choices, deliver: Callable[[HeldTask], None]) -> None:
        self._kernel = kernel
        self._choices = choices
        self._deliver = deliver
        self._names: set[str] = set()
        self._numbers = itertools.count(1)
        self.tasks: dict[str, HeldTask] = {}
        """The tasks that are on the queue, also while they are delivered."""
        self.coming = 0
        """Deliveries to come, those of purged tasks and of copies included."""
        self.paused_until = Instant(0)

    def add(self, name: str, kind: str, headers: Mapping[str, str], body: bytes, due: Instant) -> None:
        """Put a task on the queue.

        Raises:
            AlreadyExists: the name was used before.
        """
        if name and name in self._names:
            raise _error(exceptions.AlreadyExists, "the task existed")
        self._names |= {name} - {""}
        name = name or f"{next(self._numbers)}"
        task = HeldTask(name, kind, headers, body, due)
        fault = self._choices.fault(f"platform/task {kind}")
        if fault is not None and fault.kind is Kind.TASK_LOST:
            return
        self.tasks[name] = task
        self._schedule(task, self._due(task, fault))
        if fault is not None and fault.kind is Kind.TASK_DOUBLED:
            self._schedule(task, Instant(due + fault.amount * MILLISECOND), is_copy=True)

    def purge(self) -> None:
        """Lose all tasks."""
        self.tasks.clear()

    def done(self, task: HeldTask) -> None:
        """Forget a task that was delivered."""
        if self.tasks.get(task.name) is task:
            del self.tasks[task.name]

    def again(self, task: HeldTask, pause: int) -> None:
        """Deliver a task once more, after a pause."""
        task.attempt += 1
        self._schedule(task, Instant(self._kernel.now() + pause))

    def _due(self, task: HeldTask, fault: Fault | None) -> Instant:
        now = self._kernel.now()
        match fault.kind if fault else None:
            case Kind.TASK_EARLY if fault:
                return Instant(max(now, task.due - fault.amount * MILLISECOND))
            case Kind.TASK_LATE if fault:
                return Instant(max(now, task.due) + fault.amount * MILLISECOND)
        return task.due

    def _schedule(self, task: HeldTask, due: Instant, *, is_copy: bool = False) -> None:
        self.coming += 1
        self._kernel.at(due, lambda: self._come(task, is_copy=is_copy))

    def _come(self, task: HeldTask, *, is_copy: bool) -> None:
        self.coming -= 1
        if self.tasks.get(task.name) is not task and not is_copy:
            return  # purged
        if self.paused_until > self._kernel.now():
            self._schedule(task, self.paused_until, is_copy=is_copy)
            return
        self._deliver(task)


class QueueClient:
    """The part of the client of Cloud Tasks that the real adapter uses."""

    def __init__(self, queue: TaskQueue, outside: Outside) -> None:
        self._queue = queue
        self._outside = outside

    def create_task(self, *, parent: str, task: Any, retry: object, timeout: float) -> None:  # noqa: ARG002
        """Put a task on the queue.

        Raises:
            GoogleAPICallError: the queue refuses it, or does not answer.
        """
        task = type(task).pb(task)  # the plain message is faster to read
        request = task.http_request
        kind = request.url.rpartition("/")[2]
        with self._outside.call(f"queue.enqueue {kind}") as calling:
            if calling.has(Kind.ENQUEUE_REFUSED) or self._outside.outages.is_down("queue", self._outside.kernel.now()):
                raise _error(exceptions.ServiceUnavailable, "the queue is unavailable")
            if calling.has(Kind.ENQUEUE_HANG):
                self._outside.sleep(round(timeout * SECOND))
                raise _error(exceptions.DeadlineExceeded, "deadline exceeded")
            due = truncate_to_microseconds(Instant(task.schedule_time.ToNanoseconds()))
            name = task.name.rpartition("/")[2]
            self._queue.add(name, kind, dict(request.headers), request.body, due)
            fault = self._outside.landed(calling)
            if fault is not None and fault.kind is Kind.ENQUEUE_ANSWER_LOST:
                raise _error(exceptions.ServiceUnavailable, "connection reset")
            if fault is not None and fault.kind is Kind.ENQUEUE_SLOW:
                self._outside.sleep(fault.amount * MILLISECOND)


def _error(kind: type[exceptions.GoogleAPICallError], text: str) -> exceptions.GoogleAPICallError:
    return kind(text)
