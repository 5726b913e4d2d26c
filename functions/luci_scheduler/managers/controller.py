"""The controller: one invocation during one delivery, and what its task manager does to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from luci_scheduler.core import log_lines
from luci_scheduler.core.debug_log import format_line
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.go_text import format_duration, quote
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.mutation_counter import MutationCounter
from luci_scheduler.core.queue_tasks import TimerTask
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.ports import Clock, Entropy, PutPoller, Queue, QueueTask

__all__ = ["CallCache", "Controller", "offer", "timer_task"]

_logger = structlog.stdlib.get_logger("luci_scheduler")


@dataclass(slots=True)
class CallCache:
    """What the outside world answered during one delivery; survives a lost race, after which all is decided again."""

    by_name: dict[str, Any] = field(default_factory=dict)


class Controller:
    """Collects the changes of one invocation: status, log lines, timers. The engine commits them.

    Not thread-safe; lives for one attempt at one delivery.
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
        """What a gitiles job has learnt of its repository; written in the commit that ends the delivery."""
        self._base = invocation
        self.announce_end = True
        """Whether the end of the invocation gets its line in the debug log."""

    @property
    def log_text(self) -> str:
        """The lines that were logged and are not stored yet."""
        return "".join(self._lines)

    @property
    def mutations(self) -> int:
        """What the original's mutation counter would be after the saves counted so far."""
        return self._saves.known

    def log(self, text: str) -> Instant:
        """Add a line to the debug log, stamped with the present; return the stamp. Stamps never go back, from one delivery to the next."""
        now = Instant(max(self.clock.now(), self._last_line))
        self._last_line = now
        self._lines.append(format_line(now, text))
        return now

    def call_once(self, question: str, call: Callable[[], Any]) -> Any:
        """Ask the outside world once per delivery: the answer is remembered, a raised error is not."""
        if question not in self._calls.by_name:
            self._calls.by_name[question] = call()
        return self._calls.by_name[question]

    def has_answer(self, question: str) -> bool:
        """Whether the outside world has answered the question during this delivery; an error that was kept is no answer."""
        return self.has_called(question) and not isinstance(self._calls.by_name[question], Exception)

    def has_called(self, question: str) -> bool:
        """Whether the question has an answer, or an error that was kept as one, from this delivery."""
        return question in self._calls.by_name

    def answer_to(self, question: str) -> Any:
        """Return the answer that the question got in this delivery, or the error that was kept as one; None if it got none."""
        return self._calls.by_name.get(question)

    @property
    def may_exist(self) -> bool:
        """Whether the external task may exist: an earlier attempt, or this delivery, may have requested it."""
        return self._base.attempts > 1 or self.has_called("launch")

    def count_save(self) -> None:
        """Count a save that the original makes here; it is carried by the commit that ends the delivery."""
        self._announce_triggers()
        self._saves.save(changed=True)

    def emit_trigger(self, trigger: Trigger) -> None:
        """Send a trigger to the jobs that this one triggers, once the commit that ends the delivery has landed.

        The emitter is filled in, and where ``created`` is 0 the present and the place among what was emitted so far.
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
        """Move the invocation to ``status``."""
        self.invocation = replace(self.invocation, status=status)

    def set_task(self, *, view_url: str, task_data: Mapping[str, Any]) -> None:
        """Keep what leads to the external task."""
        self.invocation = replace(self.invocation, view_url=view_url, task_data=dict(task_data))

    def add_timer(self, delay: int, title: str, payload: Mapping[str, Any] | None = None) -> Timer:
        """Arrange for ``handle_timer`` to be called after ``delay`` nanoseconds.

        The task is on the queue when this returns; it counts once the commit that records the timer has landed. Where the
        queue does not take it, the document holds the timer all the same, and the sweep sees to it.
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
        """Take a pending timer off the invocation."""
        left = tuple(pending for pending in self.invocation.pending_timers if pending.id != timer.id)
        self.invocation = replace(self.invocation, pending_timers=left)

    def result(self) -> Invocation:
        """Return the invocation as the commit that ends the delivery shall write it, the closing save counted.

        A final status stamps the end, writes the line about it, and drops timers that were added in the same breath.
        """
        self._announce_triggers()
        if self.invocation.status.is_final and not self._base.status.is_final:
            self._finish()
        changed = self.invocation != self._base or bool(self._lines or self._new_timers or self._emitted)
        self._saves.save(changed=changed)
        # A handler that got here holds the invocation: its launch is over, successful or not.
        self.invocation = replace(self.invocation, claim_until=None)
        timers = () if self.invocation.status.is_final else (*self.invocation.pending_timers, *self._new_timers)
        return replace(
            self.invocation,
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
    """Put a task on the queue for which a document has, or is about to get, its ``next_due``.

    Where the queue refuses it, nothing is raised: the sweep finds the document overdue and carries the task out.
    """
    try:
        queue.enqueue(task)
    except TransientError as error:
        _logger.warning("task_left_to_sweep", task=task.kind, error=str(error))


def timer_task(invocation: Invocation, timer: Timer) -> QueueTask:
    """Return the task that delivers a timer. The sweep makes the same task again if the queue has lost it."""
    return QueueTask.of(TimerTask(invocation.job_id, invocation.id, timer.id, timer.created), timer.eta)
