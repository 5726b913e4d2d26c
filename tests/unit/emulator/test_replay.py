"""Parts of a replay that the golden scenarios do not cover."""

import base64
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from emulator.clock import SteppedClock
from emulator.cloud_tasks.server import CloudTasksServer
from emulator.replay.answers import Reply
from emulator.replay.buildbucket import ScriptedBuildbucket, WsgiAdapter
from emulator.replay.deliveries import Delivery
from emulator.replay.errors import ScenarioError
from emulator.replay.memory import MemoryStage
from emulator.replay.scenario import read_scenario
from emulator.replay.serving import Gate
from emulator.replay.stage import Answer, Message
from emulator.replay.timed import Stopwatch, TimedBuildbucket, TimedCalls
from emulator.settings import QUEUE_RETRIES
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.core.instants import MILLISECOND, MINUTE, SECOND, Instant
from luci_scheduler.ports import BuildbucketError, QueueTask

pytestmark = pytest.mark.timeout(20)

START = Instant(1_613_684_422 * SECOND)


def _push(identifier: str) -> dict[str, Any]:
    message = {"messageId": identifier, "publishTime": "2026-11-25T00:00:00Z", "data": base64.b64encode(b"x").decode()}
    return {"message": message, "subscription": "projects/p/subscriptions/s"}


class _Function:
    """Records the bodies of its requests."""

    def __init__(self, status: int = 200) -> None:
        self.bodies: list[Any] = []
        self.status = status

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.bodies.append(Request(environ).get_json(force=True))
        return Response("said", self.status)(environ, start_response)


MESSAGE = Message(b"x", {}, "scenario-1", Instant(START + 5 * MILLISECOND))


def _delivered(gate: Gate, *pushes: str) -> tuple[Answer, list[int]]:
    """Deliver a message that the emulator numbers 7, and push IDs; return the response and the push statuses."""
    statuses: list[int] = []

    def push() -> None:
        statuses.extend(
            Client(gate).post("/", json=_push(identifier), buffered=True).status_code for identifier in pushes
        )

    threads: list[threading.Thread] = []

    def publish() -> str:
        threads.append(threading.Thread(target=push))
        threads[0].start()
        return "7"

    answer = gate.deliver(MESSAGE, publish)
    threads[0].join(timeout=10)
    return answer, statuses


def test_gate_shows_the_scenarios_id_and_time() -> None:
    """The function sees the scenario's ID and time, not the emulator's."""
    function = _Function()
    assert _delivered(Gate(function), "7") == (Answer(200, "said"), [200])
    (body,) = function.bodies
    assert body["message"]["messageId"] == "scenario-1"
    assert body["message"]["publishTime"] == "2021-02-18T21:40:22.005Z"
    assert base64.b64decode(body["message"]["data"]) == b"x"
    assert "message_id" not in body["message"]


@pytest.mark.parametrize("status", [200, 500])
def test_gate_lets_a_message_through_once(status: int) -> None:
    """Redeliveries, after any answer, and messages of others are acknowledged and reach no function."""
    function = _Function(status)
    gate = Gate(function)
    assert _delivered(gate, "6", "7") == (Answer(status, "said"), [200, status])
    assert Client(gate).post("/", json=_push("7"), buffered=True).status_code == 200
    assert len(function.bodies) == 1


def test_gate_keeps_a_second_push_waiting_while_the_first_is_under_way() -> None:
    """A message that is being handled is not acknowledged by its redelivery."""
    gate: Gate
    again: list[int] = []

    def function(environ: Any, start_response: Any) -> Any:
        again.append(Client(gate).post("/", json=_push("7"), buffered=True).status_code)
        return Response("said")(environ, start_response)

    gate = Gate(function)
    assert _delivered(gate, "7") == (Answer(200, "said"), [200])
    assert again == [409]


def _buildbucket(*answers: Reply) -> tuple[ScriptedBuildbucket, requests.Session]:
    buildbucket = ScriptedBuildbucket(SteppedClock(START), lambda _: True)
    buildbucket.begin(Delivery("deliveries[0]", "task", None, "timer", answers=answers))
    session = requests.Session()
    session.mount("http://", WsgiAdapter(buildbucket.app))
    return buildbucket, session


def _get_build(session: requests.Session) -> requests.Response:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    url = "http://buildbucket.invalid/prpc/buildbucket.v2.Builds/GetBuild"
    return session.post(url, json={"id": "1"}, headers=headers)


def test_answers_are_given_in_order_over_the_wire() -> None:
    """Successes, errors, front-end pages and lost responses follow each other, in the format of the protocol."""
    large = {"id": "1", "summaryMarkdown": "x" * 5000}  # large enough to be compressed
    buildbucket, session = _buildbucket(
        Reply(reply=large),
        Reply(code=5, text="not found"),
        Reply(http=502, text="bad"),
        Reply(lost=True),
        Reply(code=14),
    )
    first = _get_build(session)
    assert first.headers["Content-Encoding"] == "gzip"
    assert json.loads(first.text.removeprefix(")]}'")) == large
    second, third = _get_build(session), _get_build(session)
    assert (second.status_code, second.headers["X-Prpc-Grpc-Code"], second.text) == (404, "5", "not found\n")
    assert (third.status_code, third.headers.get("X-Prpc-Grpc-Code"), third.text) == (502, None, "bad")
    with pytest.raises(requests.ConnectionError):
        _get_build(session)
    assert _get_build(session).headers["X-Prpc-Grpc-Code"] == "14"
    assert buildbucket.unasked == 0
    buildbucket.require_answers()
    assert _get_build(session).status_code == 500
    with pytest.raises(ScenarioError, match=r"^\.answers: the scenario has no answer to a call of GetBuild"):
        buildbucket.require_answers()


def test_requests_are_checked_as_the_real_service_does() -> None:
    """A request that the service would refuse uses up no response."""
    buildbucket, session = _buildbucket(Reply(reply={"id": "1"}))
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    url = "http://buildbucket.invalid/prpc/buildbucket.v2.Builds/GetBuild"
    assert session.post(url, json={}, headers=headers).status_code == 400
    assert buildbucket.unasked == 1
    assert "GetBuild answered 400: bad request: one of id or" in buildbucket.calls


def test_notifications_of_a_build_go_where_its_own_request_said() -> None:
    """Of several builds each has its own token; a build without a known one is ambiguous."""
    buildbucket, session = _buildbucket(Reply(reply={"build": {"id": "11"}}), Reply(reply={"build": {"id": "12"}}))
    for number in ("1", "2"):
        body = {
            "bucket": "luci.tint.ci",
            "client_operation_id": number,
            "parameters_json": '{"builder_name": "mac-rel"}',
            "pubsub_callback": {"topic": "projects/luci-scheduler/topics/builds", "auth_token": f"token {number}"},
        }
        assert session.put("http://buildbucket.invalid/_ah/api/buildbucket/v1/builds", json=body).status_code == 200
    assert buildbucket.callback("11").user_data == "token 1"
    assert buildbucket.callback("12").user_data == "token 2"
    with pytest.raises(ScenarioError, match="no earlier answer contains build 13"):
        buildbucket.callback("13")


class _Server:
    """``ports.Buildbucket``: the client and its service."""

    def __init__(self, clock: SteppedClock, error: BuildbucketError | None = None) -> None:
        self._clock = clock
        self._error = error
        self.calls = 0

    def v2(
        self, server: str, method: str, request: Mapping[str, Any], *, until: Instant | None = None
    ) -> dict[str, Any]:
        if until is not None and until <= self._clock.now():
            raise BuildbucketError("DEADLINE_EXCEEDED", "the client's", transient=True)
        self.calls += 1
        if self._error:
            raise self._error
        return {"server": server, "method": method, **request}

    def v1(self, server: str, http_method: str, path: str, *_: Any, until: Instant | None = None) -> dict[str, Any]:
        return self.v2(server, f"{http_method} {path}", {}, until=until)


UNAVAILABLE = BuildbucketError("UNAVAILABLE", "the service's", transient=True)
SERVICES_END = BuildbucketError("DEADLINE_EXCEEDED", "the service's", transient=True)


@pytest.mark.parametrize(
    ("takes", "left", "error", "told", "elapsed"),
    [
        (60, None, None, "", 60),
        (61, None, None, "the client's", 60),
        (61, None, UNAVAILABLE, "the client's", 60),
        (61, None, SERVICES_END, "the service's", 61),
        (60, None, UNAVAILABLE, "the service's", 60),
        (20, 10, None, "the client's", 10),
        (20, 10, UNAVAILABLE, "the client's", 10),
        (20, 10, SERVICES_END, "the service's", 20),
        (10, 10, None, "", 10),
        (99, 99, None, "the client's", 60),
    ],
)
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_an_answer_after_the_deadline_does_not_count(
    takes: int, left: int | None, error: BuildbucketError | None, told: str, elapsed: int, protocol: str
) -> None:
    """The call has its effect; the client gives up at its deadline of a minute, or at the end that it was given."""
    clock = SteppedClock(START)
    stopwatch = Stopwatch(clock, {"call": takes * SECOND}, lambda: None)
    server = _Server(clock, error)
    client = TimedBuildbucket(server, TimedCalls(stopwatch, clock), MINUTE)
    until = None if left is None else Instant(START + left * SECOND)
    ask = (lambda: client.v1("s", "GET", "b", until=until)) if protocol == "v1" else _asking(client, until)
    if told:
        with pytest.raises(BuildbucketError, match=told):
            ask()
    else:
        assert ask()["server"] == "s"
    assert (clock.now() - START, server.calls) == (elapsed * SECOND, 1)
    assert client._calls.given_up == (told == "the client's")


def _asking(client: TimedBuildbucket, until: Instant | None) -> Callable[[], dict[str, Any]]:
    return lambda: client.v2("s", "GetBuild", {}, until=until)


def test_a_call_without_time_left_is_not_sent() -> None:
    """An unsent call takes no time and uses up no duration."""
    clock = SteppedClock(START)
    server = _Server(clock)
    client = TimedBuildbucket(server, TimedCalls(Stopwatch(clock, {"call": SECOND}, lambda: None), clock), MINUTE)
    with pytest.raises(BuildbucketError, match="the client's"):
        client.v2("s", "GetBuild", {}, until=START)
    assert (clock.now(), server.calls) == (START, 0)


@pytest.mark.parametrize(
    ("answer", "text"), [({"http": 500, "body": ""}, ""), ({"http": 500}, ""), ({"http": 400, "body": "x"}, "x")]
)
def test_an_answer_may_be_empty(answer: Any, text: str) -> None:
    """A server may return an empty body, and so may an error of v2."""
    path = Path("tests/golden/failing-v2-build/scenario.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    config = path.with_name("luci-scheduler.cfg").read_text(encoding="utf-8")
    document["deliveries"][0]["answers"] = [answer, {"error": "NOT_FOUND", "message": ""}]
    first, second = read_scenario(document, config).deliveries[0].answers
    assert (first.http, first.text) == (answer["http"], text)
    assert (second.code, second.text) == (5, "")


def test_tasks_wait_in_memory_as_on_the_server() -> None:
    """Due times are cut to microseconds, never before the creation; a failed task is due again after the same pause."""
    clock = SteppedClock(START)
    stage = MemoryStage(clock, {"on_task": _Function(500)}, _Function(), {})
    tasks = [
        QueueTask("timer", {"n": 1}, Instant(START + SECOND + 1999)),
        QueueTask("timer", {"n": 2}, Instant(START + SECOND + 1001)),
        QueueTask("launch", {"n": 3}, Instant(START - SECOND)),
    ]
    with CloudTasksServer(clock=clock, dispatch="manual") as server:
        name = server.create_queue("projects/p/locations/l/queues/q", retry_config=QUEUE_RETRIES)
        client = make_client(server.grpc_address)
        queue = CloudTasksQueue(client, name, "http://127.0.0.1:1", "a@b.c", "x")
        for task in tasks:
            queue.enqueue(task)
            stage._queue.enqueue(task)
        timer = ("timer", START + SECOND + 1000)
        first = [(task.kind, task.due) for task in stage.waiting()]
        assert first == [("launch", START), timer, timer]
        for _ in range(4):
            real = [(task.request.url.rpartition("/")[2], task.schedule_time) for task in server.waiting()]
            assert [(task.kind, task.due) for task in stage.waiting()] == real
            clock.reach(real[0][1])
            clock.advance(3 * MILLISECOND + 7)
            server.dispatch(server.waiting()[0].name)
            assert stage.dispatch(stage.waiting()[0]).status == 500
        client.transport.close()
