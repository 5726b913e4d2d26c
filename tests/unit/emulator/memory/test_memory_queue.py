"""The task queue and the entropy in memory."""

from __future__ import annotations

import pytest

from emulator.clock import SteppedClock
from emulator.memory.queue import MemoryQueue
from emulator.memory.system import SeededEntropy
from emulator.memory.topic import MemoryTopic
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.instants import DAY, HOUR, SECOND, Instant
from luci_scheduler.ports import QueueTask


def _task(seconds: int, name: str = "", kind: str = "timer") -> QueueTask:
    return QueueTask(kind, {}, Instant(seconds * SECOND), name=name)


def test_due_tasks_are_taken_earliest_first() -> None:
    """The others stay."""
    queue = MemoryQueue()
    for seconds in (5, 1, 9, 3):
        queue.enqueue(_task(seconds))
    assert [task.eta // SECOND for task in queue.take_due(Instant(5 * SECOND))] == [1, 3, 5]
    assert [task.eta // SECOND for task in queue.tasks] == [9]
    assert queue.next_due() == 9 * SECOND


def test_a_name_is_accepted_once() -> None:
    """A name is accepted once, even after its task was taken. Tasks without a name are all accepted."""
    queue = MemoryQueue()
    queue.enqueue(_task(1, "n"))
    queue.enqueue(_task(2, "n"))
    assert len(queue.take_due(Instant(10 * SECOND))) == 1
    queue.enqueue(_task(3, "n"))
    queue.enqueue(_task(4))
    queue.enqueue(_task(4))
    assert [task.eta // SECOND for task in queue.tasks] == [4, 4]


def test_tasks_can_be_lost_and_removed() -> None:
    """An empty queue has no due time, and removing a missing task is an error."""
    queue, task = MemoryQueue(), _task(1)
    queue.enqueue(task)
    queue.remove(task)
    with pytest.raises(ValueError, match="not in list"):
        queue.remove(task)
    queue.enqueue(task)
    queue.purge()
    assert queue.tasks == []
    assert queue.next_due() is None


def test_with_a_clock_a_name_is_free_an_hour_after_its_task() -> None:
    """Until then a second task is dropped. A late time means now."""
    clock = SteppedClock(10 * SECOND)
    queue = MemoryQueue(clock)
    queue.enqueue(_task(1, "n"))
    assert [task.eta // SECOND for task in queue.take_due(clock.now())] == [10]
    clock.advance(HOUR - 1)
    queue.enqueue(_task(1, "n"))
    assert queue.tasks == []
    clock.advance(1)
    queue.enqueue(_task(1, "n"))
    assert len(queue.tasks) == 1


def test_a_task_that_cloud_tasks_refuses_is_refused() -> None:
    """The error is transient, as that of the adapter. The time of an accepted task has microseconds."""
    queue = MemoryQueue(SteppedClock(0))
    bad_name, late = _task(1, "a/b"), QueueTask("timer", {}, Instant(31 * DAY))
    large = QueueTask("timer", {"x": "x" * 110_000}, Instant(0))
    for task, why in ((bad_name, "letters, digits"), (late, "30 days"), (large, "110017 bytes")):
        with pytest.raises(TransientError, match=why):
            queue.enqueue(task)
    queue.enqueue(QueueTask("timer", {}, Instant(5_999)))
    assert [task.eta for task in queue.tasks] == [5_000]


def test_a_message_that_pubsub_refuses_is_refused() -> None:
    """Empty messages, and attributes beyond the documented limits."""
    topic = MemoryTopic()
    for attributes in ({}, {"k": "v" * 1025}, {"k" * 257: ""}, {str(number): "" for number in range(101)}):
        with pytest.raises(PermanentError, match="refuses the message"):
            topic.publish(attributes, b"")
    topic.publish({"k": "é" * 512}, b'{"a": 1}')
    assert topic.messages == [({"k": "é" * 512}, {"a": 1})]


def test_the_same_seed_draws_the_same_numbers() -> None:
    """Another seed draws others."""

    def draws(seed: int) -> list[int]:
        entropy = SeededEntropy(seed)
        return [entropy.invocation_suffix(), entropy.nonce(), entropy.check_delay_seconds(60, 600)]

    assert draws(1) == draws(1) != draws(2)


def test_draws_are_in_their_ranges() -> None:
    """Suffixes have 16 bits and do not repeat soon; nonces have 63 bits; delays exclude the upper end."""
    entropy = SeededEntropy()
    suffixes = [entropy.invocation_suffix() for _ in range(1000)]
    assert len(set(suffixes)) == 1000
    assert all(0 <= suffix < 1 << 16 for suffix in suffixes)
    assert all(1 <= entropy.nonce() < 1 << 63 for _ in range(100))
    assert {entropy.check_delay_seconds(3, 5) for _ in range(100)} == {3, 4}
