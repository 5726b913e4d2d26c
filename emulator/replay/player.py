"""Playing a scenario: the real functions, served by the functions framework in this process, one delivery at a time."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import functions_framework
import structlog

from emulator.buildbucket.state import BuildbucketRequest
from emulator.clock import SteppedClock
from emulator.errors import one_line
from emulator.memory.queue import MemoryQueue
from emulator.replay.arrivals import cloud_builds_topic, message_of, work_of
from emulator.replay.buildbucket import ScriptedBuildbucket
from emulator.replay.cloud_build import CloudBuildRequest, ScriptedCloudBuild
from emulator.replay.deliveries import ConfigChange, Delivery
from emulator.replay.errors import ReplayError, ScenarioError
from emulator.replay.hosts import ScriptedFetch, ScriptedGitiles
from emulator.replay.memory import MemoryStage
from emulator.replay.scenario import Scenario
from emulator.replay.stage import TASK_ACCOUNT, Answer, Stage
from emulator.replay.timed import (
    ReplayEntropy,
    Stopwatch,
    TimedBuildbucket,
    TimedCalls,
    TimedCloudBuild,
    TimedQueue,
    TimedStore,
    paced,
)
from emulator.supervisor import FUNCTIONS, SOURCE
from emulator.topics import PushSubscription, subscriptions
from luci_scheduler import process
from luci_scheduler.bootstrap import Ports, make_app
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.engine.deferral import defer
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.ports import PutPoller, Queue, Store
from luci_scheduler.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from emulator.replay.emulators import Emulators

__all__ = ["Played", "play"]

_SECRET = "replay"  # noqa: S105 - signs tokens that nobody outside the replay sees
_MOST_LEFT = 10_000  # the largest number of tasks delivered at the end; a queue that never becomes empty is a fault
_SUCCESS = (200, 204)


@dataclass(frozen=True, slots=True)
class Played:
    """The result of a replay."""

    invocations: tuple[tuple[Invocation, str], ...]
    """The invocations of all jobs with their debug logs, the oldest first."""
    now: Instant
    requests: tuple[BuildbucketRequest, ...]
    """The requests to Buildbucket and its answers, in order."""
    answers: tuple[Answer, ...]
    """The answer to each delivery, in order."""
    cloud_requests: tuple[CloudBuildRequest, ...] = ()
    """The requests to Cloud Build, in order."""


def play(
    scenario: Scenario, emulators: Emulators | None = None, *, before_each: Callable[[], None] = lambda: None
) -> Played:
    """Play a scenario to its end. The functions of a process serve one replay at a time.

    Args:
        scenario: the inputs.
        emulators: the official emulators to play on; in memory if None.
        before_each: called before each operation takes its (virtual) time.

    Raises:
        ScenarioError: the scenario does not fit what the scheduler does.
        ReplayError: a function did not accept a delivery.
        LocalCloudError: a part of the real stack cannot run.
    """
    clock = SteppedClock(scenario.begins)
    by_topic = {row.topic: row for row in _subscriptions(scenario)}
    buildbucket = ScriptedBuildbucket(clock, by_topic.__contains__)
    with _stage(emulators, clock, _functions(), buildbucket, by_topic) as stage:
        settings = _settings(scenario, stage)
        player = _Player(scenario, stage, stage.ports(settings), settings, clock, buildbucket, before_each)
        with player.serving():
            player.run()
        return player.result()


@contextmanager
def _stage(
    emulators: Emulators | None,
    clock: SteppedClock,
    functions: Mapping[str, WSGIApplication],
    buildbucket: ScriptedBuildbucket,
    by_topic: dict[str, PushSubscription],
) -> Iterator[Stage]:
    if emulators is None:
        yield MemoryStage(clock, functions, buildbucket.app, by_topic)
        return
    from emulator.replay.emulators import EmulatorStage  # noqa: PLC0415 - loads the clients of Google Cloud

    with EmulatorStage(emulators, clock, functions, buildbucket.app, by_topic) as real:
        yield real


def _subscriptions(scenario: Scenario) -> list[PushSubscription]:
    servers = [server for server in scenario.servers if server.notifications]
    commits, *builds = subscriptions(scenario.project, [server.publisher for server in servers if not server.topic])
    own = [PushSubscription(server.topic, "on_build_completion", 120) for server in servers if server.topic]
    cloud = PushSubscription(cloud_builds_topic(scenario.project), "on_cloud_build", 120)
    return [commits, *builds, *own, *([cloud] if scenario.cloud_build is not None else [])]


@cache
def _functions() -> Mapping[str, WSGIApplication]:
    """Return the functions that deliveries reach. They keep nothing between replays: `process` has all state."""
    return {
        name: functions_framework.create_app(name, str(SOURCE), signature)  # type: ignore[no-untyped-call]
        for name, signature in {**FUNCTIONS, "on_cloud_build": "cloudevent"}.items()
        if name != "console"
    }


class _Player:
    def __init__(
        self,
        scenario: Scenario,
        stage: Stage,
        ports: Ports,
        settings: Settings,
        clock: SteppedClock,
        buildbucket: ScriptedBuildbucket,
        before_each: Callable[[], None],
    ) -> None:
        self._scenario = scenario
        self._stage = stage
        self._ports = ports
        self._settings = settings
        self._clock = clock
        self._buildbucket = buildbucket
        self._faults: list[ReplayError] = []
        self._stopwatch = Stopwatch(clock, scenario.defaults, before_each, self._meanwhile, self._faults.append)
        deadline = settings.request_deadline_seconds * SECOND
        self._calls = TimedCalls(self._stopwatch, clock, buildbucket.own)
        self._client = TimedBuildbucket(ports.buildbucket, self._calls, deadline)
        self._cloud = ScriptedCloudBuild(buildbucket.next_reply)
        self._gitiles = ScriptedGitiles(self._stopwatch, self._faults.append, clock)
        self._fetch = ScriptedFetch(self._stopwatch, self._faults.append)
        self._latest = scenario.begins
        self._answers: list[Answer] = []
        self._logged: deque[str] = deque(maxlen=1)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Make the functions of this process use the replay's ports."""
        entropy = ReplayEntropy(self._scenario.suffixes, self._scenario.check_delays, self._faults.append)
        ports = replace(
            self._ports,
            store=cast("Store", TimedStore(self._ports.store, self._stopwatch)),  # reads are forwarded by name
            queue=TimedQueue(self._ports.queue, self._stopwatch),
            entropy=entropy,
            buildbucket=self._client,
            gitiles=self._gitiles,
            fetch=self._fetch,
            cloud_build=TimedCloudBuild(self._cloud.client(self._clock), self._calls),
        )
        app = make_app(self._settings, ports)
        process.use(replace(app, runtime=paced(app.runtime, self._stopwatch)))
        structlog.configure(processors=[self._note])
        try:
            yield
        finally:
            process.use(None)
            structlog.reset_defaults()

    def run(self) -> None:
        scenario = self._scenario
        self._configure(scenario.config_text, scenario.config_revision, scenario.config_revision_url)
        self._remember_refs()
        for delivery in scenario.deliveries:
            self._deliver(delivery)
        for _ in range(_MOST_LEFT if scenario.drain else 0):
            left = self._stage.waiting()
            if not left:
                return
            self._deliver(Delivery(f"drain: task of {format_rfc3339(Instant(left[0].due))}", "task", None, ""))
        if scenario.drain:
            raise ReplayError(f"drain: the queue is not empty after {_MOST_LEFT} tasks")

    def _untimed(self, queue: Queue) -> Runtime:
        """Return a runtime whose operations take no time, for everything that is not part of a delivery."""
        return replace(process.app().runtime, store=self._ports.store, queue=queue)

    def _configure(self, text: str, revision: str, revision_url: str) -> None:
        file = ConfigFile(self._scenario.config_project, text, revision, revision_url)
        # Ticks of schedules are not part of a scenario, so their tasks go to a queue that nothing delivers from.
        sync_project(self._untimed(MemoryQueue()), file, f"replay-{len(self._answers)}")

    def _remember_refs(self) -> None:
        store = self._ports.store
        for name, poller in self._scenario.pollers.items():
            job_id = JobId(f"{self._scenario.config_project}/{name}")
            found = store.job(job_id)
            polled = kind_of(found.value.definition.task).polled_repo(found.value.definition.task) if found else None
            if polled is None:
                raise ScenarioError(f"pollers.{name}: the config has no gitiles job with this name")
            repo = str(self._settings.commit_hosts.parse(polled.url))
            watched = polled.refs if poller.watched is None else poller.watched
            store.commit([PutPoller(PollerRecord(job_id, repo, dict(poller.known), tuple(watched)), None)])

    def _deliver(self, delivery: Delivery) -> None:
        self._stopwatch.begin(delivery)
        self._buildbucket.begin(delivery)
        self._gitiles.begin(delivery)
        self._fetch.begin(delivery)
        self._logged.clear()
        given_up = self._calls.given_up
        try:
            answer = self._answered(delivery)
            self._answers.append(answer)
            self._check(delivery, answer, given_up=self._calls.given_up > given_up)
        except ReplayError as error:
            if error.located:
                raise
            text = str(error)
            place = f"{delivery.where}{'' if text.startswith('.') else ': '}{text}"
            raise type(error)(place, located=True) from error

    def _answered(self, delivery: Delivery) -> Answer:
        match delivery.kind:
            case "task":
                return self._task(delivery)
            case "config":
                return self._change_config(delivery)
            case "triggers" | "abort":
                return self._work(delivery)
            case _:
                return self._message(delivery)

    def _meanwhile(self, delivery: Delivery) -> None:
        """Deliver while another delivery waits for an operation. A thread keeps the contexts of the two apart."""
        failed: list[ReplayError] = []

        def deliver() -> None:
            try:
                self._deliver(delivery)
            except ReplayError as error:
                failed.append(error)

        with ExitStack() as stack:
            for part in (self._stopwatch, self._buildbucket, self._gitiles, self._fetch):
                stack.enter_context(part.interrupted())
            thread = threading.Thread(target=deliver, name=delivery.where)
            thread.start()
            thread.join()
        # Not raised here, because the handler of the other delivery would answer 500 to it.
        self._faults += failed

    def _check(self, delivery: Delivery, answer: Answer, *, given_up: bool) -> None:
        """Check that a delivery succeeded. A fault of the scenario is reported first, because it causes the others.

        Where the scenario lets Buildbucket fail or answer too late, the function may ask for another delivery, whose
        time is in the scenario.
        """
        if self._faults:
            raise self._faults[0]
        self._buildbucket.require_answers()
        logged = f"; the function's log: {self._logged[-1]}" if self._logged else ""
        said = f"answered {answer.status} {one_line(answer.text)}" if answer.status else "did not answer"
        if delivery.status is not None and answer.status != delivery.status:
            raise ScenarioError(f".status: the function {said}, not {delivery.status}{logged}")
        has_failure = given_up or delivery.dies or any(reply.is_failure for reply in delivery.answers)
        if answer.status not in _SUCCESS and not has_failure and delivery.status is None:
            raise ReplayError(f"the function {said}{logged}")
        if unasked := self._buildbucket.unasked:
            raise ScenarioError(f".answers: {unasked} of them were not used (calls: {self._buildbucket.calls}){logged}")
        self._gitiles.script.require_used()
        self._fetch.script.require_used()
        self._stopwatch.require_events()

    def _task(self, delivery: Delivery) -> Answer:
        waiting = self._stage.waiting()
        tasks = [task for task in waiting if delivery.body in ("", task.kind)]
        if not tasks:
            there = ", ".join(task.kind for task in waiting) or "none"
            now = format_rfc3339(self._clock.now())
            raise ScenarioError(f".task: there is no {delivery.body} task on the queue at {now} (tasks there: {there})")
        self._arrive(Instant(tasks[0].due + delivery.lateness) if delivery.at is None else delivery.at)
        return self._stage.dispatch(tasks[0])

    def _comes(self, delivery: Delivery) -> Instant:
        """Move the clock to the arrival of a delivery that has a time, and return this time."""
        at = delivery.at or self._clock.now()
        if at < self._latest:
            latest = format_rfc3339(self._latest)
            raise ScenarioError(f".at: {format_rfc3339(at)} is before {latest}, when the delivery before it comes")
        self._arrive(at)
        return at

    def _message(self, delivery: Delivery) -> Answer:
        at = self._comes(delivery)
        name = f"message-{len(self._answers)}"
        topic, message = message_of(delivery, self._scenario.project, self._buildbucket, name, at)
        return self._stage.deliver(topic, message)

    def _work(self, delivery: Delivery) -> Answer:
        """Record work as the API does, and deliver its task."""
        self._comes(delivery)
        store, before = self._ports.store, {task.name for task in self._stage.waiting()}
        name = f"message-{len(self._answers)}"
        work = work_of(delivery, self._scenario.config_project, store, name, self._clock.now())
        defer(self._untimed(self._ports.queue), work)
        (task,) = [task for task in self._stage.waiting() if task.name not in before]
        return self._stage.dispatch(task)

    def _change_config(self, delivery: Delivery) -> Answer:
        self._comes(delivery)
        change: ConfigChange = delivery.body
        self._configure(change.text, change.revision, change.revision_url)
        return Answer(200, "")

    def _arrive(self, instant: Instant) -> None:
        """Move the clock to the arrival of a delivery, which waits for the end of the previous delivery."""
        self._latest = max(self._latest, instant)
        self._clock.reach(instant)

    def _note(self, _: Any, level: str, event: Any) -> Any:
        """Keep the last log line of the functions, and print nothing."""
        error = sys.exc_info()[1] if level == "exception" else None
        told = event.get("reason") or (f"{type(error).__name__}: {error}" if error else "")
        self._logged.append(one_line(f"{event.get('event', '')} {told}"))
        raise structlog.DropEvent

    def result(self) -> Played:
        store = self._ports.store
        project = store.project(self._scenario.config_project)
        found: list[tuple[Invocation, str]] = []
        for job_id in project.value.job_ids if project else ():
            for invocation in store.invocations(job_id, 1000):
                with_log = store.invocation_with_log(job_id, invocation.id)
                if with_log is not None:
                    found.append((with_log[0].value, with_log[1]))
        if not found:
            raise ScenarioError("deliveries: they led to no invocation; does a job of the config watch the commit?")
        found.sort(key=lambda item: -item[0].id)
        return Played(
            tuple(found), self._clock.now(), self._buildbucket.requests, tuple(self._answers), self._cloud.requests
        )


def _settings(scenario: Scenario, stage: Stage) -> Settings:
    cloud = scenario.cloud_build or {}
    return Settings(
        project=scenario.project,
        app_id=scenario.app_id,
        hostname=scenario.hostname,
        task_url=stage.task_url,
        task_account=TASK_ACCOUNT,
        token_secrets=(_SECRET,),
        buildbucket_servers=tuple(replace(server, url=stage.buildbucket_url) for server in scenario.servers),
        check_interval_seconds=scenario.check_interval_seconds,
        gitiles_era=scenario.polling.era,
        gitiles_commits_per_ref=scenario.polling.commits_per_ref,
        gitiles_commits_per_poll=scenario.polling.commits_per_poll,
        gitiles_backfill=scenario.polling.backfill,
        cloud_build=scenario.cloud_build is not None,
        cloud_build_project=cloud.get("project", ""),
        cloud_build_location=cloud.get("location", "global"),
        cloud_build_account=cloud.get("account", ""),
        cloud_build_check_interval_seconds=scenario.check_interval_seconds,
        concurrency=1,  # jobs one after the other: durations are spent on one clock
    )
