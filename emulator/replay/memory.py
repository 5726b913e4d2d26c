"""A replay in memory: no emulators, no sockets; the functions and Buildbucket are called as WSGI applications."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import requests
from werkzeug.test import Client

from emulator.clock import SteppedClock
from emulator.memory.ports import memory_ports
from emulator.replay.buildbucket import WsgiAdapter
from emulator.replay.errors import FunctionDied
from emulator.replay.stage import Answer, Message, Waiting
from emulator.settings import QUEUE_RETRIES
from emulator.topics import PushSubscription
from luci_scheduler.bootstrap import Ports
from luci_scheduler.cloud_ports import make_buildbucket
from luci_scheduler.core.instants import Instant, format_rfc3339, truncate_to_microseconds
from luci_scheduler.core.queue_tasks import with_version
from luci_scheduler.ports import QueueTask
from luci_scheduler.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["MemoryStage"]


class MemoryStage:
    """``Stage`` in memory.

    Args:
        clock: the replay's.
        functions: entry point → its application.
        buildbucket: the application that serves as every Buildbucket server.
        subscriptions: which topic reaches which function.
    """

    task_url = "https://on-task.replay.invalid"
    buildbucket_url = "http://buildbucket.replay.invalid"

    def __init__(
        self,
        clock: SteppedClock,
        functions: Mapping[str, WSGIApplication],
        buildbucket: WSGIApplication,
        subscriptions: Mapping[str, PushSubscription],
    ) -> None:
        self._clients = {name: Client(app) for name, app in functions.items()}
        self._subscriptions = subscriptions
        self._clock = clock
        self._queue = _Queue(clock)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("http://", WsgiAdapter(buildbucket))

    def ports(self, settings: Settings) -> Ports:
        """Return the functions' ports: those in memory, with this queue and the scripted Buildbucket."""
        buildbucket = make_buildbucket(settings, lambda: self._session, self._clock)
        return replace(memory_ports(), queue=self._queue, clock=self._clock, buildbucket=buildbucket)

    def deliver(self, topic: str, message: Message) -> Answer:
        """Push a message as Pub/Sub would."""
        subscription = self._subscriptions[topic]
        body = {
            "message": {
                "data": base64.b64encode(message.data).decode(),
                "attributes": dict(message.attributes),
                "messageId": message.id,
                "publishTime": format_rfc3339(message.published),
            },
            "subscription": subscription.subscription,
        }
        return self._post(subscription.function, f"/{topic}", body, {})

    def waiting(self) -> list[Waiting]:
        """Return the tasks on the queue."""
        return self._queue.waiting()

    def dispatch(self, task: Waiting) -> Answer:
        """Deliver a task as Cloud Tasks would."""
        held = self._queue.take(task.name)
        body = with_version(held.payload)
        answer = self._post("on_task", f"/{held.kind}", body, {"X-CloudTasks-TaskName": task.name})
        if answer.status // 100 != 2:  # noqa: PLR2004 - any success
            self._queue.put_back(task.name, held)
        return answer

    def _post(self, function: str, path: str, body: Any, headers: Mapping[str, str]) -> Answer:
        try:
            answer = self._clients[function].post(path, json=body, headers=dict(headers))
        except FunctionDied as death:
            return Answer(500, str(death))
        return Answer(answer.status_code, answer.get_data(as_text=True))


class _Queue:
    """``ports.Queue`` with the times of Cloud Tasks: a task is due at its creation or later, to the microsecond."""

    def __init__(self, clock: SteppedClock) -> None:
        self._clock = clock
        self._tasks: dict[str, QueueTask] = {}
        self._attempts: Counter[str] = Counter()
        self._count = 0

    def enqueue(self, task: QueueTask) -> None:
        """Put a task on the queue."""
        self._count += 1
        self._put(f"task-{self._count}", task, max(task.eta, self._clock.now()))

    def waiting(self) -> list[Waiting]:
        """Return the tasks by due time, and by creation if they are due at the same time."""
        tasks = [Waiting(name, task.kind, task.eta) for name, task in self._tasks.items()]
        return sorted(tasks, key=lambda task: task.due)

    def take(self, name: str) -> QueueTask:
        """Take a task off the queue to be delivered."""
        self._attempts[name] += 1
        return self._tasks.pop(name)

    def put_back(self, name: str, task: QueueTask) -> None:
        """Put a failed task back on the queue, due again after a pause."""
        self._put(name, task, self._clock.now() + QUEUE_RETRIES.backoff(self._attempts[name]))

    def _put(self, name: str, task: QueueTask, due: int) -> None:
        self._tasks[name] = replace(task, eta=truncate_to_microseconds(Instant(due)))
