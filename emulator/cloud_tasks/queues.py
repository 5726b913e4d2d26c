"""All queues of the server: their names, tombstones and turns. Free of threads and sockets, like `queue`."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from emulator.cloud_tasks.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from emulator.cloud_tasks.limits import DEFAULT_DISPATCH_DEADLINE, MAX_SCHEDULE_AHEAD, Limits
from emulator.cloud_tasks.model import DeliveryResult, HttpRequest, QueueState, RateLimits, RetryConfig, Task
from emulator.cloud_tasks.names import queue_of
from emulator.cloud_tasks.queue import Attempt, Outcome, Queue
from luci_scheduler.core.instants import MICROSECOND

__all__ = ["NewTask", "Queues", "Stats"]

# Task numbers look random, like the service's, and are the same in every run: an odd factor permutes the 63-bit
# numbers.
_TASK_NUMBER_FACTOR = 0x1E37_79B9_7F4A_7C15
_TASK_NUMBERS = 1 << 63
# Attempts are counted for this many of the latest tasks, because a server may run for weeks.
_TASKS_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create. With an empty ``name`` the server chooses the name; a ``schedule_time`` of None means now."""

    request: HttpRequest
    name: str = ""
    schedule_time: int | None = None
    dispatch_deadline: int = DEFAULT_DISPATCH_DEADLINE
    retry_config: RetryConfig | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the server's start or its last reset.

    Attributes:
        created: The number of accepted tasks.
        refused_duplicates: The number of tasks refused because of a used name.
        attempts: The number of ended deliveries.
        outcomes: The number of ended deliveries by the value of their `Outcome`.
        attempts_by_task: The number of begun deliveries by full task name, for the latest 100,000 tasks.
    """

    created: int
    refused_duplicates: int
    attempts: int
    outcomes: dict[str, int]
    attempts_by_task: dict[str, int]


class Queues:
    """The server's whole state. Not thread-safe: the owner holds a lock.

    A method that refuses raises a `TasksError` and changes nothing.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._queues: dict[str, Queue] = {}
        self._tombstones: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._turn = 0
        self._created = 0
        self._refused_duplicates = 0
        self._outcomes: Counter[str] = Counter()
        self._attempts_by_task: OrderedDict[str, int] = OrderedDict()

    # Queues ---------------------------------------------------------------------------------------------------------

    def create_queue(self, name: str, rate_limits: RateLimits, retry_config: RetryConfig, now: int) -> Queue:
        """Create a queue; its name must be neither in use nor reserved by a tombstone."""
        if name in self._queues:
            raise AlreadyExistsError(f"queue.name: a queue {name!r} exists already")
        if self._tombstones.get(name, now) > now:
            raise FailedPreconditionError(
                f"queue.name: a queue {name!r} existed too recently; its name is not free yet"
            )
        self._tombstones.pop(name, None)
        queue = Queue(name, rate_limits, retry_config, self.limits.task_tombstone)
        self._queues[name] = queue
        return queue

    def get_queue(self, name: str) -> Queue:
        """Return a queue by its full name."""
        queue = self._queues.get(name)
        if queue is None:
            raise NotFoundError(f"there is no queue {name!r}")
        return queue

    def delete_queue(self, name: str, now: int) -> None:
        """Delete a queue and its tasks."""
        self.get_queue(name).purge(now)
        del self._queues[name]
        if self.limits.queue_tombstone > 0:
            self._tombstones[name] = now + self.limits.queue_tombstone

    def set_state(self, name: str, state: QueueState) -> Queue:
        """Pause or resume a queue; idempotent."""
        queue = self.get_queue(name)
        queue.state = state
        return queue

    def page(self, parent: str, after: str, size: int) -> list[Queue]:
        """Return up to ``size`` queues of the location ``parent`` whose names sort after ``after``, ordered by name."""
        prefix = f"{parent}/queues/"
        names = (name for name in self._queues if name.startswith(prefix) and name > after)
        return [self._queues[name] for name in heapq.nsmallest(size, names)]

    # Tasks ----------------------------------------------------------------------------------------------------------

    def create_task(self, queue_name: str, new: NewTask, now: int) -> Task:
        """Put a task on a queue. A schedule time in the past means now; a time too far ahead is refused."""
        queue = self.get_queue(queue_name)
        if new.name and queue_of(new.name) != queue_name:
            raise InvalidArgumentError(f"task.name: {new.name!r} is not of the queue in parent, {queue_name!r}")
        scheduled = now if new.schedule_time is None else max(now, new.schedule_time)
        if scheduled - now > MAX_SCHEDULE_AHEAD:
            raise InvalidArgumentError("task.schedule_time: more than 720h ahead")
        scheduled -= scheduled % MICROSECOND
        task = Task(
            name=new.name or f"{queue_name}/tasks/{next(self._numbers) * _TASK_NUMBER_FACTOR % _TASK_NUMBERS}",
            request=new.request,
            eta=scheduled,
            schedule_time=scheduled,
            create_time=now,
            dispatch_deadline=new.dispatch_deadline,
            retry_config=new.retry_config,
            is_named=bool(new.name),
        )
        try:
            queue.add(task, now)
        except AlreadyExistsError:
            self._refused_duplicates += 1
            raise
        self._created += 1
        return task

    # Dispatching ----------------------------------------------------------------------------------------------------

    def take(self, now: int) -> Attempt | None:
        """Begin the next attempt, taking the queues in turn; None if no task may be dispatched at ``now``."""
        queues = list(self._queues.values())
        for step in range(len(queues)):
            attempt = queues[(self._turn + step) % len(queues)].take(now)
            if attempt is not None:
                self._turn = (self._turn + step + 1) % len(queues)
                return self._count(attempt)
        return None

    def begin(self, task_name: str, now: int) -> Attempt:
        """Begin an attempt of a given task, regardless of its time and of its queue's state and limits."""
        return self._count(self.get_queue(queue_of(task_name)).begin(task_name, now))

    def finish(self, attempt: Attempt, result: DeliveryResult, now: int) -> Outcome:
        """Record the result of an attempt that `take` or `begin` returned."""
        outcome = attempt.queue.finish(attempt, result, now)
        self._outcomes[outcome.value] += 1
        return outcome

    def due(self, now: int) -> list[Task]:
        """Return the due tasks of running queues and the forced tasks, ordered by schedule time."""
        tasks = (task for queue in self._queues.values() for task in queue.due(now))
        return sorted(tasks, key=lambda task: task.schedule_time)

    def waiting(self) -> list[Task]:
        """Return the tasks of all queues without a running attempt, ordered by schedule time."""
        tasks = (task for queue in self._queues.values() for task in queue.waiting())
        return sorted(tasks, key=lambda task: task.schedule_time)

    def next_due(self) -> int | None:
        """Return when the first task is or was due; None if no running queue has a task."""
        return self._earliest(Queue.next_due)

    def next_ready(self) -> int | None:
        """Return the earliest instant at which `take` may succeed; None if another event must happen first."""
        return self._earliest(Queue.next_ready)

    def stats(self) -> Stats:
        """Return the counts."""
        return Stats(
            created=self._created,
            refused_duplicates=self._refused_duplicates,
            attempts=self._outcomes.total(),
            outcomes=dict(self._outcomes),
            attempts_by_task=dict(self._attempts_by_task),
        )

    # Inside ---------------------------------------------------------------------------------------------------------

    def _earliest(self, instant_of: Callable[[Queue], int | None]) -> int | None:
        return min((i for i in map(instant_of, self._queues.values()) if i is not None), default=None)

    def _count(self, attempt: Attempt) -> Attempt:
        name = attempt.task.name
        self._attempts_by_task[name] = self._attempts_by_task.get(name, 0) + 1
        if len(self._attempts_by_task) > _TASKS_COUNTED:
            self._attempts_by_task.popitem(last=False)
        return attempt
