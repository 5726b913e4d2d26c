"""The engine on memory ports and a virtual clock.

It plays a script, optionally with faults, and records its actions.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

import structlog

from emulator.memory.gitiles import MemoryGitiles
from emulator.memory.ports import memory_ports
from emulator.memory.store import MemoryStore
from emulator.memory.system import SeededEntropy
from emulator.memory.topic import MemoryTopic
from emulator.storm.kernel import Kernel
from emulator.storm.patches import without_threads
from luci_scheduler.bootstrap import make_app
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import JobNotFoundError, SchedulerError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import MILLISECOND, MINUTE, SECOND, Instant
from luci_scheduler.core.queue_tasks import SweepTask
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.engine.jobs import pause_job, resume_job
from luci_scheduler.engine.progress import on_notification
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.engine.tasks import on_task
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import (
    BuildbucketError,
    CreateInvocation,
    CreateTrigger,
    Fetched,
    LogPage,
    QueueTask,
    UpdateInvocation,
    UpdateTrigger,
)
from luci_scheduler.settings import BuildbucketServer, Settings
from tests.simulation.project import HOST, START, Event, JobSpec, Script, config_text, duration

__all__ = [
    "ALL_FAULTS",
    "LISTING",
    "Arrived",
    "Discarded",
    "Ended",
    "Faults",
    "History",
    "Key",
    "Record",
    "Simulation",
    "Started",
    "play",
]

LISTING = 150 * MILLISECOND
"""How long a listing of refs takes."""

_BACKOFF = (SECOND, 60 * SECOND)
Key = tuple[Any, ...]
"""Names a trigger in the naive model's terms."""


Record = Callable[[int, Mapping[str, Any]], None]
"""Gets the instant and the members of each log line."""


class Crash(BaseException):
    """The process dies. No code catches this."""


@dataclass(frozen=True, slots=True)
class Faults:
    """The rate of each fault, as a share of the occasions. All zero means no faults and no delays."""

    late: float = 0.0
    repeated: float = 0.0
    early: float = 0.0
    lost_task: float = 0.0
    lost_notification: float = 0.0
    refused: float = 0.0
    """A call or a commit fails without effect."""
    unanswered: float = 0.0
    """It takes effect, and its answer is lost."""
    crash: float = 0.0
    """The handler dies after the commit."""
    slow: float = 0.0
    """A commit takes some milliseconds, in which others run."""

    @property
    def any(self) -> bool:
        """Whether there are any faults."""
        return self != Faults()


ALL_FAULTS = Faults(
    late=0.1, repeated=0.05, early=0.05, lost_task=0.01, lost_notification=0.05, refused=0.01, unanswered=0.01,
    crash=0.005, slow=0.2,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Started:
    """An invocation was created."""

    number: int
    """Of the commit, which may have created several invocations."""
    seen: int
    """The number of the last commit that the decision can have seen."""
    at: int
    """The instant of the decision."""
    started: int
    identifier: int
    triggers: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """An invocation's end was recorded."""

    number: int
    at: int
    identifier: int
    status: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A trigger was recorded, for the first time or as a new request under an old ID."""

    number: int
    at: int
    key: Key
    order: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Discarded:
    """A trigger was discarded."""

    number: int
    at: int
    key: Key
    reason: str


@dataclass
class History:
    """The commits of the store, by job name; instants in nanoseconds."""

    starts: dict[str, list[Started]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[str, list[Ended]] = field(default_factory=lambda: defaultdict(list))
    arrivals: dict[str, list[Arrived]] = field(default_factory=lambda: defaultdict(list))
    discards: dict[str, list[Discarded]] = field(default_factory=lambda: defaultdict(list))
    commits: int = 0
    builds: Counter[int] = field(default_factory=Counter)
    """Invocation → the number of its builds."""
    counts: Counter[str] = field(default_factory=Counter)
    began: dict[int, int] = field(default_factory=dict)
    """Invocation → its start."""
    swept_and_lost: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Instants at which a sweep's task was lost. The sweep repeats it after ten minutes, and then hourly."""
    tips: dict[tuple[str, int], str] = field(default_factory=dict)
    """Repository and instant → the newest commit of the push."""
    _over: set[int] = field(default_factory=set)
    _pending: set[tuple[str, Key]] = field(default_factory=set)

    def key(self, trigger: Trigger) -> Key:
        """Name a trigger."""
        if trigger.kind == "cron":
            return ("cron", trigger.created)
        if trigger.kind == "noop":
            return ("noop", trigger.job_id, self.began[trigger.invocation_id], trigger.order_in_batch)
        return (trigger.id,)

    def record(self, writes: Sequence[Any], now: int, since: int, seen: int) -> None:
        """Record a landed commit. It was requested at ``since``, after ``seen`` other commits."""
        self.commits += 1
        for write in writes:
            match write:
                case CreateInvocation(invocation):
                    name, keys = _name(invocation.job_id), tuple(self.key(t) for t in invocation.incoming_triggers)
                    self.began[invocation.id] = invocation.started
                    self.starts[name].append(
                        Started(self.commits, seen, since, invocation.started, invocation.id, keys)
                    )
                    # A cron trigger that is consumed at once has no separate document.
                    for trigger in invocation.incoming_triggers:
                        if trigger.kind == "cron":
                            self._arrived(name, trigger, now)
                case UpdateInvocation(invocation) if invocation.status.is_final and invocation.id not in self._over:
                    self._over.add(invocation.id)
                    ended = Ended(self.commits, now, invocation.id, str(invocation.status))
                    self.ends[_name(invocation.job_id)].append(ended)
                case CreateTrigger(record) | UpdateTrigger(record):
                    self._record_trigger(record, now)

    def _record_trigger(self, record: TriggerRecord, now: int) -> None:
        name, key = _name(record.job_id), self.key(record.trigger)
        self._arrived(name, record.trigger, now)
        self._pending.add((name, key))
        if not record.is_pending:
            self._pending.discard((name, key))
        if record.discarded:
            self.discards[name].append(Discarded(self.commits, now, key, record.discarded))

    def _arrived(self, name: str, trigger: Trigger, now: int) -> None:
        """Record a trigger that is new, or that is requested again after its end."""
        key = self.key(trigger)
        if (name, key) not in self._pending:
            order = (trigger.created, trigger.order_in_batch, trigger.id.encode())
            self.arrivals[name].append(Arrived(self.commits, now, key, order))


class _Store(MemoryStore):
    def __init__(self, world: Simulation) -> None:
        super().__init__()
        self._world = world

    def commit(self, writes: Any) -> Any:
        world, since, seen = self._world, self._world.kernel.now(), self._world.history.commits
        world.maybe_refuse("the store")
        if world.happens(world.faults.slow):
            world.kernel.sleep(world.draw(80) * MILLISECOND)
        versions = super().commit(writes)
        world.history.record(writes, world.kernel.now(), since, seen)
        world.history.counts["W"] += len(writes)
        world.maybe_lose_the_answer("the store")
        if world.happens(world.faults.crash):
            raise Crash
        return versions


class _Buildbucket:
    def __init__(self, world: Simulation) -> None:
        self._world = world
        self._by_request: dict[str, dict[str, Any]] = {}
        self._builds: dict[str, dict[str, Any]] = {}
        self._numbers: Counter[str] = Counter()

    def v1(self, *_: Any, **__: Any) -> dict[str, Any]:
        raise AssertionError("this server speaks v2")

    def v2(self, _server: str, method: str, request: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        world = self._world
        world.history.counts[method] += 1
        if world.faults.any:
            world.kernel.sleep(20 * MILLISECOND + world.draw(400) * MILLISECOND)
        world.maybe_refuse("Buildbucket", partial(BuildbucketError, "UNAVAILABLE", "no", transient=True))
        answer: dict[str, Any] = getattr(self, f"_{method}")(request)
        world.maybe_lose_the_answer("Buildbucket", partial(BuildbucketError, "DEADLINE_EXCEEDED", "", transient=True))
        return dict(answer)

    def _ScheduleBuild(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802 - the method's name
        known = self._by_request.get(request["requestId"])
        if known is not None:
            return known
        world, name = self._world, request["builder"]["builder"]
        number = self._numbers[name]
        self._numbers[name] += 1
        build = {"id": str(9_000_000_000 - len(self._builds)), "status": "SCHEDULED", "builder": request["builder"]}
        self._by_request[request["requestId"]] = self._builds[build["id"]] = build
        world.history.builds[int(request["requestId"])] += 1
        end = world.kernel.now() + duration(world.seed, world.specs[name], number)
        tags = {tag["key"]: tag["value"] for tag in request["tags"]}
        world.kernel.at(end, lambda: self._end(build, tags))
        return build

    def _end(self, build: dict[str, Any], tags: Mapping[str, str]) -> None:
        if build["status"] == "SCHEDULED":
            build["status"] = "SUCCESS"
            self._world.notify(tags["scheduler_job_id"], tags["scheduler_invocation_id"], build["id"])

    def _SearchBuilds(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        found = self._by_request.get(request["predicate"]["tags"][0]["value"])
        return {"builds": [dict(found)] if found else []}

    def _GetBuild(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._builds[request["id"]]

    def _CancelBuild(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._builds[request["id"]]["status"] = "CANCELED"
        return self._builds[request["id"]]


class _Gitiles:
    """Several repositories. A listing of refs takes a moment, and returns the state at its end."""

    def __init__(self, world: Simulation, repos: Sequence[str]) -> None:
        self._world = world
        self.repos = {repo: MemoryGitiles() for repo in repos}

    def refs(self, repo: RepoUrl, prefix: str) -> Mapping[str, str]:
        self._world.kernel.sleep(LISTING)
        self._world.history.counts["refs"] += 1
        return self.repos[str(repo)].refs(repo, prefix)

    def log(self, repo: RepoUrl, revision: str, **options: Any) -> LogPage:
        return self.repos[str(repo)].log(repo, revision, **options)


class _Fetch:
    def __init__(self, world: Simulation) -> None:
        self._world = world
        self._numbers: Counter[str] = Counter()

    def get(self, url: str, timeout: int, max_bytes: int) -> Fetched:
        name = url.removeprefix("https://").partition(".")[0]
        number = self._numbers[name]
        self._numbers[name] += 1
        self._world.kernel.sleep(duration(self._world.seed, self._world.specs[name], number))
        return Fetched(200, "200 OK", (), b"", 0)


class _Queue:
    """Cloud Tasks: at least once, in no order, late, a little early. A name can be used once."""

    def __init__(self, world: Simulation) -> None:
        self._world = world
        self._names: set[str] = set()
        self._number = 0

    def enqueue(self, task: QueueTask) -> None:
        world = self._world
        world.maybe_refuse("the queue")
        if task.name and task.name in self._names:
            return
        self._names |= {task.name} - {""}
        self._number += 1
        world.history.counts["T"] += 1
        if world.happens(world.faults.lost_task):
            world.history.counts["tasks lost"] += 1
            if world.is_sweeping:
                world.history.swept_and_lost[_name(task.payload.get("job", ""))].append(world.kernel.now())
            return
        eta, key = task.eta, f"task-{self._number}"
        if world.happens(world.faults.early):
            eta = Instant(max(world.kernel.now(), eta - world.draw(900) * MILLISECOND))
        elif world.happens(world.faults.late):
            eta = Instant(eta + world.draw(20_000) * MILLISECOND)
        copies = 2 if world.happens(world.faults.repeated) else 1
        for copy in range(copies):
            later = copy * world.draw(60_000) * MILLISECOND
            world.deliver(eta + later, partial(on_task, world.runtime, task.kind, task.payload, key))


class Simulation:
    """One run of a script."""

    def __init__(
        self,
        script: Script,
        seed: int,
        faults: Faults,
        record: Record | None = None,
        *,
        topic: MemoryTopic | None = None,
    ) -> None:
        self.kernel = Kernel(Instant(START))
        self.record = record
        self.history = History()
        self.faults = faults
        self.seed = seed
        self.specs: dict[str, JobSpec] = {spec.name: spec for spec in script.specs}
        self.is_sweeping = False
        self._entropy = random.Random(seed + 1)  # noqa: S311 - nothing secret
        self._script = script
        self._revisions = 0
        self._gitiles = _Gitiles(self, script.repos)
        self.store = _Store(self)
        server = BuildbucketServer(HOST, "cr-buildbucket@appspot.gserviceaccount.com", Era.V2)
        settings = Settings(
            project="p", task_url="https://t.invalid", task_account="t@p", token_secrets=("secret",), concurrency=1,
            buildbucket_servers=(server,), commit_wait_seconds=0,
        )  # fmt: skip
        ports = replace(
            memory_ports(), store=self.store, queue=_Queue(self), clock=self.kernel, entropy=SeededEntropy(seed),
            fetch=_Fetch(self), buildbucket=_Buildbucket(self), gitiles=self._gitiles, topic=self._faulty(topic),
        )  # fmt: skip
        self.runtime = make_app(settings, ports).runtime

    def run(self) -> History:
        """Play the script to its end."""
        self.deliver(START, partial(self._sync, self._script.specs, "sync-0"))
        for number, event in enumerate(self._script.events):
            self.kernel.at(event.at, partial(self._happen, event, f"{event.kind}-{number}"))
        self.kernel.at(START + MINUTE, self._sweep)
        with without_threads():
            try:
                self.kernel.run(self._script.end)
            finally:
                self.kernel.close()
        return self.history

    def happens(self, share: float) -> bool:
        """Draw whether a fault occurs."""
        return share > 0 and self._entropy.random() < share

    def draw(self, below: int) -> int:
        """Draw a number."""
        return self._entropy.randrange(below)

    def maybe_refuse(self, what: str, make: Callable[[], Exception] | None = None) -> None:
        """Sometimes fail without effect."""
        if self.happens(self.faults.refused):
            raise make() if make else TransientError(f"{what} is down")

    def maybe_lose_the_answer(self, what: str, make: Callable[[], Exception] | None = None) -> None:
        """Sometimes fail after the effect."""
        if self.happens(self.faults.unanswered):
            raise make() if make else TransientError(f"{what} did not answer")

    def notify(self, job_id: str, invocation_id: str, build_id: str) -> None:
        """Deliver a build's notification at least once, unless it is lost."""
        if self.happens(self.faults.lost_notification):
            return
        call = partial(
            on_notification, self.runtime, JobId(job_id), InvocationId(int(invocation_id)), f"end-{build_id}"
        )
        late = self.draw(3_000) * MILLISECOND if self.faults.any else 0
        for copy in range(2 if self.happens(self.faults.repeated) else 1):
            again = self.draw(90_000) * MILLISECOND if copy else 0
            self.deliver(self.kernel.now() + late + again, call)

    def deliver(self, instant: int, call: Callable[[], None], attempt: int = 0) -> None:
        """Call a handler until it succeeds. Without faults, the first call must."""

        def process() -> None:
            self.history.counts["deliveries"] += 1
            try:
                call()
            except (SchedulerError, Crash) as error:
                if not self.faults.any:
                    raise AssertionError(f"a run without faults failed: {error!r}") from error
                self.history.counts["deliveries repeated"] += 1
                pause = min(_BACKOFF[0] << min(attempt, 10), _BACKOFF[1])
                self.deliver(self.kernel.now() + pause, call, attempt + 1)

        self.kernel.spawn(instant, process)

    def _faulty(self, topic: MemoryTopic | None) -> MemoryTopic | None:
        if topic is not None:
            topic.before_publish = partial(self.maybe_refuse, "the topic")
            topic.after_publish = self._after_publish
        return topic

    def _after_publish(self) -> None:
        self.maybe_lose_the_answer("the topic")
        if self.happens(self.faults.crash):
            raise Crash

    def _sweep(self) -> None:
        self.deliver(self.kernel.now(), self._sweep_once)
        self.kernel.at(self.kernel.now() + MINUTE, self._sweep)

    def _sweep_once(self) -> None:
        if self.record:
            on_task(self.runtime, SweepTask.kind, SweepTask(None, self.kernel.now()).payload(), "sweep")
            return
        self.is_sweeping = True  # nothing else runs at the same time: the sweep does not wait
        try:
            swept = sweep(self.runtime).tasks
        finally:
            self.is_sweeping = False
        self.history.counts["tasks swept"] += swept
        if swept and not self.faults.any:
            raise AssertionError("the sweep found work although no task was lost")

    def _sync(self, specs: Sequence[JobSpec], key: str) -> None:
        sync_project(self.runtime, ConfigFile("p", config_text(specs), key), key)
        record = self.store.project("p")
        if record is None or record.value.problems:
            raise AssertionError(f"the config is not valid: {record}")

    def _happen(self, event: Event, key: str) -> None:
        now, job_id = self.kernel.now(), JobId(f"p/{event.job}")
        match event.kind:
            case "push":
                hashes = self._gitiles.repos[event.repo].push(event.ref, event.count, at=now)
                self.history.tips[event.repo, now] = hashes[-1]
                if event.published:
                    commit = CommitEvent(event.repo, event.ref, hashes[-1])
                    self.deliver(now, partial(on_commit, self.runtime, commit, now, key))
            case "delete":
                self._gitiles.repos[event.repo].heads.pop(event.ref, None)
            case "config":
                self.specs.update({spec.name: spec for spec in event.specs})
                self.deliver(now, partial(self._sync, event.specs, key))
            case "emit":
                trigger = Trigger(event.trigger_id, now, "buildbucket", {})
                self.deliver(now, partial(accept_triggers, self.runtime, job_id, [trigger], key))
            case "pause" | "resume":
                self.deliver(now, partial(self._pause_or_resume, event.kind, job_id, key))

    def _pause_or_resume(self, kind: str, job_id: JobId, key: str) -> None:
        change = pause_job if kind == "pause" else resume_job
        try:
            change(self.runtime, job_id, "user:a@example.com", "", key)
        except JobNotFoundError:
            self.history.counts["changes of disabled jobs"] += 1


def play(
    script: Script,
    seed: int,
    faults: Faults = Faults(),
    record: Record | None = None,
    *,
    topic: MemoryTopic | None = None,
) -> Simulation:
    """Play a script on the engine, which announces to ``topic``. Return the world in its final state."""
    simulation = Simulation(script, seed, faults, record, topic=topic)
    with _logging(simulation):
        simulation.run()
        return simulation


@contextmanager
def _logging(simulation: Simulation) -> Iterator[None]:
    """Log to ``record``, or nothing: millions of lines would take longer than everything else."""

    def write(_: object, level: str, event: MutableMapping[str, Any]) -> NoReturn:
        assert simulation.record is not None
        severity = "ERROR" if level == "exception" else level.upper()
        simulation.record(simulation.kernel.now(), {"severity": severity, "message": event.pop("event"), **event})
        raise structlog.DropEvent

    before = structlog.get_config()
    least = logging.INFO if simulation.record else logging.CRITICAL
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(least),
        processors=[structlog.contextvars.merge_contextvars, write],
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _name(job_id: str) -> str:
    return job_id.partition("/")[2]
