"""The log: named events, one trace from the commit to the end, no secrets."""

import ast
import base64
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import flask
import pytest
import structlog

from emulator.memory.queue import MemoryQueue
from luci_scheduler import entry
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue
from luci_scheduler.bootstrap import App
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import SECOND, format_rfc3339
from luci_scheduler.logs import configure_logging
from luci_scheduler.ports import BuildbucketError, QueueTask
from luci_scheduler.tracing import bind_invocation, current_trace, delivery_context, delivery_trace, trace_headers
from tests.unit.api.support import OWNER, Client, world_for
from tests.unit.engine.world import JOB, REPO, World, config

PAGE = Path("docs/reference/observability.md")
METRICS = Path("infra/terraform/modules/monitoring/metrics.tf")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
SEVERITIES = {"info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR"}


@cache
def _events() -> dict[str, set[str]]:
    """Return the names of all events in the code with their severities."""
    events: dict[str, set[str]] = {}
    for assignments, calls in _nodes_with("logger"):
        named = {
            target.id: {part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)}
            for node in assignments
            if isinstance(target := node.targets[0], ast.Name)
        }
        for call in calls:
            if isinstance(call.func, ast.Attribute) and _is_logger(call.func):
                first = call.args[0]
                names = {first.value} if isinstance(first, ast.Constant) else named.get(ast.unparse(first))
                for name in names or _passed(ast.unparse(first)):
                    events.setdefault(str(name), set()).add(SEVERITIES[call.func.attr])
    return events


def _nodes_with(word: str) -> Iterator[tuple[list[ast.Assign], list[ast.Call]]]:
    """Yield the assignments and the calls of each module that has a word. Parsing takes most of the time."""
    for path in Path("functions").rglob("*.py"):
        if word in (source := path.read_text(encoding="utf-8")):
            nodes = list(ast.walk(ast.parse(source)))
            yield (
                [node for node in nodes if isinstance(node, ast.Assign)],
                [n for n in nodes if isinstance(n, ast.Call)],
            )


@cache
def _passed(keyword: str) -> set[str]:
    """Return the texts that calls pass under a keyword: a helper logs the event that its caller names."""
    calls = [call for _, found in _nodes_with(f"{keyword}=") for call in found]
    values = [argument.value for call in calls for argument in call.keywords if argument.arg == keyword]
    found = {str(value.value) for value in values if isinstance(value, ast.Constant)}
    assert found, f"no call passes {keyword}"
    return found


def _is_logger(function: ast.Attribute) -> bool:
    return function.attr in SEVERITIES and "logger" in ast.unparse(function.value)


def test_the_page_lists_the_events_of_the_code() -> None:
    """Every event with its severities, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z, ]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: set(told.split(", ")) for name, told in rows} == _events()


def test_metrics_count_existing_events() -> None:
    """Each event in a filter of Terraform's is one of the code's, and its members are written with it."""
    text = METRICS.read_text(encoding="utf-8")
    counted = {name for names in re.findall(r"events = \[([^\]]*)\]", text) for name in re.findall(r'"(\w+)"', names)}
    assert "invocation_finished" in counted
    assert counted <= _events().keys()
    page = PAGE.read_text(encoding="utf-8")
    for member in re.findall(r"jsonPayload\.(\w+)", text):
        assert f"`{member}`" in page


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ({"traceparent": PARENT}, TRACE),
        ({"X-Cloud-Trace-Context": f"{TRACE}/123;o=1"}, TRACE),
        ({"X-Cloud-Trace-Context": TRACE.upper()}, TRACE),
        ({"traceparent": "00-zz-1-01", "X-Cloud-Trace-Context": f"{TRACE}/1"}, TRACE),
        ({"traceparent": PARENT, "X-Cloud-Trace-Context": "1" * 32}, TRACE),
    ],
)
def test_a_delivery_has_the_trace_of_its_request(headers: dict[str, str], trace: str) -> None:
    """Either header works."""
    assert delivery_trace(headers, "d") == trace


@pytest.mark.parametrize("header", ["", "x", f"00-{'0' * 32}-b7ad6b7169203331-01", f"{PARENT}\n", "a" * 5000])
def test_a_delivery_without_a_valid_trace_gets_one_from_its_id(header: str) -> None:
    """Redeliveries share it."""
    made = delivery_trace({"traceparent": header}, "event-1")
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert made == delivery_trace({}, "event-1") != delivery_trace({}, "event-2")


def test_the_bindings_of_a_delivery_end_with_it() -> None:
    """The bindings of a delivery end with it, and outer bindings do not show inside."""
    structlog.contextvars.bind_contextvars(left="over")

    try:
        with delivery_context(TRACE, function="f"):
            bind_invocation("p/j", 7, 2, "")
            inside = dict(structlog.contextvars.get_contextvars())
        assert inside == {"trace_id": TRACE, "function": "f", "job_id": "p/j", "invocation_id": "7", "attempt": 2}
        assert structlog.contextvars.get_contextvars() == {"left": "over"}
        assert (current_trace(), trace_headers()) == ("", {})
    finally:
        structlog.contextvars.clear_contextvars()


def test_tasks_carry_the_trace_on() -> None:
    """The next delivery reads it from a header; outside deliveries there is no header."""
    sent: list[Any] = []

    class Client:
        def create_task(self, task: Any, **_: Any) -> None:
            sent.append(dict(task.http_request.headers))

    queue = CloudTasksQueue(Client(), "projects/p/locations/l/queues/q", "https://t.invalid", "a@p", "aud")
    task = QueueTask("timer", {}, World().clock.now())
    with delivery_context(TRACE):
        queue.enqueue(task)
    queue.enqueue(task)
    assert delivery_trace(sent[0], "d") == TRACE
    assert "traceparent" not in sent[1]


def test_tasks_of_the_console_carry_its_trace_on() -> None:
    """The tasks of one API call for several jobs share its trace; without one each task starts a new trace."""
    world = world_for(config(("job", "b")))
    carrying: list[dict[str, str]] = []
    enqueue = world.queue.enqueue

    def recorded(task: QueueTask) -> None:
        carrying.append(trace_headers())
        enqueue(task)

    world.queue.enqueue = recorded  # type: ignore[method-assign]
    client, jobs = Client(world), [{"project": "proj", "job": name} for name in ("job", "b")]
    message = json.dumps({"batches": [{"trigger": {"id": "t", "buildbucket": {}}, "jobs": jobs}]}).encode()
    for brought in ({"traceparent": PARENT}, {}):
        headers = {"Content_Type": "application/json", "Accept": "application/json", **brought}
        assert client.http("/prpc/scheduler.Scheduler/EmitTriggers", message, OWNER, **headers).status_code == 200
    assert [delivery_trace(headers, "") for headers in carrying[:2]] == [TRACE, TRACE]
    assert carrying[2:] == [{}, {}]


class _Site:
    """The entry points of a world, called over HTTP with headers, their log as it is written in the cloud."""

    def __init__(self, world: World, output: io.StringIO) -> None:
        self.world, self._output = world, output
        self._server = flask.Flask("site")

    def message(self, function: Any, data: Any, attributes: dict[str, str], number: str, **headers: str) -> int:
        message = {
            "data": base64.b64encode(json.dumps(data).encode()).decode(),
            "attributes": attributes,
            "messageId": number,
            "publishTime": format_rfc3339(self.world.clock.now()),
        }
        event = type("Event", (dict,), {"data": {"message": message}})({"id": number, "time": ""})
        with self._server.test_request_context(headers=headers):
            _, code = function(self.world.app, event)
        return int(code)

    def task(self, task: QueueTask, app: App | None = None, **headers: str) -> Any:
        with self._server.test_request_context(
            f"/{task.kind}", method="POST", json=dict(task.payload), headers={"X-CloudTasks-TaskName": "t1", **headers}
        ):
            return entry.task(app or self.world.app, flask.request)

    @property
    def text(self) -> str:
        return self._output.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture(name="site")
def _site(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Site]:
    world, output = World(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", output)
    configure_logging("cloud")
    try:
        yield _Site(world, output)
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


def _commit(site: _Site, revision: str = "a", number: str = "m1", **headers: str) -> None:
    site.world.clock.advance(SECOND)
    event = {"repo": REPO, "ref": "refs/heads/main", "revision": revision * 40}
    assert site.message(entry.commit, event, {}, number, **headers) == 200


def _notify(site: _Site, number: str, **headers: str) -> int:
    build = list(site.world.buildbucket.builds)[-1]
    data = {"buildPubsub": {"build": {"id": build}}, "userData": site.world.buildbucket.tokens[build]}
    return site.message(entry.notification, data, {"version": "v2"}, number, **headers)


def test_one_trace_from_the_commit_to_the_end(site: _Site) -> None:
    """A check, a notification and the end are logged under the commit's trace and not under their requests'."""
    site.world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "down", transient=True)]
    _commit(site, traceparent=PARENT)
    (invocation,) = site.world.invocations()
    assert invocation.trace == TRACE
    (task,) = site.world.queue.take_due(site.world.clock.now() + 10 * SECOND)
    site.world.clock.advance(10 * SECOND)
    site.task(task, traceparent=f"00-{'1' * 32}-b7ad6b7169203331-01")
    (task,) = site.world.queue.take_due(site.world.clock.now() + 100 * SECOND)
    site.world.clock.advance(61 * SECOND)
    site.task(task)
    site.world.finish()
    assert _notify(site, "n1", traceparent=f"00-{'2' * 32}-b7ad6b7169203331-01") == 200
    about = [line for line in site.lines if "invocation_id" in line]
    assert [line["message"] for line in about] == ["launch_failed", "launched", "timer_came", "invocation_finished"]
    for line in about:
        assert line["logging.googleapis.com/trace"] == f"projects/cloud/traces/{TRACE}"
        assert (line["job_id"], line["invocation_id"]) == (JOB, str(invocation.id))
        assert "trace_id" not in line
    assert [line["attempt"] for line in about] == [1, 2, 2, 2]
    assert [line["severity"] for line in about] == ["WARNING", "INFO", "INFO", "INFO"]
    assert about[2]["lateness_ms"] == 1000


def test_jobs_handled_in_parallel_have_their_own_lines(site: _Site) -> None:
    """Each thread of a fan-out has the commit's trace and its own job."""
    site.world.sync(config(("job", "b", "c")))
    site.world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "down", transient=True) for _ in range(3)]
    _commit(site, traceparent=PARENT)
    failed = [line for line in site.lines if line["message"] == "launch_failed"]
    assert sorted(line["job_id"] for line in failed) == ["proj/b", "proj/c", "proj/job"]
    assert {line["logging.googleapis.com/trace"] for line in failed} == {f"projects/cloud/traces/{TRACE}"}


def test_ticks_log_their_lateness(site: _Site) -> None:
    """The lateness is in milliseconds after the expected instant."""
    world = site.world
    world.queue.purge()
    world.sync('job { id: "tick" schedule: "with 60s interval" noop {} }')
    (task,) = [task for task in world.queue.tasks if task.kind == "cron"]
    world.clock.advance(task.eta - world.clock.now() + SECOND // 4)
    site.task(task)
    (line,) = [line for line in site.lines if line["message"] == "tick_came"]
    assert (line["job_id"], line["lateness_ms"]) == ("proj/tick", 250)


def test_a_task_whose_caller_cannot_be_verified_now_is_answered_and_logged(site: _Site) -> None:
    """Without Google's keys no caller can be verified: the answer is 500, so the queue repeats the task."""

    def fail(_: Any) -> str:
        raise TransientError("the keys that sign tokens could not be fetched")

    task = QueueTask("sweep", {}, site.world.clock.now())
    site.world.counted()
    body, code, _ = site.task(task, replace(site.world.app, verify_caller=fail))
    assert (code, "keys that sign tokens" in body) == (500, True)
    (line,) = site.lines
    assert (line["message"], line["function"], line["kind"]) == ("transient_error", "on_task", "sweep")
    assert site.world.counted() == "0R/0W/0c"


def test_no_secret_is_written_anywhere(site: _Site) -> None:
    """Marked tokens, valid and invalid, pass every entry point and an internal error; no output holds them."""
    canary = "canary-4b1d"

    def refuse(_: Any) -> str:
        raise UnauthenticatedError("the token is not signed by anybody known")

    def explode(*_: Any) -> Any:
        raise RuntimeError("a fault")

    _commit(site, Authorization=f"Bearer {canary}")
    token = next(iter(site.world.buildbucket.tokens.values()))
    forged = base64.b64encode(f"{canary}.{canary}".encode()).decode()
    for attributes in ({"auth_token": canary}, {"version": "v2"}):
        site.message(entry.notification, {"userData": forged, "token": canary}, attributes, "n0", Authorization=canary)
    task = QueueTask("timer", {"job": "proj/job"}, site.world.clock.now())
    site.task(task, replace(site.world.app, verify_caller=refuse), Authorization=f"Bearer {canary}")
    site.task(task, Authorization=f"Bearer {canary}")
    broken = replace(site.world.app, runtime=replace(site.world.runtime, queue=MemoryQueue(), managers={}))
    site.task(QueueTask("triage", {"job": "proj/job", "created": 1}, site.world.clock.now()), broken)
    site.world.store.before_commit = explode
    assert _notify(site, "n9", Authorization=canary) == 500
    site.world.store.before_commit = None
    assert {"unauthenticated", "malformed", "unexpected_error"} <= {line["message"] for line in site.lines}
    for secret in (canary, forged, token, base64.b64decode(token).decode(), "Bearer "):
        assert secret not in site.text
    assert canary not in site.world.log()
