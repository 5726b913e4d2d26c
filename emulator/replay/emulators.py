"""A replay on the real stack: official emulators, the local cloud's servers, and functions behind HTTP."""

from __future__ import annotations

import http.client
import os
import threading
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import requests
from google.api_core import exceptions

from emulator.clock import SteppedClock
from emulator.cloud_tasks.server import CloudTasksServer
from emulator.errors import LocalCloudError
from emulator.memory.ports import memory_ports
from emulator.official import OfficialEmulator, start_firestore, start_pubsub
from emulator.replay.errors import ReplayError
from emulator.replay.pubsub import ReplayTopics
from emulator.replay.serving import Gate, Listener
from emulator.replay.stage import TASK_ACCOUNT, Answer, Message, Waiting
from emulator.serving.local_server import LocalServer
from emulator.settings import QUEUE_RETRIES, queue_path
from emulator.tcp_ports import HOST
from emulator.topics import PushSubscription
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.adapters.firestore import FirestoreStore
from luci_scheduler.adapters.http import fetch
from luci_scheduler.adapters.identity import OidcVerifier
from luci_scheduler.bootstrap import Ports
from luci_scheduler.cloud_ports import make_buildbucket
from luci_scheduler.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from google.cloud import firestore

__all__ = ["EmulatorStage", "Emulators", "running_emulators"]


@dataclass(frozen=True, slots=True)
class Emulators:
    """Where the official emulators are, ``host:port`` each; they may serve other programs at the same time."""

    firestore: str
    pubsub: str


@contextmanager
def running_emulators(firestore: str = "", pubsub: str = "", download_url: str = "") -> Iterator[Emulators]:
    """Use the emulators at these addresses. Start each emulator whose address is empty, and stop it at the end.

    Raises:
        LocalCloudError: one cannot be started, or does not answer at its address.
    """
    with ExitStack() as stack:
        for name, address in (("Firestore", firestore), ("Pub/Sub", pubsub)):
            if address:
                _require_answer(name, address)
        started: dict[str, OfficialEmulator] = {}
        for name, start, address in (("firestore", start_firestore, firestore), ("pubsub", start_pubsub, pubsub)):
            if not address:
                started[name] = start(download_url=download_url)
                stack.callback(started[name].stop)
        for emulator in started.values():  # they were started in parallel
            emulator.wait_until_ready()
        yield Emulators(firestore or started["firestore"].address, pubsub or started["pubsub"].address)


class EmulatorStage:
    """``Stage`` on the emulators, within a ``with`` statement; documents and subscriptions are in a new project.

    Args:
        emulators: where they are.
        clock: the replay's.
        functions: entry point → its application.
        buildbucket: the application that serves as every Buildbucket server.
        subscriptions: which topic reaches which function.

    Raises (on entering):
        LocalCloudError: an emulator refuses a request, or no port is free.
    """

    def __init__(
        self,
        emulators: Emulators,
        clock: SteppedClock,
        functions: Mapping[str, WSGIApplication],
        buildbucket: WSGIApplication,
        subscriptions: Mapping[str, PushSubscription],
    ) -> None:
        self._emulators = emulators
        self._clock = clock
        self._subscriptions = subscriptions
        self._project = f"replay-{uuid.uuid4().hex[:12]}"
        self._gates = {name: Gate(app) for name, app in functions.items() if name != "on_task"}
        self._listener = Listener(functions["on_task"])
        applications: dict[str, WSGIApplication] = {**self._gates, "on_task": self._listener}
        self._servers = {name: LocalServer(app, HOST, 0) for name, app in applications.items()}
        self._buildbucket = LocalServer(buildbucket, HOST, 0)
        self._tasks = CloudTasksServer(clock=clock, dispatch="manual")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            try:
                self._start(stack)
            except OSError as error:
                raise LocalCloudError(f"the replay's servers cannot start: {error}") from error
            except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
                raise LocalCloudError(f"the Pub/Sub emulator at {self._emulators.pubsub}: {error}") from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        for server in (*self._servers.values(), self._buildbucket):
            server.start()
            stack.callback(server.stop)
        stack.enter_context(self._tasks)
        self._queue = self._tasks.create_queue(queue_path(self._project), retry_config=QUEUE_RETRIES)
        self._client = make_client(self._tasks.grpc_address)
        stack.callback(self._client.transport.close)
        self._session = stack.enter_context(requests.Session())
        self._session.trust_env = False
        self._firestore = _firestore_client(self._emulators.firestore, self._project)
        stack.callback(self._firestore.close)
        self._topics = ReplayTopics(self._emulators.pubsub, self._project)
        stack.callback(self._topics.close)
        for subscription in self._subscriptions.values():
            self._topics.subscribe(subscription, self._servers[subscription.function].url)

    @property
    def task_url(self) -> str:
        """Where ``on_task`` is served."""
        return self._servers["on_task"].url

    @property
    def buildbucket_url(self) -> str:
        """Where Buildbucket is served."""
        return self._buildbucket.url

    def ports(self, settings: Settings) -> Ports:
        """Return the functions' ports: the adapters of the cloud, on the emulators."""
        certs = self._tasks.certs_url
        verifier = OidcVerifier(lambda: fetch(certs), self.task_url, {TASK_ACCOUNT}, self._clock)
        return replace(
            memory_ports(),
            store=FirestoreStore(self._firestore),
            queue=CloudTasksQueue(self._client, self._queue, self.task_url, TASK_ACCOUNT, self.task_url),
            clock=self._clock,
            buildbucket=make_buildbucket(settings, lambda: self._session, self._clock),
            verify_caller=verifier.verify,
        )

    def deliver(self, topic: str, message: Message) -> Answer:
        """Publish a message to the emulator and wait until the function has answered to its push."""
        gate = self._gates[self._subscriptions[topic].function]
        try:
            return gate.deliver(message, lambda: self._topics.publish(topic, message.data, message.attributes))
        except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
            raise ReplayError(f"the Pub/Sub emulator did not accept a message: {error}") from error

    def waiting(self) -> list[Waiting]:
        """Return the tasks on the queue."""
        return [
            Waiting(task.name, task.request.url.rpartition("/")[2], task.schedule_time)
            for task in self._tasks.waiting()
        ]

    def dispatch(self, task: Waiting) -> Answer:
        """Have Cloud Tasks deliver a task."""
        self._listener.text = ""
        return Answer(self._tasks.dispatch(task.name), self._listener.text)


_environment = threading.Lock()


def _firestore_client(address: str, project: str) -> firestore.Client:
    """Return a client of the emulator. The library reads the address from the environment as it creates the client."""
    from google.cloud import firestore  # noqa: PLC0415 - a replay in memory does not need it

    name = "FIRESTORE_EMULATOR_HOST"
    with _environment:
        before = os.environ.get(name)
        os.environ[name] = address
        try:
            return firestore.Client(project=project)
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


def _require_answer(name: str, address: str) -> None:
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
            answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LocalCloudError(
            f"no {name} emulator answers at {address} ({error}): start it there, or leave the address out"
        ) from error
