"""The queue of a deployment is made with the first task."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from emulator.memory.queue import MemoryQueue
from luci_scheduler.adapters.late_queue import LateQueue
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.queue_tasks import SyncTask
from luci_scheduler.ports import QueueTask


def test_many_threads_make_one_queue() -> None:
    """Nothing is made before the first task, and all tasks reach the same queue."""
    made: list[MemoryQueue] = []

    def make() -> MemoryQueue:
        made.append(MemoryQueue())
        return made[-1]

    late = LateQueue(make)
    assert made == []
    task = QueueTask.of(SyncTask(), Instant(1))
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(late.enqueue, task) for _ in range(40)]:
            future.result()
    (queue,) = made
    assert late.queue is queue
    assert len(queue.tasks) == 40
