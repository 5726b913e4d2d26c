"""Sequences for the queue: names, reserved names, times, sizes, deliveries and purges."""

from __future__ import annotations

import json
import random
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emulator.clock import SteppedClock
from emulator.cloud_tasks.server import CloudTasksServer
from emulator.memory.queue import MemoryQueue
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue
from luci_scheduler.core.instants import DAY, HOUR, MINUTE, SECOND, Instant, parse_rfc3339
from luci_scheduler.ports import Queue, QueueTask
from tests.contract.sequences.harness import Operation, Side

__all__ = ["QUEUE", "START", "draw", "queue_sides"]

QUEUE = "projects/p/locations/l/queues/q"
START = parse_rfc3339("2026-03-01T12:00:00Z")
_TIMEOUT = 60.0  # seconds; a busy machine takes long
_NAMES = ("", "", "a", "b", "B", "triage-1_2", "x" * 500, "x" * 501, "a b", "a/b", "é", ".")
_DELAYS = (-HOUR, 0, 0, 1, 999, 1_000, 1_001, SECOND, MINUTE, MINUTE, HOUR, 30 * DAY, 30 * DAY + 1, 31 * DAY)
_STEPS = (0, 1_000, SECOND, MINUTE, 59 * MINUTE, HOUR, HOUR, DAY)
_SIZES = (0, 0, 0, 0, 10, 98_000, 110_000)


def draw(entropy: random.Random) -> Operation:
    """Draw an operation."""
    roll = entropy.random()
    if roll < 0.55:
        arguments = (entropy.choice(["timer", "triage"]), entropy.choice(_SIZES), entropy.choice(_DELAYS))
        return Operation("enqueue", (*arguments, entropy.choice(_NAMES)))
    if roll < 0.75:
        return Operation("advance", (entropy.choice(_STEPS),))
    return Operation(entropy.choice(["take", "take", "take", "next_due", "purge", "remove_first"]))


class _QueueSide(Side):
    def __init__(self, queue: Queue, clock: SteppedClock) -> None:
        self._queue = queue
        self._clock = clock

    def do_enqueue(self, kind: str, size: int, delay: int, name: str) -> object:
        """Enqueue a task."""
        payload = {"job": "p/é", "created": 5, "padding": "x" * size}
        return self._queue.enqueue(QueueTask(kind, payload, Instant(self._clock.now() + delay), name))

    def do_advance(self, nanoseconds: int) -> None:
        """Let time pass."""
        self._clock.advance(nanoseconds)

    @abstractmethod
    def do_take(self) -> object:
        """Deliver all due tasks, successfully."""

    @abstractmethod
    def do_next_due(self) -> object:
        """Return when the next task is due."""

    @abstractmethod
    def do_purge(self) -> None:
        """Lose all tasks."""

    @abstractmethod
    def do_remove_first(self) -> object:
        """Remove the task that is due first."""


class _MemorySide(_QueueSide):
    _queue: MemoryQueue

    def do_take(self) -> object:
        return [_of_memory(task) for task in self._queue.take_due(self._clock.now())]

    def do_next_due(self) -> object:
        return self._queue.next_due()

    def do_purge(self) -> None:
        self._queue.purge()

    def do_remove_first(self) -> object:
        first = sorted(self._queue.tasks, key=lambda task: task.eta)[:1]
        for task in first:
            self._queue.remove(task)
        return [_of_memory(task) for task in first]

    def state(self) -> object:
        """Return the tasks, the earliest first."""
        return [_of_memory(task) for task in sorted(self._queue.tasks, key=lambda task: task.eta)]


class _CloudTasksSide(_QueueSide):
    def __init__(self, queue: Queue, clock: SteppedClock, server: CloudTasksServer, client: Any) -> None:
        super().__init__(queue, clock)
        self._server = server
        self._client = client

    def do_take(self) -> object:
        return [self._finished(task) for task in self._server.due()]

    def _finished(self, task: Any) -> object:
        self._client.delete_task(name=task.name)  # leaves the name reserved, as a successful delivery does
        return _of_server(task)

    def do_next_due(self) -> object:
        return self._server.next_due()

    def do_purge(self) -> None:
        self._client.purge_queue(name=QUEUE)

    def do_remove_first(self) -> object:
        return [self._finished(task) for task in self._server.waiting()[:1]]

    def state(self) -> object:
        """Return the tasks, the earliest first."""
        return [_of_server(task) for task in self._server.waiting()]


def _of_memory(task: QueueTask) -> object:
    return task.kind, dict(task.payload), task.eta, task.name


def _of_server(task: Any) -> object:
    payload = json.loads(task.request.body)
    del payload["v"]
    name = task.name.rpartition("/")[2] if task.is_named else ""
    return task.request.url.rpartition("/")[2], payload, task.eta, name


@contextmanager
def queue_sides(server: CloudTasksServer, clock: SteppedClock, client: Any) -> Iterator[tuple[Side, Side]]:
    """Yield both queues, empty; ``server`` delivers nothing by itself and has the time of ``clock``."""
    server.reset()
    server.create_queue(QUEUE)
    account, url = "a@p.iam.gserviceaccount.com", "http://127.0.0.1:1"
    adapter = CloudTasksQueue(client, QUEUE, url, account, "audience", limit=_TIMEOUT)
    own = SteppedClock(clock.now())
    yield _MemorySide(MemoryQueue(own), own), _CloudTasksSide(adapter, clock, server, client)
