"""The whole system on this machine: official emulators, servers of our own, and the four functions."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests

from emulator.buildbucket.plans import Plan
from emulator.buildbucket.server import BuildbucketServer
from emulator.clock import Clock, RealClock
from emulator.cloud_tasks.model import RetryConfig
from emulator.cloud_tasks.server import CloudTasksServer
from emulator.errors import LocalCloudError
from emulator.official import start_firestore, start_pubsub
from emulator.supervisor import FUNCTIONS, FunctionProcess
from emulator.topics import COMMIT_TOPIC, Publisher, clients, create, subscriptions
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import Task

__all__ = ["BUILDBUCKET_HOST", "LocalCloud"]

BUILDBUCKET_HOST = "cr-buildbucket.appspot.com"
"""The server that configs name; locally it is a server of our own."""

_PUBLISHER = "cr-buildbucket@appspot.gserviceaccount.com"
_LOCATION = "us-central1"
_QUEUE = "luci-scheduler"
_RETRIES = RetryConfig(max_attempts=-1, min_backoff=SECOND, max_backoff=600 * SECOND, max_doublings=10)


@dataclass
class LocalCloud:
    """A local cloud, started by ``with``; several can run side by side.

    Raises (on entering):
        LocalCloudError: something cannot start; one line says what and what to do. Nothing is left running.
    """

    config_folder: Path
    check_interval_seconds: int = 60
    protocol: str = "v2"
    plan: Plan | None = None
    clock: Clock = field(default_factory=RealClock)
    project: str = field(default_factory=lambda: f"local-{uuid.uuid4().hex[:8]}")
    console_port: int = 0
    on_progress: Callable[[str], None] = lambda _: None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            try:
                self._start(stack)
            except OSError as error:
                raise LocalCloudError(f"the local cloud cannot start: {error}") from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        self.on_progress("starting the official Firestore and Pub/Sub emulators")
        firestore, pubsub = start_firestore(), start_pubsub()
        stack.callback(firestore.stop)
        stack.callback(pubsub.stop)
        self.firestore_address, self.pubsub_address = firestore.address, pubsub.address
        self.cloud_tasks = CloudTasksServer(clock=self.clock)
        stack.enter_context(self.cloud_tasks)
        self.cloud_tasks.create_queue(
            f"projects/{self.project}/locations/{_LOCATION}/queues/{_QUEUE}", retry_config=_RETRIES
        )
        pubsub.wait_until_ready()
        self._publisher, subscriber = clients(pubsub.address)
        self.publisher = Publisher(self._publisher)
        self.buildbucket = BuildbucketServer(
            self.clock, self.publisher, service_account=_PUBLISHER, default_plan=self.plan
        )
        self.buildbucket.start()
        stack.callback(self.buildbucket.stop)
        firestore.wait_until_ready()
        self._start_functions(stack)
        self.subscriptions = subscriptions(self.project, [_PUBLISHER])
        create(self._publisher, subscriber, self.subscriptions, {name: f.url for name, f in self.functions.items()})
        self.sync()

    def _start_functions(self, stack: ExitStack) -> None:
        self.on_progress("starting the four functions")
        # Tasks carry the address of ``on_task``: its port is drawn before any function starts.
        self.functions: dict[str, FunctionProcess] = {}
        task = FunctionProcess("on_task", {})
        environment = self._environment(task.url)
        for name in FUNCTIONS:
            port = task.port if name == "on_task" else self.console_port if name == "console" else 0
            self.functions[name] = FunctionProcess(name, environment, port)
            self.functions[name].start()
            stack.callback(self.functions[name].stop)
        for function in self.functions.values():
            function.wait_until_ready()
        self.queue = CloudTasksQueue(
            make_client(self.cloud_tasks.grpc_address),
            f"projects/{self.project}/locations/{_LOCATION}/queues/{_QUEUE}",
            task.url,
            self._task_account,
            task.url,
        )

    @property
    def _task_account(self) -> str:
        return f"tasks@{self.project}.iam.gserviceaccount.com"

    @property
    def console_url(self) -> str:
        """Where the pages are."""
        return self.functions["console"].url

    def _environment(self, task_url: str) -> dict[str, str]:
        server = {
            "host": BUILDBUCKET_HOST,
            "publisher": _PUBLISHER,
            "protocol": self.protocol,
            "url": self.buildbucket.url,
        }
        return {
            "FIRESTORE_EMULATOR_HOST": self.firestore_address,
            "PUBSUB_EMULATOR_HOST": self.pubsub_address,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "THREADS": "16",
            "SCHEDULER_PROJECT": self.project,
            "SCHEDULER_LOCATION": _LOCATION,
            "SCHEDULER_QUEUE": _QUEUE,
            "SCHEDULER_TASK_URL": task_url,
            "SCHEDULER_TASK_ACCOUNT": self._task_account,
            "SCHEDULER_OIDC_CERTS_URL": self.cloud_tasks.certs_url,
            "SCHEDULER_CLOUD_TASKS_ENDPOINT": self.cloud_tasks.grpc_address,
            "SCHEDULER_TOKEN_SECRETS": "local cloud",
            "SCHEDULER_BUILDBUCKET_SERVERS": json.dumps([server]),
            "SCHEDULER_CONFIG_FOLDER": str(self.config_folder),
            "SCHEDULER_CHECK_INTERVAL_SECONDS": str(self.check_interval_seconds),
            "SCHEDULER_LOCAL": "true",
        }

    def task(self, kind: str, payload: dict[str, Any] | None = None) -> None:
        """Put a task for ``on_task`` on the queue, due now; ``sync`` and ``sweep`` are Cloud Scheduler's in the cloud."""
        self.queue.enqueue(Task(kind, payload or {}, Instant(self.clock.now())))

    def sync(self) -> None:
        """Have the configs of the config folder put in force."""
        self.task("sync")

    def publish_commit(self, repo: str, ref: str, revision: str) -> None:
        """Tell the scheduler that a ref points to a revision."""
        event = {"repo": repo, "ref": ref, "revision": revision}
        self.publisher.publish(f"projects/{self.project}/topics/{COMMIT_TOPIC}", json.dumps(event).encode(), {})

    def page(self, path: str) -> Any:
        """Return the JSON twin of a page, or None while there is none."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{self.console_url}/{path.lstrip('/')}", params={"format": "json"}, timeout=20)
        return answer.json() if answer.status_code == requests.codes.ok else None
