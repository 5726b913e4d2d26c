"""A scheduler in memory, called as the cloud calls it, and all points that Cloud Monitoring would get of it.

The entry points really write the lines. The points of Cloud Run, Pub/Sub and Cloud Tasks are made here,
in the form that Google documents.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import flask
import structlog

from luci_scheduler import entry
from luci_scheduler.bootstrap import App
from luci_scheduler.core.instants import MINUTE, SECOND, Instant, format_rfc3339
from luci_scheduler.logs import configure_logging
from luci_scheduler.ports import ConfigFile, QueueTask
from tests.terraform.cloud_monitoring import Monitoring, Points
from tests.unit.engine.world import REPO, World

__all__ = ["Site", "as_entry", "running"]

_UNDELIVERED = "pubsub.googleapis.com/subscription/num_undelivered_messages"
_OLDEST = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
_DELAYS = "cloudtasks.googleapis.com/queue/task_attempt_delays"


def as_entry(line: Mapping[str, Any], service: str) -> dict[str, Any]:
    """Return the entry that Cloud Logging makes of a line that a function writes."""
    return {
        "logName": "projects/p/logs/run.googleapis.com%2Fstdout",
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": service}},
        "severity": line["severity"],
        "jsonPayload": {name: value for name, value in line.items() if name not in ("severity", "time")},
    }


class Site:
    """The installation. Time passes only in `run`, in steps of a minute."""

    def __init__(self, monitoring: Monitoring, world: World, output: io.StringIO) -> None:
        self.monitoring, self.world, self.points = monitoring, world, Points()
        self._output, self._read = output, 0
        self._server = flask.Flask("site")
        self._messages = 0
        self.sweeps = True
        """Whether Cloud Scheduler calls the sweep."""
        self.undelivered: dict[str, float] = {"dead-letters": 0, "key-due": 0}
        """Alert → the messages in each subscription that it is about."""
        self.oldest_seconds, self.delay_ms = 1.0, 50.0
        self.since = self.now
        """Where the evaluation starts."""

    @property
    def now(self) -> float:
        """Return the world's time in seconds."""
        return self.world.clock.now() / SECOND

    def run(self, minutes: int, each: Callable[[int], object] | None = None) -> None:
        """Let minutes pass. In each, call ``each`` with its number (builds run by default), deliver tasks and sweep."""
        for minute in range(minutes):
            self.world.clock.advance(MINUTE)
            (each or self.build)(minute)
            for task in self.world.queue.take_due(self.world.clock.now()):
                if self.task(task) >= 400:
                    self.world.queue.enqueue(replace(task, eta=Instant(self.world.clock.now() + MINUTE)))
            if self.sweeps:
                self.task(QueueTask("sweep", {}, self.world.clock.now()))
            self._measure()

    def build(self, minute: int) -> None:
        """Handle a commit every ten minutes, and the end of its build five minutes later."""
        if minute % 10 == 0:
            self.commit()
        elif minute % 10 == 5 and self.world.buildbucket.builds:
            self.finish()

    def commit(self, *, late_seconds: int = 1, app: App | None = None) -> int:
        """Deliver a commit that was published some seconds ago; return the status."""
        self._messages += 1
        event = {"repo": REPO, "ref": "refs/heads/main", "revision": f"{self._messages:040x}"}
        return self._message(entry.commit, "on_gitiles_commit", event, {}, late_seconds, app)

    def finish(self) -> int:
        """End the latest build, and deliver its notification."""
        build = list(self.world.buildbucket.builds)[-1]
        self.world.finish()
        data = {"buildPubsub": {"build": {"id": build}}, "userData": self.world.buildbucket.tokens[build]}
        return self._message(entry.notification, "on_build_completion", data, {"version": "v2"})

    def task(self, task: QueueTask, app: App | None = None) -> int:
        """Deliver a task, or a call of Cloud Scheduler; return the status."""
        path, body, headers = f"/{task.kind}", dict(task.payload), {"X-CloudTasks-TaskName": "t"}
        with self._server.test_request_context(path, method="POST", json=body, headers=headers):
            answer = entry.task(app or self.world.app, flask.request)
        return self._noted("on_task", answer)

    def sync(self, *files: ConfigFile) -> int:
        """Sync the configs; return the status."""

        class Source:
            def configs(self, _: Callable[[str], str]) -> Sequence[ConfigFile]:
                return files

        app = replace(self.world.app, config_sources=(Source(),))
        return self.task(QueueTask("sync", {}, self.world.clock.now()), app)

    def page(self, app: App | None = None) -> int:
        """Open the first page of the console; return the status."""
        with self._server.test_request_context("/"):
            answer = entry.page(app or self.world.app, flask.request)
        return self._noted("console", answer)

    def answer(self, function: str, status: int) -> str:
        """Record the point of a request that a function answered; return the service's name."""
        service = self.monitoring.service(function)
        self.points.add(
            self.now,
            "run.googleapis.com/request_count",
            "cloud_run_revision",
            metric_labels={"response_code_class": f"{status // 100}xx"},
            resource_labels={"service_name": service},
        )
        return service

    def log(self, entry_: Mapping[str, Any]) -> None:
        """Write an entry of the platform."""
        self.monitoring.count(self.points, self.now, entry_)

    def _message(
        self,
        handle: Callable[..., tuple[str, int]],
        function: str,
        data: object,
        attributes: Mapping[str, str],
        late_seconds: int = 0,
        app: App | None = None,
    ) -> int:
        self._messages += 1
        number, published = f"m{self._messages}", Instant(self.world.clock.now() - late_seconds * SECOND)
        message = {
            "data": base64.b64encode(json.dumps(data).encode()).decode(),
            "attributes": attributes,
            "messageId": number,
            "publishTime": format_rfc3339(published),
        }
        event = type("Event", (dict,), {"data": {"message": message}})({"id": number, "time": ""})
        with self._server.test_request_context():
            answer = handle(app or self.world.app, event)
        return self._noted(function, answer)

    def _noted(self, function: str, answer: Any) -> int:
        """Record a call's point and lines; return its status."""
        code, service = int(answer[1]), self.answer(function, int(answer[1]))
        self._output.seek(self._read)
        for line in self._output.read().splitlines():
            self.log(as_entry(json.loads(line), service))
        self._read = self._output.tell()
        return code

    def _measure(self) -> None:
        """Record the measurements that Pub/Sub and Cloud Tasks make each minute."""
        for alert, number in self.undelivered.items():
            for name in _names(self.monitoring.filter_of(alert)):
                labels = {"subscription_id": name}
                self.points.add(self.now, _UNDELIVERED, "pubsub_subscription", number, resource_labels=labels)
        for name in _names(self.monitoring.filter_of("lateness", _OLDEST)):
            labels = {"subscription_id": name}
            self.points.add(self.now, _OLDEST, "pubsub_subscription", self.oldest_seconds, resource_labels=labels)
        for name in _names(self.monitoring.filter_of("lateness", _DELAYS)):
            self.points.add(self.now, _DELAYS, "cloud_tasks_queue", self.delay_ms, resource_labels={"queue_id": name})


def _names(filter_: str) -> list[str]:
    """Return the names of the resources that a filter is about."""
    return re.findall(r'"([^"]+)"', filter_.partition("resource.labels.")[2])


@contextmanager
def running(monitoring: Monitoring, world: World) -> Iterator[Site]:
    """Return a site whose lines are recorded until the end of the block."""
    output = io.StringIO()
    configure_logging("p", output)
    try:
        yield Site(monitoring, world, output)
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
