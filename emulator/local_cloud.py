"""The whole system on this machine: official emulators (or memory), servers of our own, and the four functions."""

from __future__ import annotations

import json
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import requests

from emulator.buildbucket.plans import Plan
from emulator.buildbucket.server import BuildbucketServer
from emulator.clock import Clock, RealClock
from emulator.cloud_scheduler import Housekeeping
from emulator.cloud_tasks.model import RateLimits, RetryConfig
from emulator.cloud_tasks.server import CloudTasksServer
from emulator.errors import LocalCloudError, one_line
from emulator.gitiles.projects import find_repository
from emulator.gitiles.repository import Repository
from emulator.gitiles.server import GitilesServer
from emulator.interceptors import NoWires, Wires
from emulator.memory_host import InProcessFunction, MemoryHost
from emulator.memory_pubsub import MemoryPubSub
from emulator.official import OfficialEmulator, clear_documents, start_firestore, start_pubsub
from emulator.run_task import run_task
from emulator.settings import (
    BUILDBUCKET_HOST,
    LOCATION,
    PUBLISHER,
    QUEUE,
    Addresses,
    function_environment,
    gitiles_hosts,
)
from emulator.supervisor import FUNCTIONS, FunctionProcess
from emulator.tcp_ports import HOST, require_free
from emulator.topics import COMMIT_TOPIC, EmulatorPubSub, subscriptions
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.folder import read_folder
from luci_scheduler.config.reader import ConfigError, ProjectConfig, read_config
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.ports import QueueTask

__all__ = ["BUILDBUCKET_HOST", "LocalCloud", "LocalCloudError", "LocalPorts"]

# As infra/terraform makes the queue; a test compares them.
_RATES = RateLimits(max_dispatches_per_second=500.0, max_concurrent_dispatches=100)
_RETRIES = RetryConfig(max_attempts=-1, min_backoff=SECOND, max_backoff=600 * SECOND, max_doublings=10)
_SYNC_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class LocalPorts:
    """TCP ports of the servers; 0 is a free one, so that several local clouds run side by side."""

    firestore: int = 0
    pubsub: int = 0
    cloud_tasks: int = 0
    cloud_tasks_keys: int = 0
    buildbucket: int = 0
    gitiles: int = 0
    on_gitiles_commit: int = 0
    on_build_completion: int = 0
    on_task: int = 0


@dataclass
class LocalCloud:
    """A local cloud, started by ``with``; several can run side by side (in memory: one per process).

    Args:
        config_folder: holds ``<project>/luci-scheduler.cfg``; ``<folder>/configs`` if None.
        check_interval_seconds: between status checks of a build; 0: that of the protocol.
        protocol: the face that the Buildbucket server shows: ``v1`` (2021) or ``v2``.
        plan: what becomes of builds unless `buildbucket` is told otherwise.
        clock: of the servers; the real one, or one that runs at ``speed``, if None.
        project: the cloud project; a fresh name unless told.
        console_port: where the pages are; 0 picks a free port.
        on_progress: told what is being done, in words.
        store: ``emulators``: the official Firestore and Pub/Sub emulators, the functions as processes; ``memory``: neither.
        folder: for repositories, logs and configs; a temporary one, removed at the end, if None.
        speed: how much faster than real time runs; only in memory, as the official emulators and processes know real time only.
        ports: of all other servers.
        hosts: Gitiles hosts that `gitiles` stands for, besides those in the configs and in the folder.
        host_functions: False leaves running the functions to the caller, see `function_environment`.
        sweep_seconds: between two sweeps, as Cloud Scheduler has them run; 0: only when asked for by `task`.
        sync_seconds: the same for reading the configs, which is done at the start in any case.
        firestore_address: a Firestore emulator that runs already; empty: one of its own.
        pubsub_address: a Pub/Sub emulator that runs already; empty: one of its own.
        download_url: where emulators are downloaded from if no Google Cloud SDK is installed.
        settings: more ``SCHEDULER_...`` variables for the functions.
        wires: what stands between the parts, for those who listen in or interfere.

    Raises (on entering):
        LocalCloudError: something cannot start; one line says what and what to do. Nothing is left running.
    """

    config_folder: Path | None = None
    check_interval_seconds: int = 60
    protocol: str = "v2"
    plan: Plan | None = None
    clock: Clock | None = None
    project: str = field(default_factory=lambda: f"local-{uuid.uuid4().hex[:8]}")
    console_port: int = 0
    on_progress: Callable[[str], None] = lambda _: None
    store: Literal["emulators", "memory"] = "emulators"
    folder: Path | None = None
    speed: float = 1.0
    ports: LocalPorts = LocalPorts()
    hosts: Sequence[str] = ()
    host_functions: bool = True
    sweep_seconds: float = 60.0
    sync_seconds: float = 60.0
    firestore_address: str = ""
    pubsub_address: str = ""
    download_url: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    wires: Wires = field(default_factory=NoWires)

    def __enter__(self) -> Self:
        if self.speed != 1.0 and self.store != "memory":
            raise LocalCloudError(
                "only a local cloud in memory runs faster than real time: use --store memory, or speed 1"
            )
        with ExitStack() as stack:
            try:
                self._start(stack)
            except OSError as error:
                raise LocalCloudError(f"the local cloud cannot start: {error}") from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # Starting -------------------------------------------------------------------------------------------------------

    def _start(self, stack: ExitStack) -> None:
        self._memory: MemoryHost | None = None
        self._time: Clock = self.clock or RealClock(self.speed)
        self._make_folders(stack)
        # Processes take seconds to come up: they are started first, and waited for when everything else is done.
        emulators = self._start_emulators(stack)
        self._start_servers(stack)
        self._start_functions(stack)
        for emulator in emulators:
            emulator.wait_until_ready()
        self.subscriptions = subscriptions(self.project, [PUBLISHER])
        self.pubsub.create_topics(self.subscriptions, self._handed_out)
        for function in self.functions.values():
            function.wait_until_ready()
        stack.callback(self.cloud_tasks.stop)  # before the functions: nothing more is to be delivered to them
        stack.callback(self._tasks.transport.close)
        if self.host_functions:
            self.on_progress("reading the configs")
            self.sync()
            for kind, seconds in (("sweep", self.sweep_seconds), ("sync", self.sync_seconds)):
                if seconds:
                    housekeeping = Housekeeping(partial(self.task, kind), seconds)
                    housekeeping.start()
                    stack.callback(housekeeping.stop)

    def _make_folders(self, stack: ExitStack) -> None:
        folder = self.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="local-cloud-")))
        self.configs = self.config_folder or folder / "configs"
        self.repositories = folder / "repositories"
        self._logs = folder / "logs" if self.folder else None
        for path in (self.configs, self.repositories, self._logs):
            if path is not None:
                path.mkdir(parents=True, exist_ok=True)
        hosts = gitiles_hosts(self._read_configs(), self.repositories, self.hosts)
        self.gitiles = GitilesServer(self.repositories, port=require_free(self.ports.gitiles, "Gitiles"))
        self._gitiles_hosts = hosts

    def _log(self, name: str) -> Path | None:
        return self._logs / f"{name}.log" if self._logs else None

    def _start_emulators(self, stack: ExitStack) -> list[OfficialEmulator]:
        if self.store == "memory":
            self.on_progress("running in memory: no official emulators, and nothing is kept")
            self.pubsub: EmulatorPubSub | MemoryPubSub = MemoryPubSub(self._time)
            stack.callback(self.pubsub.close)
            return []
        self.on_progress("starting the official Firestore and Pub/Sub emulators")
        emulators: list[OfficialEmulator] = []
        stack.callback(_stop_together, emulators)
        url = self.download_url
        if not self.firestore_address:
            emulators.append(start_firestore(self.ports.firestore, download_url=url, log=self._log("firestore")))
            self.firestore_address = emulators[-1].address
        if not self.pubsub_address:
            emulators.append(start_pubsub(self.ports.pubsub, download_url=url, log=self._log("pubsub")))
            self.pubsub_address = emulators[-1].address
        self.pubsub = EmulatorPubSub(self.pubsub_address)
        stack.callback(self.pubsub.close)
        return emulators

    def _start_servers(self, stack: ExitStack) -> None:
        ports = self.ports
        self.cloud_tasks = CloudTasksServer(
            clock=self._time,
            port=require_free(ports.cloud_tasks, "Cloud Tasks"),
            keys_port=require_free(ports.cloud_tasks_keys, "the keys of Cloud Tasks"),
        )
        stack.enter_context(self.cloud_tasks)
        self.buildbucket = BuildbucketServer(
            self._time,
            self.pubsub,
            port=require_free(ports.buildbucket, "Buildbucket"),
            service_account=PUBLISHER,
            hostname=BUILDBUCKET_HOST,
            default_plan=self.plan,
        )
        for server in (self.buildbucket, self.gitiles):
            server.start()
            stack.callback(server.stop)
        self._create_queue()

    def _create_queue(self) -> None:
        self.cloud_tasks.create_queue(self._queue_name, _RATES, _RETRIES)

    def _start_functions(self, stack: ExitStack) -> None:
        # Each is told where the others are, so all ports are drawn before any of them starts.
        ports = {name: getattr(self.ports, name, self.console_port) for name in FUNCTIONS}
        ports = {name: require_free(port, f"the function {name}") for name, port in ports.items()}
        self._urls = {name: f"http://{HOST}:{port}" for name, port in ports.items()}
        self._handed_out = {
            name: url if name == "console" else self.wires.http(name, url) for name, url in self._urls.items()
        }
        self.environment = self._environment()
        self._tasks = make_client(self.cloud_tasks.grpc_address)
        self.queue = CloudTasksQueue(
            self._tasks,
            self._queue_name,
            self._handed_out["on_task"],
            self.environment["SCHEDULER_TASK_ACCOUNT"],
            self._handed_out["on_task"],
        )
        self.functions: dict[str, FunctionProcess | InProcessFunction] = {}
        if not self.host_functions:
            return
        self.on_progress("starting the four functions")
        if self.store == "memory":
            self._memory = MemoryHost(self._time, self._log("functions"))
            self._memory.start(self.environment)
            stack.callback(self._memory.stop)
        stack.callback(_stop_together, self.functions.values())
        for name, port in ports.items():
            self.functions[name] = (
                InProcessFunction(name, self._memory.output, port)
                if self._memory is not None
                else FunctionProcess(name, self.environment, port, log=self._log(name))
            )
            self.functions[name].start()

    def _environment(self) -> dict[str, str]:
        addresses = Addresses(
            project=self.project,
            firestore=self.wires.grpc("firestore", self.firestore_address) if self.firestore_address else "",
            pubsub=self.pubsub_address,
            cloud_tasks=self.wires.grpc("cloud_tasks", self.cloud_tasks.grpc_address),
            certs=self.cloud_tasks.certs_url,
            buildbucket=self.wires.http("buildbucket", self.buildbucket.url),
            gitiles={host: self.gitiles.url_of(host) for host in self._gitiles_hosts},
            on_task=self._handed_out["on_task"],
        )
        return function_environment(
            addresses,
            protocol=self.protocol,
            config_folder=self.configs,
            check_interval_seconds=self.check_interval_seconds,
            extra=self.settings,
        )

    # Addresses ------------------------------------------------------------------------------------------------------

    @property
    def _queue_name(self) -> str:
        return f"projects/{self.project}/locations/{LOCATION}/queues/{QUEUE}"

    @property
    def console_url(self) -> str:
        """Where the pages are."""
        return self._urls["console"]

    def repository(self, repo: str) -> Repository:
        """Return the repository that stands for ``https://<host>/<project>``; it is made (bare, branch main) if need be.

        Raises:
            LocalCloudError: no config named its host when the local cloud started, its folder holds no repository, or its name is none.
        """
        url = parse_repo_url(repo)
        if url.host not in self._gitiles_hosts:
            raise LocalCloudError(
                f"the local cloud does not stand for {url.host}, which no config named when it started: "
                f"start it again, or with --host {url.host} (in Python: hosts)"
            )
        if found := find_repository(self.repositories / url.host, url.project):
            return Repository(found)
        if any(name.startswith(".") for name in url.project.split("/")):
            raise LocalCloudError(f"{url.project} is no name of a repository: no part of it may begin with a dot")
        path = self.repositories / url.host / url.project
        if path.exists():
            raise LocalCloudError(f"{path} is no git repository: make it one (git init), or move it away")
        return Repository.create(path)

    # Doing ----------------------------------------------------------------------------------------------------------

    def task(self, kind: str, payload: Mapping[str, Any] | None = None) -> None:
        """Put a task for ``on_task`` on the queue, due now; ``sync`` and ``sweep`` are Cloud Scheduler's in the cloud."""
        self.queue.enqueue(QueueTask(kind, payload or {}, Instant(self._time.now())))

    def sync(self) -> None:
        """Have the configs put in force, and wait until they are; one with problems leaves the last good one in force.

        Raises:
            LocalCloudError: the functions do not get it done.
        """
        target = self._handed_out["on_task"]
        account = self.environment["SCHEDULER_TASK_ACCOUNT"]
        try:
            run_task(self._tasks, self._queue_name, f"{target}/sync", account, target, _SYNC_SECONDS)
        except LocalCloudError as error:
            said = self.functions["on_task"].output.last_words() if self.functions else "it is not run here"
            raise LocalCloudError(f"{error}; on_task's last words: {said}") from error

    def publish_commit(self, repo: str, ref: str, revision: str) -> str:
        """Tell the scheduler that a ref points to a revision; return the message's ID."""
        event = {"repo": repo, "ref": ref, "revision": revision}
        return self.pubsub.publish(f"projects/{self.project}/topics/{COMMIT_TOPIC}", json.dumps(event).encode(), {})

    def page(self, path: str) -> Any:
        """Return the JSON twin of a page, or None while there is none.

        Raises:
            LocalCloudError: the console does not answer.
        """
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(f"{self.console_url}/{path.lstrip('/')}", params={"format": "json"}, timeout=20)
            return answer.json() if answer.status_code == requests.codes.ok else None
        except requests.RequestException as error:
            raise LocalCloudError(
                f"the console on {self.console_url} does not answer: {one_line(str(error))}"
            ) from error

    def invocations(self, job: str) -> list[dict[str, Any]]:
        """Return a job's invocations (``<project>/<job>``), newest first, as their own pages have them, log included."""
        page = self.page(f"jobs/{quote(job)}")
        listed = page["invocations"] if page else []
        found = [self.page(f"jobs/{quote(job)}/{item['invocation_id']}") for item in listed]
        return [item for item in found if item is not None]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a function a signal; see `FunctionProcess.kill`.

        Raises:
            LocalCloudError: it is not a process.
        """
        self.functions[name].kill(number)

    def reset(self) -> None:
        """Forget documents, tasks, messages, faults and plans, then put the configs in force again.

        Repositories and builds stay; what builds under way still announce is unknown to the scheduler, which takes no notice.

        Raises:
            LocalCloudError: something does not answer.
        """
        self.cloud_tasks.reset()
        self.pubsub.drop_backlog(self.subscriptions, time.time_ns())
        for clear in (
            self.buildbucket.plans.clear,
            self.buildbucket.faults.clear,
            self.buildbucket.notifier.clear_faults,
        ):
            clear()
        self.buildbucket.clear_requests()
        self.gitiles.clear_requests()
        if self._memory is not None:
            self._memory.clear()
        else:
            clear_documents(self.firestore_address, self.project)
        self._create_queue()
        if self.functions:
            self.sync()

    @property
    def config_rules(self) -> ConfigRules:
        """The rules by which the functions read configs."""
        return ConfigRules(lenient_triggers=self.settings.get("SCHEDULER_LENIENT_TRIGGERS") == "true")

    def _read_configs(self) -> list[ProjectConfig]:
        """Read the configs, and say what is wrong with those that will not be in force."""
        configs = []
        for file in read_folder(self.configs):
            try:
                configs.append(read_config(file.project, file.text, rules=self.config_rules))
            except ConfigError as error:
                self.on_progress(
                    f"the config of {file.project} is not valid and will not be in force: {error.problems[0]}"
                )
        return configs


def _stop_together(running: Iterable[OfficialEmulator | FunctionProcess | InProcessFunction]) -> None:
    """Stop all at the same time."""
    stops = [item.stop for item in running]
    with ThreadPoolExecutor(max(1, len(stops))) as pool:
        for future in [pool.submit(stop) for stop in stops]:
            future.result()
