"""Starts the parts of a local cloud in order, and stops each part when the ``with`` block ends."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import OK
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.announcements import announcing, create_events_topic
from emulator.buildbucket.server import BuildbucketServer
from emulator.builds.subjects import Subjects
from emulator.clock import AdjustableClock, Clock, RealClock
from emulator.cloud_scheduler import CloudScheduler
from emulator.cloud_tasks.server import CloudTasksServer
from emulator.commit_events import CommitEvents, MissingRepositories
from emulator.errors import LocalCloudError
from emulator.feed import Feed
from emulator.front_end.front_end import EVENT_FUNCTIONS, FrontEnd
from emulator.function_log import FunctionLog
from emulator.gitiles.git import require_git
from emulator.gitiles.server import GitilesServer
from emulator.kept_state import write_documents
from emulator.local_builds import BuildFeed, LocalBuilds
from emulator.local_cloud import Function, LocalCloud
from emulator.local_configs import watched_repositories
from emulator.memory_host import InProcessFunction, MemoryHost
from emulator.memory_pubsub import MemoryPubSub
from emulator.memory_webhook import webhook_app
from emulator.message_faults import FaultyPubSub
from emulator.official import OfficialEmulator, export_documents, start_firestore, start_pubsub
from emulator.optional_servers import OptionalServers, start_optional_servers
from emulator.options import Options
from emulator.settings import (
    BUILDBUCKET_HOST,
    LOCATION,
    PUBLISHER,
    QUEUE_RATES,
    QUEUE_RETRIES,
    Addresses,
    accounts_of,
    function_environment,
    queue_path,
)
from emulator.supervisor import FunctionProcess
from emulator.tcp_ports import HOST, require_free
from emulator.topics import EmulatorPubSub, subscriptions
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.core.errors import TransientError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["start_local_cloud"]

_NUMBERS = {4: "four", 5: "five", 6: "six"}
_SWEEP_GRACE_SECONDS = 5
"""After a restart, the queue has lost its tasks; so the sweep takes a document as overdue after this time."""


@contextmanager
def start_local_cloud(options: Options) -> Iterator[LocalCloud]:
    """Start a local cloud, and stop it at the end of the ``with`` block.

    Several local clouds can run at once. Each local cloud in memory needs a separate process.

    Raises:
        LocalCloudError: a part cannot start; the text has the reason and the remedy. Nothing is left running.
    """
    if options.speed != 1.0 and options.store != "memory":
        raise LocalCloudError("only a local cloud in memory runs faster than real time: use --store memory, or speed 1")
    require_git()
    with ExitStack() as stack:
        try:
            cloud = _start(options, stack)
        except OSError as error:
            raise LocalCloudError(f"the local cloud cannot start: {error}") from error
        yield cloud


@dataclass(frozen=True, slots=True)
class _Base:
    """The objects that all parts share."""

    options: Options
    clock: Clock
    feed: Feed
    folders: _Folders
    stack: ExitStack
    """Stops the parts."""
    front_end: FrontEnd | None
    was_up: threading.Event = field(default_factory=threading.Event)
    """Whether all parts have started; only then the state is saved at the end."""


def _start(options: Options, stack: ExitStack) -> LocalCloud:
    folders = _make_folders(options, stack)
    clock = options.clock or RealClock(options.speed)
    base = _Base(options, clock, Feed(clock.now), folders, stack, _make_front_end(options, clock))
    # Emulators and functions take seconds to start. They start in parallel, and the wait for them comes last.
    backends = _start_backends(base)
    events = CommitEvents(backends.pubsub.publish, options.project, base.feed)
    events.hold()
    servers = _start_servers(base, backends.pubsub, events)
    functions = _start_functions(base, backends, servers)
    servers.optional.know_console(functions.handed_out["console"])
    events.console_url = servers.gitiles.around.console_url = servers.buildbucket.around.console_url = (
        functions.handed_out["console"]
    )
    for emulator in backends.emulators:
        emulator.wait_until_ready()
    rows = subscriptions(options.project, [PUBLISHER], cloud_build=options.cloud_build and options.host_functions)
    backends.pubsub.create_topics(rows, functions.handed_out)
    create_events_topic(options, backends.pubsub)
    for function in functions.running.values():
        function.wait_until_ready()
    stack.callback(servers.cloud_tasks.stop)  # before the functions, which must not get tasks after they stop
    tasks_client = make_client(servers.cloud_tasks.grpc_address)
    stack.callback(tasks_client.transport.close)
    account, target = functions.environment["SCHEDULER_TASK_ACCOUNT"], functions.handed_out["on_task"]
    audience = functions.environment.get("SCHEDULER_TASK_AUDIENCE", target)
    cloud = LocalCloud(
        options=options,
        clock=base.clock,
        feed=base.feed,
        configs=folders.configs,
        repositories=folders.repositories,
        firestore_address=backends.firestore_address,
        pubsub_address=backends.pubsub_address,
        pubsub=backends.pubsub,
        commit_events=events,
        subscriptions=rows,
        cloud_tasks=servers.cloud_tasks,
        tasks_client=tasks_client,
        queue=CloudTasksQueue(tasks_client, queue_path(options.project), target, account, audience),
        buildbucket=servers.buildbucket,
        gitiles=servers.gitiles,
        optional=servers.optional,
        environment=functions.environment,
        functions=functions.running,
        console_url=functions.handed_out["console"],
        memory=functions.memory,
        front_end=base.front_end,
    )
    _restore_builds(base, servers)
    if options.host_functions:
        options.on_progress("reading the configs")
        cloud.sync()
        _start_schedules(cloud, stack)
    events.release()
    base.was_up.set()
    return cloud


def _make_front_end(options: Options, clock: Clock) -> FrontEnd | None:
    """Return the front end, with its addresses; `_start_functions` starts it."""
    if options.front_end is None:
        return None
    return FrontEnd(
        options.front_end,
        project=options.project,
        location=LOCATION,
        accounts=accounts_of(options.project),
        now=clock.now,
        stripping=options.stripping,
        console_port=options.ports.console,
        functions=options.functions,
    )


# Folders --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Folders:
    configs: Path
    repositories: Path
    logs: Path | None

    def log(self, name: str) -> Path | None:
        """Return the log file of a part; None if logs are not kept."""
        return self.logs / f"{name}.log" if self.logs else None


def _make_folders(options: Options, stack: ExitStack) -> _Folders:
    folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="local-cloud-")))
    folders = _Folders(
        configs=options.config_folder or folder / "configs",
        repositories=folder / "repositories",
        logs=folder / "logs" if options.folder else None,
    )
    for path in (folders.configs, folders.repositories, folders.logs):
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    return folders


# Firestore and Pub/Sub ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Backends:
    pubsub: FaultyPubSub
    firestore_address: str = ""
    pubsub_address: str = ""
    emulators: Sequence[OfficialEmulator] = ()
    """The emulators that are starting."""


def _start_backends(base: _Base) -> _Backends:
    options, stack = base.options, base.stack
    if options.store == "memory":
        options.on_progress("starting in memory, without official emulators")
        memory = MemoryPubSub(base.clock)
        stack.callback(memory.close)
        return _Backends(FaultyPubSub(memory))
    options.on_progress(
        "starting the official Firestore and Pub/Sub emulators: Java, and about 900 MB of memory with the functions"
    )
    emulators: list[OfficialEmulator] = []
    stack.callback(_stop_together, emulators)
    firestore, pubsub, url = options.firestore_address, options.pubsub_address, options.download_url
    if not firestore:
        seed = options.kept.firestore if options.kept else None
        emulators.append(
            start_firestore(options.ports.firestore, download_url=url, log=base.folders.log("firestore"), seed=seed)
        )
        firestore = emulators[-1].address
    if not pubsub:
        emulators.append(start_pubsub(options.ports.pubsub, download_url=url, log=base.folders.log("pubsub")))
        pubsub = emulators[-1].address
    client = EmulatorPubSub(pubsub)
    stack.callback(client.close)
    return _Backends(FaultyPubSub(client), firestore, pubsub, emulators)


# Cloud Tasks, Buildbucket and Gitiles ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Servers:
    cloud_tasks: CloudTasksServer
    buildbucket: BuildbucketServer
    gitiles: GitilesServer
    optional: OptionalServers


def _start_servers(base: _Base, pubsub: FaultyPubSub, events: CommitEvents) -> _Servers:
    options, ports = base.options, base.options.ports
    gitiles = GitilesServer(base.folders.repositories, port=require_free(ports.gitiles, "Gitiles"))

    def remote(host: str, project: str) -> str:
        return f"{gitiles.url}/{host}/{project}"

    builds = LocalBuilds(options, base.folders.configs, base.folders.repositories, remote, base.feed)
    servers = _Servers(
        CloudTasksServer(
            clock=base.clock,
            port=require_free(ports.cloud_tasks, "Cloud Tasks"),
            keys_port=require_free(ports.cloud_tasks_keys, "the keys of Cloud Tasks"),
            issuer=base.front_end.authority.issuer if base.front_end else None,
        ),
        BuildbucketServer(
            base.clock,
            pubsub,
            port=require_free(ports.buildbucket, "Buildbucket"),
            service_account=PUBLISHER,
            hostname=BUILDBUCKET_HOST,
            default_plan=options.plan,
            plan_source=builds.plan,
            parallel=builds.parallel,
        ),
        gitiles,
        start_optional_servers(
            options, base.clock, base.folders.repositories, pubsub, events, base.feed, remote, base.stack
        ),
    )
    watched = partial(watched_repositories, base.folders.configs, options.config_rules)
    around = servers.gitiles.around
    around.pushed, around.watched = events.pushed, watched
    around.missing = MissingRepositories(base.feed, watched)
    if servers.optional.github is not None:
        servers.optional.github.around.watched = watched
        servers.optional.github.around.missing = around.missing
    base.stack.enter_context(servers.cloud_tasks)
    for server in (servers.buildbucket, servers.gitiles):
        server.start()
        base.stack.callback(server.stop)
    servers.buildbucket.around.gitiles_url = servers.gitiles.url
    servers.buildbucket.around.subjects = Subjects(base.folders.repositories)
    servers.buildbucket.on_change(BuildFeed(base.feed, servers.buildbucket.url).changed)
    servers.cloud_tasks.create_queue(queue_path(options.project), QUEUE_RATES, QUEUE_RETRIES)
    return servers


# The functions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Functions:
    handed_out: Mapping[str, str]
    """The addresses under which the other parts reach them."""
    environment: Mapping[str, str]
    """That of ``on_task``."""
    running: Mapping[str, Function]
    memory: MemoryHost | None


def _start_functions(base: _Base, backends: _Backends, servers: _Servers) -> _Functions:
    options = base.options
    # The addresses are chosen before any function starts, because each function needs the addresses of the others.
    ports = {name: require_free(_port(base, name), f"the function {name}") for name in options.functions}
    handed_out = _hand_out(base, {name: f"http://{HOST}:{port}" for name, port in ports.items()})
    environments = _environments(base, backends, servers, handed_out)
    if "on_github_push" in handed_out and options.host_functions:
        servers.optional.send_webhooks_to(handed_out["on_github_push"])
    if not options.host_functions:
        return _Functions(handed_out, environments["on_task"], {}, None)
    options.on_progress(f"starting the {_NUMBERS[len(ports)]} functions")
    log = FunctionLog(base.feed, handed_out["console"], partial(_speed, base.clock))
    memory = MemoryHost(base.clock, base.folders.log("functions")) if options.store == "memory" else None
    if options.kept:
        base.stack.callback(_save, base, backends, servers, memory)  # after the functions have stopped
    if memory is not None:
        _start_memory(base, environments, log, memory)
    running: dict[str, Function] = {}
    base.stack.callback(_stop_together, running.values())
    for name, port in ports.items():
        running[name] = (
            InProcessFunction(name, memory.output, port, _own_app(name, environments[name], base.clock))
            if memory is not None
            else FunctionProcess(name, environments[name], port, log=base.folders.log(name))
        )
        running[name].output.listen(log.read)
        running[name].start()
    return _Functions(handed_out, environments["on_task"], running, memory)


def _own_app(name: str, environment: Mapping[str, str], clock: Clock) -> WSGIApplication | None:
    """Return the application of a function that shares nothing with the others; None for the other functions."""
    return webhook_app(environment, clock) if name == "on_github_push" else None


def _speed(clock: Clock) -> float:
    return clock.speed if isinstance(clock, AdjustableClock) else 1.0


def _port(base: _Base, name: str) -> int:
    """Return the wanted port of a function. Behind a front end, people open the front end's port."""
    wanted: int = getattr(base.options.ports, name)
    return 0 if base.front_end is not None and name == "console" else wanted


def _hand_out(base: _Base, urls: Mapping[str, str]) -> Mapping[str, str]:
    """Return the addresses of the functions, which listen at ``urls``, for the other parts; start the front end."""
    intercept, front_end = base.options.interceptors.http, base.front_end
    relayed = {name: url if name == "console" else intercept(name, url) for name, url in urls.items()}
    if front_end is None:
        return relayed
    front_end.start(relayed)
    base.stack.callback(front_end.stop)
    found = {name: front_end.url(name, "push" if name in EVENT_FUNCTIONS else "internet") for name in relayed}
    return found | {"on_task": front_end.url("on_task", "internal"), "console": front_end.console_url}


def _start_memory(
    base: _Base, environments: Mapping[str, Mapping[str, str]], log: FunctionLog, memory: MemoryHost
) -> None:
    if base.options.kept:
        base.options.kept.load_documents(memory.store)
    memory.output.listen(log.read)
    memory.start(environments["on_task"], environments if base.front_end else {})
    base.stack.callback(memory.stop)


def _save(base: _Base, backends: _Backends, servers: _Servers, memory: MemoryHost | None) -> None:
    """Save the state, if all parts had started. The builds come last: a status check finds their ends."""
    options = base.options
    if options.kept is None or not base.was_up.is_set():
        return

    def documents(folder: Path) -> None:
        if memory is not None:
            write_documents(folder, memory.store)
        else:
            export_documents(backends.firestore_address, options.project, folder / "firestore")

    def builds() -> Mapping[str, Any]:
        return {**servers.buildbucket.export_state(), **servers.optional.export_state(_kept_builds(options))}

    options.kept.save(options.store, options.project, base.clock.now(), documents=documents, builds=builds)


def _kept_builds(options: Options) -> Mapping[str, Any]:
    """Return the builds of the run before; an empty state if there are none."""
    return (options.kept.builds if options.kept else None) or {}


def _restore_builds(base: _Base, servers: _Servers) -> None:
    """Continue with the builds of the run before. A build that ran at its end has failed, and announces that.

    Raises:
        LocalCloudError: the state is damaged.
    """
    kept = base.options.kept
    builds = kept.builds if kept else None
    if kept is None or builds is None:
        return
    try:
        servers.buildbucket.import_state(builds)
        servers.optional.import_state(builds)
    except ValueError as error:
        raise LocalCloudError(f"{kept.folder}: {error}; --fresh forgets the state") from error


def _environments(
    base: _Base, backends: _Backends, servers: _Servers, handed_out: Mapping[str, str]
) -> Mapping[str, Mapping[str, str]]:
    """Return the environment of each function."""
    options = base.options
    interceptors, firestore = options.interceptors, backends.firestore_address
    addresses = Addresses(
        project=options.project,
        firestore=interceptors.grpc("firestore", firestore) if firestore else "",
        pubsub=backends.pubsub_address,
        cloud_tasks=interceptors.grpc("cloud_tasks", servers.cloud_tasks.grpc_address),
        certs=servers.cloud_tasks.certs_url,
        buildbucket=interceptors.http("buildbucket", servers.buildbucket.url),
        gitiles=servers.gitiles.url,
        on_task=handed_out["on_task"],
        links=servers.optional.links(_kept_builds(options)),
    )
    announces = announcing(options, backends.pubsub, backends.pubsub_address, handed_out["console"], base.stack)
    return {
        name: function_environment(
            addresses,
            protocol=options.protocol,
            config_folder=base.folders.configs,
            check_interval_seconds=options.check_interval_seconds,
            extra={
                **(base.front_end.settings(name) if base.front_end else {}),
                **_catch_up(options),
                **announces,
                **servers.optional.settings(options, interceptors.http),
                **options.settings,
            },
        )
        for name in options.functions
    }


def _catch_up(options: Options) -> Mapping[str, str]:
    """Return settings with which the sweep soon finds the tasks that the queue of the run before had."""
    if options.kept is None or options.kept.header is None or options.speed > 1:
        return {}
    return {"SCHEDULER_SWEEP_GRACE_SECONDS": str(_SWEEP_GRACE_SECONDS)}


def _start_schedules(cloud: LocalCloud, stack: ExitStack) -> None:
    sweep_seconds = cloud.options.sweep_seconds
    if cloud.options.kept and cloud.options.kept.header:
        sweep_seconds = min(sweep_seconds, 2 * _SWEEP_GRACE_SECONDS)
        cloud.task("sweep")
    for kind, seconds in (("sweep", sweep_seconds), ("sync", cloud.options.sync_seconds)):
        if seconds:
            scheduler = CloudScheduler(partial(_run_schedule, cloud, kind), seconds)
            scheduler.start()
            stack.callback(scheduler.stop)
            cloud.schedules[kind] = scheduler


def _run_schedule(cloud: LocalCloud, kind: str) -> None:
    if cloud.front_end is None:
        cloud.task(kind)
        return
    status = cloud.front_end.run_schedule(kind).status
    if status != OK:
        raise TransientError(f"the {kind} was answered {status}")


def _stop_together(running: Iterable[OfficialEmulator | Function]) -> None:
    """Stop all functions at the same time, because each may take seconds."""
    stops = [item.stop for item in running]
    with ThreadPoolExecutor(max(1, len(stops))) as pool:
        for future in [pool.submit(stop) for stop in stops]:
            future.result()
