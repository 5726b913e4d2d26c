"""The clients of a deployment are made with their first use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from emulator.memory.queue import MemoryQueue
from luci_scheduler.adapters.late import late
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.queue_tasks import SyncTask
from luci_scheduler.ports import QueueTask


def test_many_threads_make_one_object() -> None:
    """Nothing is made before the first use, and all threads reach the same object."""
    made: list[MemoryQueue] = []

    def make() -> MemoryQueue:
        made.append(MemoryQueue())
        return made[-1]

    queue = late(make)
    assert made == []
    task = QueueTask.of(SyncTask(), Instant(1))
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(queue.enqueue, task) for _ in range(40)]:
            future.result()
    (only,) = made
    assert len(only.tasks) == 40
    assert queue.tasks == only.tasks


def test_an_error_is_not_kept() -> None:
    """After an error the next use makes the object again."""
    answers = iter([OSError("no credentials yet"), str.upper])

    def make() -> object:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    function = late(make)
    with pytest.raises(OSError, match="no credentials yet"):
        function("a")  # type: ignore[operator]
    assert function("a") == "A"  # type: ignore[operator]
