"""One queue as a state machine: due tasks, rate and concurrency limits, and the effect of results.

The module uses no threads and no sockets. Callers pass the current instant as ``now``, receive an attempt, and return
its result.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from emulator.cloud_tasks.errors import AlreadyExistsError, NotFoundError
from emulator.cloud_tasks.limits import MAX_TASK_AGE
from emulator.cloud_tasks.model import AttemptRecord, DeliveryResult, QueueState, RateLimits, RetryConfig, Task
from emulator.cloud_tasks.rate import RateBucket
from luci_scheduler.core.instants import HOUR, MICROSECOND, MILLISECOND, SECOND

__all__ = ["Attempt", "Outcome", "Queue"]

_THROTTLING = frozenset({429, 503})
_FIRST_HOLD = 100 * MILLISECOND
_LONGEST_HOLD = 10 * SECOND
# A target may request any wait, but a queue held for longer would look broken on a laptop.
_LONGEST_RETRY_AFTER = HOUR


class Outcome(enum.Enum):
    """The effect of an ended attempt on its task."""

    SUCCEEDED = "succeeded"
    RETRY = "retry"
    GIVEN_UP = "given up"
    GONE = "gone"
    """Meanwhile the task was deleted, purged, or finished by another attempt."""


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """A running delivery with its data as of its start. Pass it to `Queue.finish` once."""

    queue: Queue
    task: Task
    record: AttemptRecord
    retry_count: int
    execution_count: int
    previous: DeliveryResult | None
    forced_at: int | None


class Queue:
    """A queue and its tasks. Not thread-safe: the owner holds a lock."""

    def __init__(self, name: str, rate_limits: RateLimits, retry_config: RetryConfig, task_tombstone: int) -> None:
        self.name = name
        self.rate_limits = rate_limits
        self.retry_config = retry_config
        self.state = QueueState.RUNNING
        self.purge_time: int | None = None
        self.running = 0
        self._task_tombstone = task_tombstone
        self._tasks: dict[str, Task] = {}
        self._tombstones: OrderedDict[str, int] = OrderedDict()
        self._agenda: list[tuple[int, int, Task]] = []
        # Exactly the tasks whose forced_at is set.
        self._forced: deque[Task] = deque()
        self._entries = itertools.count(1)
        self._bucket = RateBucket(rate_limits)
        self._held_until = 0
        self._throttlings = 0

    # Tasks ----------------------------------------------------------------------------------------------------------

    def add(self, task: Task, now: int) -> None:
        """Put a task on the queue.

        Raises:
            AlreadyExistsError: the task's name is in use, or reserved by a tombstone.
        """
        self._expire(now)
        if task.name in self._tasks:
            raise AlreadyExistsError(f"task.name: {task.name!r} is on the queue already")
        if task.name in self._tombstones:
            raise AlreadyExistsError(f"task.name: a task {task.name!r} existed too recently; its name is not free yet")
        self._tasks[task.name] = task
        self._put_on_agenda(task)

    def get(self, name: str, now: int) -> Task:
        """Return a task by its full name.

        Raises:
            NotFoundError: the task does not exist, or no longer exists.
        """
        self._expire(now)
        task = self._tasks.get(name)
        if task is None:
            past = " any more: it was executed or deleted" if name in self._tombstones else ""
            raise NotFoundError(f"name: there is no task {name!r}{past}")
        return task

    def delete(self, name: str, now: int) -> None:
        """Delete a task. A running attempt continues, but its result is ignored.

        Raises:
            NotFoundError: the task does not exist, or no longer exists.
        """
        self._remove(self.get(name, now), now)

    def purge(self, now: int) -> None:
        """Delete all tasks."""
        self.purge_time = now
        for task in list(self._tasks.values()):
            self._remove(task, now)

    def page(self, after: str, size: int, now: int) -> list[Task]:
        """Return up to ``size`` tasks whose names sort after ``after``, ordered by name."""
        self._expire(now)
        return heapq.nsmallest(size, (t for t in self._tasks.values() if t.name > after), key=lambda task: task.name)

    def force(self, name: str, now: int) -> Task:
        """Dispatch a task next, even if it runs already, regardless of its time and of the queue's state and rate.

        Raises:
            NotFoundError: the task does not exist, or no longer exists.
        """
        task = self.get(name, now)
        if task.forced_at is None:
            task.forced_at = now
            self._forced.append(task)
        return task

    # Settings -------------------------------------------------------------------------------------------------------

    def update(self, rate_limits: RateLimits, retry_config: RetryConfig, now: int) -> None:
        """Change the settings. Tasks that wait for a retry keep their time."""
        self.rate_limits = rate_limits
        self.retry_config = retry_config
        self._bucket.update(rate_limits, now)

    # Dispatching ----------------------------------------------------------------------------------------------------

    def due(self, now: int) -> Iterator[Task]:
        """Yield the due tasks, forced tasks first, then by time, regardless of rate and concurrency."""
        self._expire(now)
        yield from self._forced
        if self.state is QueueState.RUNNING and now >= self._held_until:
            entries = sorted(entry for entry in self._agenda if entry[0] <= now and self._is_current(entry))
            yield from (task for _, _, task in entries if task.forced_at is None)

    def waiting(self) -> list[Task]:
        """Return all tasks without a running attempt, ordered by schedule time and then by creation."""
        return sorted((t for t in self._tasks.values() if not t.in_flight), key=lambda task: task.schedule_time)

    def next_due(self) -> int | None:
        """Return the instant at which the first task is or was due; None if no task will be due by itself."""
        if self._forced:
            return self._forced[0].forced_at
        head = self._head()
        if head is None or self.state is not QueueState.RUNNING:
            return None
        return max(head.schedule_time, self._held_until)

    def next_ready(self) -> int | None:
        """Return the earliest instant at which `take` may succeed; None if another event must happen first."""
        if self._forced:
            return 0
        due = self.next_due()
        if due is None or self.running >= self.rate_limits.max_concurrent_dispatches:
            return None
        return max(due, self._bucket.ready_at())

    def take(self, now: int) -> Attempt | None:
        """Begin the next attempt; None if no task may be dispatched at ``now``."""
        self._expire(now)
        if self._forced:
            return self._begin(self._forced.popleft(), now)
        if (
            self.state is not QueueState.RUNNING
            or now < self._held_until
            or self.running >= self.rate_limits.max_concurrent_dispatches
        ):
            return None
        head = self._head()
        if head is None or head.schedule_time > now or not self._bucket.take(now):
            return None
        return self._begin(head, now)

    def begin(self, name: str, now: int) -> Attempt:
        """Begin an attempt of a given task, regardless of its time and of the queue's state and limits.

        Raises:
            NotFoundError: the task does not exist, or no longer exists.
        """
        task = self.get(name, now)
        if task.forced_at is not None:
            self._forced.remove(task)
        return self._begin(task, now)

    def finish(self, attempt: Attempt, result: DeliveryResult, now: int) -> Outcome:
        """Record the result of an attempt: the task is done, waits for its retry, or is dropped."""
        task = attempt.task
        self.running -= 1
        task.in_flight -= 1
        attempt.record.response_time = now
        attempt.record.result = result
        self._throttle(result, now)
        if self._tasks.get(task.name) is not task:
            return Outcome.GONE
        if result.responded:
            task.response_count += 1
            # The execution count excludes 5xx, as documented for X-CloudTasks-TaskExecutionCount.
            task.execution_count += result.status < 500  # noqa: PLR2004 - where HTTP's server errors begin
        if result.is_success:
            self._remove(task, now)
            return Outcome.SUCCEEDED
        if task.in_flight:
            return Outcome.RETRY
        config = task.retry_config or self.retry_config
        first = task.first_attempt or attempt.record
        if config.is_exhausted(task.dispatch_count, now - first.dispatch_time):
            self._remove(task, now)
            return Outcome.GIVEN_UP
        wait = max(config.backoff(task.dispatch_count), min(result.retry_after or 0, _LONGEST_RETRY_AFTER))
        since = now if attempt.forced_at is None else attempt.forced_at
        retry_at = max(now, since + wait)
        task.schedule_time = retry_at - retry_at % MICROSECOND
        self._put_on_agenda(task)
        return Outcome.RETRY

    # Inside ---------------------------------------------------------------------------------------------------------

    def _begin(self, task: Task, now: int) -> Attempt:
        previous = task.last_attempt.result if task.last_attempt else None
        record = AttemptRecord(schedule_time=task.schedule_time, dispatch_time=now)
        attempt = Attempt(self, task, record, task.dispatch_count, task.execution_count, previous, task.forced_at)
        task.forced_at = None
        task.agenda_entry = 0
        task.dispatch_count += 1
        task.in_flight += 1
        task.last_attempt = record
        task.first_attempt = task.first_attempt or record
        self.running += 1
        return attempt

    def _throttle(self, result: DeliveryResult, now: int) -> None:
        """Hold the whole queue after 429 and 503, longer after each consecutive one; other results reset the hold."""
        if result.status not in _THROTTLING:
            self._throttlings = 0
            return
        hold = min(_LONGEST_HOLD, _FIRST_HOLD << min(self._throttlings, 16))
        if result.retry_after is not None:
            hold = min(result.retry_after, _LONGEST_RETRY_AFTER)
        self._throttlings += 1
        self._held_until = max(self._held_until, now + hold)

    def _put_on_agenda(self, task: Task) -> None:
        task.agenda_entry = next(self._entries)
        heapq.heappush(self._agenda, (task.schedule_time, task.agenda_entry, task))
        # Stale entries are dropped when their time comes. Do not let entries of distant times accumulate until then.
        if len(self._agenda) > 2 * len(self._tasks) + 64:
            self._agenda = [entry for entry in self._agenda if self._is_current(entry)]
            heapq.heapify(self._agenda)

    def _is_current(self, entry: tuple[int, int, Task]) -> bool:
        return entry[2].agenda_entry == entry[1]

    def _head(self) -> Task | None:
        while self._agenda and not self._is_current(self._agenda[0]):
            heapq.heappop(self._agenda)
        return self._agenda[0][2] if self._agenda else None

    def _remove(self, task: Task, now: int) -> None:
        del self._tasks[task.name]
        task.agenda_entry = 0
        if task.forced_at is not None:
            task.forced_at = None
            self._forced.remove(task)
        if task.is_named and self._task_tombstone > 0:
            self._tombstones[task.name] = now + self._task_tombstone

    def _expire(self, now: int) -> None:
        """Release expired names, and delete tasks that are too old. Both collections are ordered oldest first."""
        while self._tombstones and next(iter(self._tombstones.values())) <= now:
            self._tombstones.popitem(last=False)
        while self._tasks:
            oldest = next(iter(self._tasks.values()))
            if now - oldest.create_time < MAX_TASK_AGE:
                break
            self._remove(oldest, now)
