"""Playing a scenario: the real functions, served by the functions framework in this process, one delivery at a time."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import functions_framework
import structlog

from emulator.memory.gitiles import AnyCommit
from emulator.memory.queue import MemoryQueue
from emulator.memory.sources import ManualClock
from emulator.memory.store import MemoryStore
from emulator.replay.ports import NothingToFetch, ReplayChance, ScriptedBuildbucket, Stopwatch, TimedQueue, TimedStore
from emulator.replay.scenario import Delivery, Scenario, ScenarioError
from luci_scheduler import bootstrap
from luci_scheduler.config.settings import BuildbucketServer, Settings
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.ports import Store, Task

__all__ = ["Played", "play"]

_FUNCTIONS = Path(bootstrap.__file__).parent.parent / "main.py"
_SECRET = "replay"  # noqa: S105 - signs tokens that nobody outside the replay sees
_MAX_DELIVERIES = 10_000


@dataclass(frozen=True, slots=True)
class Played:
    """What a replay left behind."""

    job_id: JobId
    invocations: tuple[tuple[Invocation, str], ...]
    """The invocations of all jobs with their debug logs, the oldest first."""
    now: Instant
    requests: tuple[tuple[str, Any], ...]
    """What Buildbucket was asked, in order."""
    codes: tuple[int, ...]
    """The status code that each delivery was answered with."""


def play(scenario: Scenario, store: Store | None = None, *, before_each: Callable[[], None] = lambda: None) -> Played:
    """Play a scenario to its end.

    Args:
        scenario: the inputs.
        store: where documents are kept; in memory if None.
        before_each: called before each operation takes its (virtual) time.

    Raises:
        ScenarioError: the scenario does not fit what the scheduler does.
    """
    player = _Player(scenario, store or MemoryStore(), before_each)
    with player.serving():
        player.run()
    return player.result()


class _Player:
    def __init__(self, scenario: Scenario, store: Store, before_each: Callable[[], None]) -> None:
        first = next((d.at for d in scenario.deliveries if d.at is not None), None)
        if first is None:
            raise ScenarioError("the first delivery needs an instant ('at')")
        self.scenario = scenario
        self.clock = ManualClock(first)
        self.stopwatch = Stopwatch(self.clock, scenario.defaults, before_each)
        self.store = store
        self.queue = MemoryQueue()
        self.buildbucket = ScriptedBuildbucket(self.stopwatch)
        self.codes: list[int] = []
        self.settings = _settings(scenario)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let the functions of this process run on the replay's ports."""
        app = bootstrap.make_app(
            self.settings,
            store=cast("Store", TimedStore(self.store, self.stopwatch)),  # reads are forwarded by name
            queue=TimedQueue(self.queue, self.stopwatch),
            clock=self.clock,
            chance=ReplayChance(self.scenario.suffixes, self.scenario.check_delays),
            buildbucket=self.buildbucket,
            gitiles=AnyCommit(),
            fetch=NothingToFetch(),
            verify_caller=lambda _: "replay",
        )
        bootstrap.use(app)
        structlog.configure(processors=[_silent])
        try:
            yield
        finally:
            bootstrap.use(None)
            structlog.reset_defaults()

    def run(self) -> None:
        scenario = self.scenario
        file = ConfigFile(
            scenario.config_project, scenario.config_text, scenario.config_revision, scenario.config_revision_url
        )
        # The config is there before the clock counts what operations take; ticks of schedules are no part of a scenario.
        runtime = replace(bootstrap.app().runtime, store=self.store, queue=MemoryQueue())
        sync_project(runtime, file, "replay")
        for delivery in scenario.deliveries:
            self._begin(delivery)
            if delivery.kind == "task":
                self._task(delivery)
            else:
                self._message(delivery)
        self._begin(None)
        left = _MAX_DELIVERIES if scenario.drain else 0
        while self.queue.tasks and left:
            left -= 1
            self._task(Delivery("task", None, ""))

    def _begin(self, delivery: Delivery | None) -> None:
        self.stopwatch.begin(delivery)
        self.buildbucket.begin(delivery)

    def _task(self, delivery: Delivery) -> None:
        tasks = [task for task in self.queue.tasks if delivery.body in ("", task.kind)]
        if not tasks:
            raise ScenarioError(f"there is no {delivery.body} task on the queue at {format_rfc3339(self.clock.now())}")
        task = min(tasks, key=lambda item: item.eta)
        self.queue.remove(task)
        self.clock.move_to(Instant(task.eta + delivery.lateness))
        self._post("on_task", f"/{task.kind}", _task_body(task), {"X-CloudTasks-TaskName": f"task-{len(self.codes)}"})

    def _message(self, delivery: Delivery) -> None:
        if delivery.at is not None:
            self.clock.move_to(delivery.at)
        published = delivery.published if delivery.published is not None else self.clock.now()
        data, attributes = (delivery.body, {}) if delivery.kind == "commit" else self._notification(delivery.body)
        message = {
            "data": base64.b64encode(json.dumps(data).encode()).decode(),
            "attributes": attributes,
            "messageId": delivery.message or f"message-{len(self.codes)}",
            "publishTime": format_rfc3339(published),
        }
        body = {"message": message, "subscription": "projects/replay/subscriptions/replay"}
        function = "on_gitiles_commit" if delivery.kind == "commit" else "on_build_completion"
        topic = "gitiles-commit" if delivery.kind == "commit" else "builds"
        self._post(function, f"/projects/replay/topics/{topic}", body, {})

    def _notification(self, body: Any) -> tuple[Any, dict[str, str]]:
        """Return data and attributes of a notification, with the token that the build's request brought along."""
        for _, request in reversed(self.buildbucket.requests):
            if "pubsub_callback" in request:
                return {**body, "user_data": ""}, {"auth_token": request["pubsub_callback"]["auth_token"]}
            if "notify" in request:
                return {"buildPubsub": body, "userData": request["notify"]["userData"]}, {"version": "v2"}
        raise ScenarioError("a notification before any build was asked for")

    def _post(self, function: str, path: str, body: Any, headers: dict[str, str]) -> None:
        client = functions_framework.create_app(function, str(_FUNCTIONS)).test_client()  # type: ignore[no-untyped-call]
        answer = client.post(path, json=body, headers=headers)
        self.codes.append(answer.status_code)

    def result(self) -> Played:
        project = self.store.project(self.scenario.config_project)
        found: list[tuple[Invocation, str]] = []
        for job_id in project.value.job_ids if project else ():
            for invocation in self.store.invocations(job_id, 1000):
                with_log = self.store.invocation_with_log(job_id, invocation.id)
                if with_log is not None:
                    found.append((with_log[0].value, with_log[1]))
        if not found:
            raise ScenarioError("the scenario led to no invocation")
        found.sort(key=lambda item: -item[0].id)
        return Played(
            found[0][0].job_id, tuple(found), self.clock.now(), tuple(self.buildbucket.requests), tuple(self.codes)
        )


def _settings(scenario: Scenario) -> Settings:
    service = scenario.service
    return Settings(
        project=service["project"],
        app_id=service.get("app_id", "luci-scheduler"),
        hostname=service.get("hostname", ""),
        task_url="https://replay.invalid",
        task_account="tasks@replay.invalid",
        token_secrets=(_SECRET,),
        buildbucket_servers=tuple(BuildbucketServer(host, publisher, era) for host, publisher, era in scenario.servers),
        check_interval_seconds=service.get("check_interval_seconds", 0),
    )


def _task_body(task: Task) -> dict[str, Any]:
    return {"v": 1, **task.payload}


def _silent(_: Any, __: str, ___: Any) -> Any:
    raise structlog.DropEvent
