"""The handlers of a build's life beside the same calls without our code, in turn, in one process.

The servers run in another process. The calls without our code use Google's client libraries and ``requests``. They
send documents, tasks and requests with the content that our code stored and sent for the first build.
"""

from __future__ import annotations

import base64
import json
import os
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import flask
import requests
import structlog
from google.api_core import exceptions
from google.cloud import firestore, tasks_v2
from google.cloud.firestore_v1.field_path import FieldPath
from google.protobuf import duration_pb2, timestamp_pb2

from emulator.settings import BUILDBUCKET_HOST
from luci_scheduler import entry
from luci_scheduler.adapters.cloud_tasks import make_client
from luci_scheduler.adapters.documents import watchers_range
from luci_scheduler.bootstrap import App, make_app
from luci_scheduler.cloud_ports import cloud_ports
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.logs import configure_logging
from luci_scheduler.ports import QueueTask
from luci_scheduler.settings import Settings
from luci_scheduler.settings_reader import read_settings
from tests.benchmarks import servers
from tests.benchmarks.measure import Measure, interleave

__all__ = ["HANDLERS", "made_up", "measures", "scheduler"]

HANDLERS = {"commit": 1.10, "duplicate": None, "notification": 1.10, "check": 1.10, "completion": 1.10}
"""Handler → the must of its ratio; None: the ratio has no goal."""
_AIM = 1.03
_REPO, _MAIN = "https://r.googlesource.com/repo", "refs/heads/main"
_CONFIG = f"""
trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{_REPO}" refs: "{_MAIN}" }} triggers: "job" }}
job {{ id: "job" buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "job" }} }}
"""
_JOB_MASK = ("schema", "record", "enabled", "next_due")
_INVOCATION_MASK = ("schema", "definition", "state", "next_due", "expire_at")
_REFUSED = (exceptions.AlreadyExists, exceptions.FailedPrecondition, exceptions.Aborted)
_LIMIT = 20.0

Times = dict[str, tuple[float, float]]
"""Handler → milliseconds of the clock and of the processor."""


def measures(*, quick: bool) -> list[Measure]:
    """Play builds by both, and return one measure for each handler."""
    with scheduler() as (settings, app):
        ours, raw = _Ours(settings, app), _Raw(settings)
        first = ours.play(0)
        raw.learn(ours)
        played: tuple[list[Times], list[Times]] = ([], [])
        pairs, warm = (25, 5) if quick else (300, 20)
        assert first.keys() == raw.play(0).keys()

        def keep(place: int, player: _Player, number: int) -> float:
            played[place].append(player.play(number + 1))
            return 0.0

        interleave(lambda number: keep(0, ours, number), lambda number: keep(1, raw, number), pairs, warm)
    return [_measure(handler, *(times[warm:] for times in played)) for handler in HANDLERS]


def _measure(handler: str, ours: list[Times], raw: list[Times]) -> Measure:
    must = HANDLERS[handler]
    pairs = [mine[handler][0] / theirs[handler][0] for mine, theirs in zip(ours, raw, strict=True)]
    return Measure(
        f"handler: {handler}",
        "ms",
        tuple(times[handler][0] for times in ours),
        tuple(times[handler][0] for times in raw),
        against="the same raw calls",
        must=must,
        aim=None if must is None else _AIM,
        details={
            "CPU ms, ours": statistics.median(times[handler][1] for times in ours),
            "CPU ms, raw": statistics.median(times[handler][1] for times in raw),
            "median of the pairs' ratios": statistics.median(pairs),
        },
    )


@contextmanager
def scheduler() -> Iterator[tuple[Settings, App]]:
    """Run servers, and yield the settings of functions that use them, with an application. Log lines are dropped."""
    with servers.running() as environment, open(os.devnull, "w") as nowhere:  # noqa: PTH123
        settings = read_settings({name: value for name, value in environment.items() if name.startswith("SCHEDULER_")})
        os.environ["FIRESTORE_EMULATOR_HOST"] = environment["FIRESTORE_EMULATOR_HOST"]
        configure_logging(settings.project, file=nowhere)
        try:
            yield settings, made_up(make_app(settings, cloud_ports(settings)))
        finally:
            structlog.reset_defaults()


def made_up(app: App) -> App:
    """Return an application that takes commits which no repository has, and tasks from anyone."""
    limits = replace(app.runtime.limits, commit_wait=0)
    return replace(app, runtime=replace(app.runtime, limits=limits), verify_caller=lambda _: "the benchmark")


@dataclass(slots=True)
class _Player(ABC):
    """Plays a build's life: a commit, its repetition, a notification, a status check, the end of the build."""

    settings: Settings
    times: Times = field(default_factory=dict)
    control: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.control.trust_env = False

    @abstractmethod
    def play(self, number: int) -> Times:
        """Play one build, and return the times of its handlers."""

    def timed(self, handler: str, call: Callable[[], Any]) -> None:
        """Add a handler's times."""
        processor, clock = time.process_time(), time.perf_counter()
        call()
        self.times[handler] = ((time.perf_counter() - clock) * 1e3, (time.process_time() - processor) * 1e3)

    def end(self, build_id: str) -> None:
        """Let a build succeed, without a notification."""
        (server,) = self.settings.buildbucket_servers
        url = f"{server.url}/control/builds/{build_id}/end"
        self.control.post(url, json={"status": "SUCCESS", "announce": {"copies": 0}}, timeout=60).raise_for_status()


class _Recorder:
    """Passes calls on to a port, and keeps the arguments of each method's last call."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.last: dict[str, Any] = {}

    def v2(self, server: str, method: str, request: Mapping[str, Any], **named: Any) -> Any:
        self.last[method] = request
        return self._port.v2(server, method, request, **named)

    def enqueue(self, task: QueueTask) -> None:
        self.last[task.kind] = task
        self._port.enqueue(task)


class _Ours(_Player):
    """The entry points."""

    def __init__(self, settings: Settings, app: App) -> None:
        super().__init__(settings)
        ports = cloud_ports(settings)
        self.builds, self.tasks = _Recorder(ports.buildbucket), _Recorder(ports.queue)
        recording: Any = {"buildbucket": self.builds, "queue": self.tasks}
        self._app = made_up(make_app(settings, replace(ports, **recording)))
        self._server = flask.Flask("benchmark")
        sync_project(app.runtime, ConfigFile("proj", _CONFIG, "r"), "sync")

    def play(self, number: int) -> Times:
        self.times = {}
        commit = {"repo": _REPO, "ref": _MAIN, "revision": f"{number + 1:040x}"}
        event = _event(commit, {}, f"c{number}")
        self.timed("commit", lambda: _accepted(entry.commit(self._app, event)))
        self.timed("duplicate", lambda: _accepted(entry.commit(self._app, event)))
        token = base64.b64decode(self.builds.last["ScheduleBuild"]["notify"]["userData"])
        self._notify("notification", token, f"n{number}")
        self._check(self.tasks.last["timer"], number)
        self.end(self.builds.last["GetBuild"]["id"])
        self._notify("completion", token, f"e{number}")
        return self.times

    def _notify(self, handler: str, token: bytes, message: str) -> None:
        note = {"buildPubsub": {"build": {"id": "1"}}, "userData": base64.b64encode(token).decode()}
        event = _event(note, {"version": "v2"}, message)
        self.timed(handler, lambda: _accepted(entry.notification(self._app, event)))

    def _check(self, task: QueueTask, number: int) -> None:
        headers = {"X-CloudTasks-TaskName": f"t{number}", "Content-Type": "application/json"}
        body = json.dumps({"v": 1, **task.payload}).encode()
        with self._server.test_request_context("/timer", method="POST", data=body, headers=headers):
            request: Any = flask.request
            self.timed("check", lambda: _accepted(entry.task(self._app, request)))


def _event(data: Mapping[str, Any], attributes: Mapping[str, str], message: str) -> Any:
    text = base64.b64encode(json.dumps(data).encode()).decode()
    published = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    push = {"message": {"data": text, "attributes": attributes, "messageId": message, "publishTime": published}}
    return type("Event", (dict,), {"data": push})({"id": message, "time": published})


def _accepted(answer: Any) -> None:
    assert answer[1] == 200, answer


class _Raw(_Player):
    """The calls of the libraries. They write to separate collections."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._client = firestore.Client(project=settings.project, database=settings.database)
        self._tasks = make_client(settings.cloud_tasks_endpoint)
        self._session = requests.Session()
        self._session.trust_env = False
        self._job = self._client.collection("rawjobs").document("proj%2Fjob")
        self._known: dict[str, Any] = {}
        self._requests: Mapping[str, Any] = {}
        self._timer = b""
        self._build_id = ""

    def learn(self, ours: _Ours) -> None:
        """Take over the documents and requests of the first build that our code has played."""
        stored = self._client.collection("jobs").document("proj%2Fjob")
        (invocation,), (marker,) = (list(stored.collection(name).stream()) for name in ("invocations", "triggers"))
        self._known = {"job": stored.get().to_dict(), "marker": marker.to_dict(), **(invocation.to_dict() or {})}
        self._requests = ours.builds.last
        self._timer = json.dumps({"v": 1, **ours.tasks.last["timer"].payload}).encode()
        self._job.set(self._known["job"])
        assert len(self._known["log"]) == 6, self._known["log"]  # the creation and five updates

    def play(self, number: int) -> Times:
        self.times = {}
        invocation = self._job.collection("invocations").document(f"{10**18 - number:019}")
        trigger = self._job.collection("triggers").document(f"t{number}")
        self.timed("commit", lambda: self._commit(invocation, trigger, number))
        self.timed("duplicate", lambda: self._duplicate(invocation, trigger, number))
        self.timed("notification", lambda: self._follow(invocation, 3))
        self.timed("check", lambda: self._follow(invocation, 4, enqueue=True))
        self.end(self._build_id)
        self.timed("completion", lambda: self._follow(invocation, 5, ends=True))
        return self.times

    def _commit(self, invocation: Any, trigger: Any, number: int) -> None:
        version = self._create(invocation, trigger, number)
        version = self._update(invocation, version, 1)
        self._build_id = self._call("ScheduleBuild", {"requestId": f"raw{number}"})["id"]
        self._enqueue()
        self._update(invocation, version, 2)

    def _duplicate(self, invocation: Any, trigger: Any, number: int) -> None:
        try:
            self._create(invocation, trigger, number)
        except _REFUSED:
            trigger.get(timeout=_LIMIT).to_dict()
            invocation.get(_INVOCATION_MASK, timeout=_LIMIT).to_dict()
        else:
            raise AssertionError("the invocation was created twice")

    def _follow(self, invocation: Any, number: int, *, enqueue: bool = False, ends: bool = False) -> None:
        found = invocation.get(_INVOCATION_MASK, timeout=_LIMIT)
        found.to_dict()
        self._call("GetBuild", {"id": self._build_id})
        if enqueue:
            self._enqueue()
        job = self._read_job() if ends else None
        self._update(invocation, found.update_time, number, job)

    def _create(self, invocation: Any, trigger: Any, number: int) -> Any:
        self._watchers()
        job = self._read_job()
        batch = self._client.batch()
        names = ("schema", "definition", "state", "status", "expire_at", "commits")
        document = {name: self._known[name] for name in names}
        batch.create(invocation, {**document, "next_due": 1, "log": self._known["log"][:1]})
        batch.create(trigger, {**self._known["marker"], "expire_at": None})
        self._put_job(batch, job, {**self._known["job"], "commits": number})
        return batch.commit(retry=None, timeout=_LIMIT)[0].update_time

    def _watchers(self) -> None:
        first, end = watchers_range(_REPO)
        repositories = self._client.collection("repositories")
        query = repositories.order_by(FieldPath.document_id())
        query = query.start_at({FieldPath.document_id(): repositories.document(first)})
        query = query.end_before({FieldPath.document_id(): repositories.document(end)})
        (found,) = query.stream(timeout=_LIMIT)
        found.to_dict()

    def _read_job(self) -> Any:
        job = self._job.get(_JOB_MASK, timeout=_LIMIT)
        job.to_dict()
        return job

    def _put_job(self, batch: Any, job: Any, document: Mapping[str, Any]) -> None:
        batch.update(self._job, document, option=self._client.write_option(last_update_time=job.update_time))

    def _update(self, invocation: Any, version: Any, number: int, job: Any = None) -> Any:
        batch = self._client.batch()
        chunks = self._known["log"]
        document = {name: self._known[name] for name in ("state", "status", "expire_at")}
        document["log"] = firestore.ArrayUnion([chunks[number]])
        option = self._client.write_option(last_update_time=version)
        batch.update(invocation, {**document, "next_due": number, "commits": number}, option=option)
        if job is not None:
            self._put_job(batch, job, {name: item for name, item in self._known["job"].items() if name != "triage_log"})
        return batch.commit(retry=None, timeout=_LIMIT)[0].update_time

    def _call(self, method: str, changes: Mapping[str, Any]) -> Any:
        (server,) = self.settings.buildbucket_servers
        body = json.dumps({**self._requests[method], **changes}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        url = f"{server.url}/prpc/buildbucket.v2.Builds/{method}"
        answer = self._session.post(url, data=body, headers=headers, timeout=60)
        assert answer.headers["X-Prpc-Grpc-Code"] == "0", answer.text
        return json.loads(answer.text.removeprefix(")]}'"))

    def _enqueue(self) -> None:
        settings = self.settings
        request = tasks_v2.HttpRequest(
            http_method=tasks_v2.HttpMethod.POST,
            url=f"{settings.task_url}/timer",
            headers={"Content-Type": "application/json", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
            body=self._timer,
            oidc_token=tasks_v2.OidcToken(
                service_account_email=settings.task_account, audience=settings.tasks_audience
            ),
        )
        task = tasks_v2.Task(
            http_request=request,
            schedule_time=timestamp_pb2.Timestamp(seconds=int(time.time()) + 3600),
            dispatch_deadline=duration_pb2.Duration(seconds=600),
        )
        self._tasks.create_task(parent=settings.queue_path, task=task, timeout=10)
