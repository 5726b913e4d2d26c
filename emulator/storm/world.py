"""The world of one run: the real functions on services in memory, on one virtual clock.

Real are the entry points of all four functions (`luci_scheduler.entry`) with their envelopes, tokens and budgets, and
below them the engine, the managers, the API, the sync of configs, and the adapters of Buildbucket, Gitiles, Cloud
Tasks, Pub/Sub, Cloud Storage and the callers' tokens. The adapters speak to servers in memory, over a session that has
no sockets. Time limits, leases, pauses and retries are those of production, in virtual time.

Modeled are:

- the store, which is `MemoryStore` with the size limits and preconditions of Firestore. Its errors pass through the
  real adapter's translation. A commit can land late, or land and be reported as aborted.
- Buildbucket in both protocols: request IDs known for a minute (v1: a cache that can miss), stale builds, searches that
  lag, quotas, refusals, proxies, hangs until the caller's limit, requests that land after it, slow cancellations.
- Cloud Tasks: at least once, late, early, lost, doubled, named tasks, backoff, the dispatch deadline, pauses, purges.
- Pub/Sub: at least once, late, out of order, acknowledgment deadlines, backoff, dead letters.
- The repository host: histories, force pushes, a mirror that lags; and the bucket of configs, whose answers can be old.
- Several instances of each function with clocks that are wrong, deaths, cold starts, and equal IDs of invocations; with
  a `Release`, some of them run the functions of another release on the same documents.
- Users: commits by event and by poll, config and policy changes, removed jobs, pauses, aborts, triggers, reruns,
  backfills, rotated keys.

Handlers are interleaved at each call to the outside, before it lands and before its answer arrives.

Each token of a caller is verified once, by the real verifier. In favor of clients, the cache of v1 loses no request ID
of a build that a lagging search has just hidden (`BuildServer`), and a server ends a request within seconds of its
caller's limit.

Not modeled are: threads inside a delivery (its jobs are handled one after the other), the byte level of HTTP and gRPC,
the service accounts' own tokens, IAM, the platform's front end, probes, `url_fetch`, and pages.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from typing import Any

from emulator.memory.store import MemoryStore
from emulator.storm.buildbucket import BuildServer, Notice
from emulator.storm.choices import Choices, Trace
from emulator.storm.cloud_build import CloudBuildHost, CloudNotice
from emulator.storm.code import Code, todays
from emulator.storm.faults import Fault, Kind
from emulator.storm.github import API_HOST, TOKEN, GitHubHost
from emulator.storm.history import Build, Commit, History, Observer, Run, Schedule
from emulator.storm.instances import Instance, Parts
from emulator.storm.kernel import Kernel
from emulator.storm.outside import Outside
from emulator.storm.patches import replaced
from emulator.storm.platform import LIMITS, Platform, PubSubMessage
from emulator.storm.release import Release
from emulator.storm.repositories import ConfigBucket, RepositoryHost
from emulator.storm.scripts import CLOUD_HOST, GITHUB_REPO, PROJECT, SCENARIOS, V1_HOST, V2_HOST
from emulator.storm.stores import InstanceStore
from emulator.storm.topic import TopicServer
from emulator.storm.users import Users
from emulator.storm.wire import Server, WireSession
from luci_scheduler.core.identifiers import JobId, invocation_created
from luci_scheduler.core.instants import HOUR, LAST_INSTANT, MINUTE, SECOND, Instant, parse_rfc3339
from luci_scheduler.ports import CreateInvocation, UpdateInvocation, Write

__all__ = ["START", "World", "run"]

START = Instant(parse_rfc3339("2026-02-09T12:00:00Z") + 123_456)
"""An odd instant, so that intervals counted from it never coincide with calendar times."""

_CALM = 6 * HOUR
"""The longest time until everything has come to its end after the last fault."""
_RECOVERY = 10 * MINUTE
"""How long schedules go on after the last fault."""
_INSTANCES = {"on_gitiles_commit": 2, "on_build_completion": 2, "on_task": 3, "console": 2, "on_cloud_build": 2}
_FOUND = 360
"""Seconds until two polls had the time to find a commit."""
_ROLLOUT = 20 * SECOND
"""The pause between the restarts of two instances when their settings change."""
_NOTICE = (Kind.NOTICE_LOST, Kind.NOTICE_LATE, Kind.NOTICE_DOUBLED)


class World:
    """Everything that a run consists of."""

    def __init__(self, schedule: Schedule, observers: Sequence[Observer] = (), release: Release | None = None) -> None:
        self.schedule = schedule
        self._release = release
        # Without another release, there is no old version to run.
        without = schedule.without if release else schedule.without | {Kind.OLD_VERSION}
        self.kernel = Kernel(START)
        self.trace = Trace()
        self.choices = Choices(
            schedule.seed, schedule.faults, without=without, rate=schedule.rate, focus=schedule.focus, trace=self.trace
        )
        self.history = History()
        self.store = MemoryStore()
        """The documents, without faults."""
        self.outside = Outside(self.kernel, self.choices, self.history, self.trace)
        self.platform = Platform(self.kernel, self.choices, self.history, self.trace, self.outside)
        self.script = SCENARIOS[schedule.scenario](self.choices)
        self._github = GitHubHost(self.kernel, self.history) if self.script.repo == GITHUB_REPO else None
        self.host, self.bucket = self._github or RepositoryHost(self.kernel), ConfigBucket(self.kernel)
        self.users = Users(self.script, self.kernel, self.platform, self.history, self.store, self.host, self.bucket)
        self._observers = observers
        self._secrets = ["", "signing-secret-0", "signing-secret-1"]
        self._servers = self._make_servers()
        self._parts = Parts(
            self.kernel, self.outside, self.choices, self.platform.queue, WireSession(self.outside, self._server_of),
            self._make_store, release, self._github is not None, [],
        )  # fmt: skip
        self.storm_end = Instant(START + self.script.minutes * MINUTE)
        """When the last fault can happen. An outage may last longer."""

    @property
    def live_builds(self) -> list[Build]:
        """The builds that have not ended."""
        return [build for build in self.history.builds if build.is_live]

    @property
    def instances(self) -> list[Instance]:
        """The instances of all functions."""
        return [instance for instances in self.platform.instances.values() for instance in instances]

    def run(self) -> Run:
        """Play the schedule to its end.

        Raises:
            Exception: an observer or the world itself failed.
        """
        try:
            with replaced(self.outside, START, self._log, [Code(), *([Code(self._release)] if self._release else [])]):
                self._start()
                self._play()
        finally:
            self.kernel.close()
        is_quiet = self.is_quiet()
        self._observe(lambda observer: observer.ended(self))
        if self.kernel.failure is not None:
            raise self.kernel.failure
        self._trace_store()
        secrets = (*filter(None, self._secrets), *self.tokens(), TOKEN)
        return Run(
            self.schedule, self.history, tuple(self.choices.happened), self.trace.hexdigest(), self.trace.effect(),
            self.store, self.storm_end, self.kernel.now(), is_quiet, secrets,
        )  # fmt: skip

    def is_quiet(self) -> bool:
        """Whether nothing is in flight, apart from ticks of schedules and events about lost commits."""
        far = LAST_INSTANT
        works = [work for work in self.store.due_deferred(far, 100) if work.revision not in self.history.lost]
        kinds = ("cron",) if works else ("cron", "deferred")
        return not (
            self.platform.pending
            or self.users.plans
            or any(instance.open for instance in self.instances)
            or any(task.kind not in kinds for task in self.platform.queue.tasks.values())
            or self.live_builds
            or self.store.due_invocations(far, 1)
            or works
            or any(self.store.pending_triggers(JobId(f"{PROJECT}/{job.name}"), 1) for job in self.script.jobs)
        )

    def tokens(self) -> list[str]:
        """Return the notifications' tokens that reached a Buildbucket server."""
        found = []
        for request in self.history.requests:
            body = json.loads(request.request)
            found += [
                (body.get("notify") or {}).get("userData", ""),
                (body.get("pubsub_callback") or {}).get("auth_token"),
            ]
        return [token for token in found if token]

    def _make_servers(self) -> dict[str, Server]:
        builds = [
            BuildServer(host, self.kernel, self.choices, self.history, self._built, self._notify)
            for host in (V2_HOST, V1_HOST)
        ]
        topic = TopicServer(self.kernel, self.history)
        return {
            V2_HOST: builds[0],
            V1_HOST: builds[1],
            CLOUD_HOST: CloudBuildHost(self.kernel, self.choices, self.history, self._built, self._notify_cloud),
            "r.googlesource.com": self.host,
            API_HOST: self.host,
            "storage.googleapis.com": self.bucket,
            "pubsub.googleapis.com": topic,
        }

    def _server_of(self, host: str) -> Server:
        return self._servers[host]

    def _start(self) -> None:
        for function in LIMITS:
            if function == "on_cloud_build" and not self.script.has_cloud_builds:
                continue
            made = [
                Instance(self._parts, function, number, self._secrets[-3:]) for number in range(_INSTANCES[function])
            ]
            self.platform.instances[function] = made
        self.users.push(published=False)
        for second, published in self.script.pushes:
            self.kernel.at(START + second * SECOND, lambda published=published: self.users.push(published=published))  # type: ignore[misc]
        for action in self.script.actions:
            self.kernel.at(
                START + action.second * SECOND,
                lambda action=action: self.users.act(action.kind, action.amount),  # type: ignore[misc]
            )
        self.kernel.at(START, lambda: self._minute(0))

    def _play(self) -> None:
        if self.schedule.is_brief and self._play_briefly():
            return
        self.kernel.run(self.storm_end)
        self.choices.is_calm = True
        self.storm_end = max(
            self.storm_end, self.platform.queue.paused_until, *self.outside.outages.until.values(), START
        )
        end = self.storm_end + _CALM
        self.kernel.run(self.storm_end + _RECOVERY)
        self._observe(lambda observer: observer.recovered(self))
        self.users.stop_schedules()
        self.kernel.run(self.kernel.now() + MINUTE)
        while self.kernel.now() < end and not self.is_quiet():
            self.kernel.run(self.kernel.now() + MINUTE)

    def _play_briefly(self) -> bool:
        """Play until nothing is left to happen; return whether that was so before the usual end.

        A request that lands late can surprise a quiet world. So it must be quiet for two minutes without a commit.
        """
        pushes = [second + (0 if published else _FOUND) for second, published in self.script.pushes]
        last = max([0, *pushes, *(action.second for action in self.script.actions)])
        now, commits = Instant(START + last * SECOND), -1
        while (now := Instant(now + 2 * MINUTE)) < self.storm_end + _RECOVERY:
            self.kernel.run(now)
            if self._is_settled() and len(self.history.commits) == commits:
                self.storm_end = min(self.storm_end, now)
                self._observe(lambda observer: observer.recovered(self))
                return True
            commits = len(self.history.commits)
        return False

    def _is_settled(self) -> bool:
        """Whether all given faults have happened, and nothing is left but the next tick of each schedule."""
        given, queue = self.schedule.faults or (), self.platform.queue
        ticks = [task.kind for task in queue.tasks.values()]
        return (
            len(self.choices.happened) == len(given)
            and self.is_quiet()
            and ticks == ["cron"] * self.users.schedules
            and queue.coming == len(ticks)
            and not self.kernel.is_waiting
            and self.kernel.now() >= max(self.outside.outages.until.values(), default=0)
        )

    def _minute(self, number: int) -> None:
        """Call what Cloud Scheduler calls each minute, and let the platform and the users have their faults."""
        now = self.kernel.now()
        self.kernel.at(now + MINUTE, lambda: self._minute(number + 1))
        self.platform.schedule("sync", number)
        self.kernel.at(now + 30 * SECOND, lambda: self.platform.schedule("sweep", number))
        if not self.choices.is_calm:
            for point, act in (("platform/minute", self._befall), ("platform/users", self._use)):
                fault = self.choices.fault(point)
                if fault is not None:
                    act(fault)
            if self._github and self.choices.fault("platform/github") is not None:
                self._github.rename()

    def _befall(self, fault: Fault) -> None:
        """Let a fault of the platform happen."""
        parts = {Kind.STORE_OUTAGE: "store", Kind.BUILD_OUTAGE: "builds", Kind.HOST_OUTAGE: "hosts"}
        until = Instant(self.kernel.now() + fault.amount * MINUTE)
        match fault.kind:
            case Kind.INSTANCE_CRASH | Kind.COLD_START:
                instance = self.instances[fault.amount % len(self.instances)]
                if fault.kind is Kind.INSTANCE_CRASH or not instance.open:
                    instance.restart()
            case Kind.QUEUE_PURGED:
                self.platform.queue.purge()
                self.history.purges.append(self.kernel.now())
            case Kind.QUEUE_PAUSED:
                self.platform.queue.paused_until = until
                self.history.outages.append(("queue", self.kernel.now(), until))
            case kind if part := parts.get(kind):
                self.outside.outages.until[part] = until
                self.history.outages.append((part, self.kernel.now(), until))

    def _use(self, fault: Fault) -> None:
        if fault.kind is Kind.KEY_ROTATION:
            self._rotate()
        else:
            self.users.act(fault.kind, fault.amount)

    def _rotate(self) -> None:
        """Make the next signing secret the current one, in one instance after the other."""
        self._secrets.append(f"signing-secret-{len(self._secrets) - 1}")
        secrets = self._secrets[-3:]
        for number, instance in enumerate(self.instances):
            self.kernel.at(
                self.kernel.now() + number * _ROLLOUT,
                lambda instance=instance: instance.restart(secrets),  # type: ignore[misc]
            )

    def _make_store(self, code: Code) -> InstanceStore:
        """Return the store of an instance."""

        def landed(writes: Sequence[Write]) -> None:
            self._landed(writes if code.release is None else [todays(write, self.store) for write in writes])

        return InstanceStore(code.store(self.store), self.outside, landed, code)

    def _landed(self, writes: Sequence[Write]) -> None:
        """Note a commit that landed, and show it to the observers."""
        delivery = self.outside.running.delivery
        number = len(self.history.commits) + 1
        commit = Commit(number, self.kernel.now(), delivery.handler, delivery.instance, delivery.number, tuple(writes))
        self.history.commits.append(commit)
        self.trace.add("commit", number, commit.at, commit.handler, *map(_described, writes))
        for write in writes:
            if isinstance(write, CreateInvocation):
                self._parts.suffixes.append((commit.instance, *invocation_created(write.invocation.id)))
        self._observe(lambda observer: observer.committed(self, commit))

    def _built(self, build: Build) -> None:
        self.trace.add("build", build.id, build.job_id, build.invocation_id, build.status, self.kernel.now())
        self._observe(lambda observer: observer.built(self, build))

    def _observe(self, look: Callable[[Observer], None]) -> None:
        """Let all observers look. Handlers catch errors, so an observer's error goes to the kernel."""
        for observer in self._observers:
            try:
                look(observer)
            except Exception as error:  # noqa: BLE001 - the kernel raises it
                self.kernel.failure = self.kernel.failure or error

    def _notify(self, notice: Notice) -> None:
        self.history.counts["notices"] += 1
        name = f"notice-{self.history.counts['notices']}"
        now = self.kernel.now()
        message = PubSubMessage(name, "on_build_completion", notice.data, notice.attributes, now)
        self.platform.publish(message, "platform/notice", _NOTICE)

    def _notify_cloud(self, notice: CloudNotice) -> None:
        name = f"cloud-{len(self.history.notices) + 1}"
        self.history.notices[name] = notice.build_id
        message = PubSubMessage(name, "on_cloud_build", notice.data, notice.attributes, self.kernel.now())
        self.platform.publish(message, "platform/notice", _NOTICE)

    def _log(self, line: dict[str, Any]) -> None:
        self.history.log.append({"at": self.kernel.now(), **line})

    def _trace_store(self) -> None:
        for path, document, log in self.store.kept():
            self.trace.add("/".join(path), json.dumps(document, sort_keys=True, default=str), *log)


def run(schedule: Schedule, observers: Sequence[Observer] = (), release: Release | None = None) -> Run:
    """Play a schedule.

    Args:
        schedule: the run.
        observers: watch it.
        release: the functions of another release. Some instances run them (``old-version``); None: none does.

    Raises:
        Exception: as an observer or the world itself raises it. The world is then closed.
    """
    # A world is garbage as a whole when its run is over. To look for garbage meanwhile takes a quarter of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return World(schedule, observers, release).run()
    finally:
        if collects:
            gc.enable()


def _described(write: Write) -> str:
    """Return a short name of a write, equal in each process."""
    match write:
        case CreateInvocation(invocation) | UpdateInvocation(invocation):
            return f"{invocation.job_id}/{invocation.id} {invocation.status} {invocation.commits}"
    return type(write).__name__
