"""The controller: collects the changes that a task manager makes to one invocation during one delivery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from luci_scheduler.core import log_lines
from luci_scheduler.core.debug_log import format_line
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.foreign_text import abridged
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import format_duration, quote
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.mutation_counter import MutationCounter
from luci_scheduler.core.queue_tasks import TimerTask
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.ports import Clock, Entropy, PutPoller, Queue, QueueTask

__all__ = ["CallCache", "Controller", "Hint", "offer", "timer_task"]

_MAX_SUMMARY = 1000
"""Characters of a summary: enough for the last lines of a program's output."""
_logger = structlog.stdlib.get_logger("luci_scheduler")


@frozen
class Hint:
    """An unproven statement of a notification: an external task has changed. Anybody may have made it."""

    kind: str
    """The kind of task that such notifications are about."""
    task_id: str
    """The ID of the external task."""
    sent: Instant = Instant(0)
    """When the notification was published."""


@dataclass(slots=True)
class CallCache:
    """The responses of external services during one delivery.

    The cache survives a lost race, after which the handler decides again without repeating its calls.
    """

    by_name: dict[str, Any] = field(default_factory=dict)


class Controller:
    """Collects the changes of one invocation: status, log lines, timers, triggers. The engine commits them.

    It is not thread-safe, and lives for one attempt at one delivery.
    """

    def __init__(self, invocation: Invocation, clock: Clock, entropy: Entropy, queue: Queue, calls: CallCache) -> None:
        self.invocation = invocation
        self.entropy = entropy
        self.clock = clock
        self._queue = queue
        self._calls = calls
        self._saves = MutationCounter(invocation.mutations)
        self._lines: list[str] = []
        self._last_line = invocation.last_line
        self._new_timers: list[Timer] = []
        self._emitted: list[Trigger] = []
        self._announced = 0
        self.poller: PutPoller | None = None
        """The record of a poll. The commit that ends the delivery writes it."""
        self._base = invocation
        self.hint: Hint | None = None
        """The statement of the notification that this delivery handles; None if the notification has a token."""
        self.announce_end = True
        """Whether the debug log gets a line about the end of the invocation."""

    @property
    def log_text(self) -> str:
        """The new log lines, which are not stored yet."""
        return "".join(self._lines)

    @property
    def mutations(self) -> int:
        """The value of the original's mutation counter after the saves counted so far."""
        return self._saves.known

    def log(self, text: str) -> Instant:
        """Add a line to the debug log and return its time stamp.

        The stamp is the current time, but never earlier than the last line's, even if that is of another delivery.
        """
        now = Instant(max(self.clock.now(), self._last_line))
        self._last_line = now
        self._lines.append(format_line(now, text))
        return now

    def call_once(self, name: str, call: Callable[[], Any]) -> Any:
        """Call an external service once per delivery. The response is remembered; an exception is not."""
        if name not in self._calls.by_name:
            self._calls.by_name[name] = call()
        return self._calls.by_name[name]

    def has_answer(self, name: str) -> bool:
        """Whether the call succeeded during this delivery. An error that was kept as a response does not count."""
        return self.has_called(name) and not isinstance(self._calls.by_name[name], Exception)

    def has_called(self, name: str) -> bool:
        """Whether the call has a response from this delivery, be it an error."""
        return name in self._calls.by_name

    def answer_to(self, name: str) -> Any:
        """Return the call's response from this delivery, which may be an error; None if there is none."""
        return self._calls.by_name.get(name)

    @property
    def may_exist(self) -> bool:
        """Whether the external task may exist, because an earlier attempt or this delivery may have requested it."""
        return self._base.attempts > 1 or self.has_called("launch")

    def count_save(self) -> None:
        """Count a save that the original makes here. The commit that ends the delivery includes it."""
        self._announce_triggers()
        self._saves.save(changed=True)

    def emit_trigger(self, trigger: Trigger) -> None:
        """Send a trigger to the jobs that this job triggers, after the commit that ends the delivery.

        Fills in the emitter. If ``created`` is 0, also fills in the current time and the trigger's place in the batch.
        """
        invocation = self.invocation
        trigger = replace(trigger, job_id=invocation.job_id, invocation_id=invocation.id)
        if not trigger.created:
            trigger = replace(trigger, created=self.clock.now(), order_in_batch=len(self._emitted))
        self.log(log_lines.EMITTING.format(trigger_id=trigger.id))
        self._emitted.append(trigger)

    def _announce_triggers(self) -> None:
        new, jobs = len(self._emitted) - self._announced, self.invocation.triggered_jobs
        self._announced = len(self._emitted)
        if not new or not jobs:
            return
        self.log(log_lines.DISPATCHING.format(count=new))
        for job_id in jobs:
            self.log(log_lines.DISPATCHED_TO.format(job_id=job_id))

    def set_status(self, status: Status) -> None:
        """Set the status of the invocation."""
        self.invocation = replace(self.invocation, status=status)

    def set_task(self, *, view_url: str, task_data: Mapping[str, Any]) -> None:
        """Store the address of the external task, and the data that its manager needs to find it."""
        self.invocation = replace(self.invocation, view_url=view_url, task_data=dict(task_data))

    def set_summary(self, text: str) -> None:
        """Keep why the invocation failed, or how the external task ended; an empty text forgets it."""
        self.invocation = replace(self.invocation, summary=abridged(text, _MAX_SUMMARY))

    def add_timer(self, delay: int, title: str, payload: Mapping[str, Any] | None = None) -> Timer:
        """Schedule a call of ``handle_timer`` after ``delay`` nanoseconds.

        The task is enqueued before this method returns, and takes effect after the commit that records the timer.
        If the queue refuses the task, the sweep finds the timer in the document and enqueues it again.
        """
        invocation, now = self.invocation, self.clock.now()
        identifier = self._saves.timer_id(invocation.job_id, invocation.id)
        timer = Timer(identifier, title, created=now, eta=Instant(now + delay), payload=dict(payload or {}))
        self._new_timers.append(timer)
        try:
            offer(self._queue, timer_task(invocation, timer))
        finally:
            delay_text = format_duration(delay)
            self.log(log_lines.SCHEDULING_TIMER.format(title=quote(title), timer_id=identifier, delay=delay_text))
        return timer

    def consume(self, timer: Timer) -> None:
        """Remove a pending timer from the invocation."""
        left = tuple(pending for pending in self.invocation.pending_timers if pending.id != timer.id)
        self.invocation = replace(self.invocation, pending_timers=left)

    def result(self) -> Invocation:
        """Return the invocation for the commit that ends the delivery, and count the closing save.

        A final status also sets the end time, logs the end, and drops the timers that this delivery added.
        """
        self._announce_triggers()
        if self.invocation.status.is_final and not self._base.status.is_final:
            self._finish()
        changed = self.invocation != self._base or bool(self._lines or self._new_timers or self._emitted)
        self._saves.save(changed=changed)
        timers = () if self.invocation.status.is_final else (*self.invocation.pending_timers, *self._new_timers)
        return replace(
            self.invocation,
            # A handler that gets here owns the invocation, so no launch is in progress any more.
            claim_until=None,
            pending_timers=timers,
            mutations=self._saves.known,
            last_line=self._last_line,
            outgoing_triggers=(*self.invocation.outgoing_triggers, *self._emitted),
        )

    def _finish(self) -> None:
        now = self.clock.now()
        duration = format_duration(now - self.invocation.started)
        self.invocation = replace(self.invocation, finished=now)
        if self.announce_end:
            self.log(log_lines.FINISHED.format(duration=duration, status=self.invocation.status))
        for timer in self._new_timers:
            self.log(log_lines.IGNORING_TIMER.format(title=quote(timer.title), timer_id=timer.id))


def offer(queue: Queue, task: QueueTask) -> None:
    """Enqueue a task whose document has, or is about to get, a matching ``next_due``.

    If the queue refuses the task, nothing is raised: the sweep finds the overdue document and runs the task.
    """
    try:
        queue.enqueue(task)
    except TransientError as error:
        _logger.warning("task_left_to_sweep", task=task.kind, error=str(error))


def timer_task(invocation: Invocation, timer: Timer) -> QueueTask:
    """Return the task that delivers a timer. The sweep creates the same task again if the queue lost it."""
    return QueueTask.of(TimerTask(invocation.job_id, invocation.id, timer.id, timer.created), timer.eta)
