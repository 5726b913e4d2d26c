"""The client of Cloud Build over HTTP and the port in memory: the same answers and errors, also under faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from emulator.buildbucket.testing import MemoryPublisher, ScriptedEntropy
from emulator.clock import SteppedClock
from emulator.cloud_build import CloudBuildServer, Fault, MemoryCloudBuild, Service, Trigger
from emulator.serving.faults import Faults
from luci_scheduler.adapters.cloud_build import CloudBuildClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.instants import Instant
from luci_scheduler.ports import CloudBuild, CloudBuildError
from tests.waiting import until

START = 1_773_756_311_482_913_207
BASE = "/v1/projects/p/locations/us-central1"
BUILD = {"steps": [{"name": "bash", "script": "true"}], "tags": ["scheduler-invocation-1"]}
TRIGGER = Trigger("widget-ci", "t", "us-central1")
SECONDS = 20.0
"""The limit of a call that is answered; nothing waits so long."""
SHORT = 1.5
"""The limit of a call that is not answered in time; enough for the request to arrive on a busy machine."""


@dataclass
class Side:
    """A port with the service and the faults behind it."""

    port: CloudBuild
    service: Service
    faults: Faults[Fault]

    def call(self, method: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Call a method by its short name; build and trigger exist."""
        http_method, path, body = CALLS[method](self)
        return self.port.call(http_method, BASE + path, body, seconds=seconds)

    @property
    def build(self) -> str:
        """The ID of a build that goes on; it is made if there is none."""
        builds = (build.id for build in self.service.store.newest_first() if not build.ended)
        return (
            next(builds, "")
            or self.port.call("POST", f"{BASE}/builds", BUILD, seconds=SECONDS)["metadata"]["build"]["id"]
        )


CALLS: dict[str, Callable[[Side], tuple[str, str, Any]]] = {
    "create": lambda _: ("POST", "/builds", BUILD),
    "run": lambda _: ("POST", "/triggers/widget-ci:run", {}),
    "get": lambda side: ("GET", f"/builds/{side.build}", None),
    "list": lambda side: ("GET", "/builds" if side.build else "", None),
    "cancel": lambda side: ("POST", f"/builds/{side.build}:cancel", {}),
    "trigger": lambda _: ("GET", "/triggers/widget-ci", None),
    "account": lambda _: ("GET", "/defaultServiceAccount", None),
}


def make_sides() -> Iterator[tuple[str, Side, Callable[[], None]]]:
    clock = SteppedClock(START)
    server = CloudBuildServer(clock, MemoryPublisher(), triggers=[TRIGGER], entropy=ScriptedEntropy())
    server.start()
    client = CloudBuildClient(server.url, sessions(authenticated=False), clock)
    yield "http", Side(client, server.service, server.faults), server.stop
    service = Service(clock, ScriptedEntropy(), MemoryPublisher())
    service.triggers.add(TRIGGER)
    memory = MemoryCloudBuild(service)
    yield "memory", Side(memory, service, memory.faults), lambda: None


@pytest.fixture
def sides() -> Iterator[dict[str, Side]]:
    """Both ports, each on its service."""
    made = list(make_sides())
    yield {name: side for name, side, _ in made}
    for _, _, stop in made:
        stop()


@pytest.fixture(params=["http", "memory"])
def side(request: pytest.FixtureRequest, sides: dict[str, Side]) -> Side:
    """One of the ports."""
    return sides[request.param]


def failure(side: Side, method: str, seconds: float = SECONDS) -> CloudBuildError:
    """Return the error of a call."""
    with pytest.raises(CloudBuildError) as caught:
        side.call(method, seconds)
    return caught.value


@pytest.mark.parametrize("method", CALLS)
def test_both_ports_answer_alike(sides: dict[str, Side], method: str) -> None:
    """The members are the same; only IDs, numbers and addresses differ."""

    def members(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: members(member) for name, member in value.items()}
        return [members(item) for item in value[:1]] if isinstance(value, list) else type(value)

    http, memory = (members(sides[name].call(method)) for name in ("http", "memory"))
    assert http == memory
    assert http


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer(side: Side, method: str, when: Any) -> None:
    """The caller cannot know whether the call had its effect, which it has only if the answer is lost after it."""
    build_id = side.build
    count = len(list(side.service.store.newest_first()))
    side.faults.add(Fault("cut", method, when))
    error = failure(side, method)
    assert (error.code, error.transient) == ("UNAVAILABLE", True)
    made = len(list(side.service.store.newest_first())) - count
    assert made == (1 if when == "after" and method in ("create", "run") else 0)
    build = side.service.store.get(build_id)
    assert build is not None
    assert build.ended == (when == "after" and method == "cancel")
    side.call(method)


@pytest.mark.parametrize(
    ("fault", "code", "text", "transient"),
    [
        (Fault("error"), "UNAVAILABLE", "UNAVAILABLE: The service is currently unavailable.", True),
        (Fault("error", code="ABORTED", message="again"), "ABORTED", "ABORTED: again", True),
        (Fault("error", code="CANCELLED", message="gone"), "CANCELLED", "CANCELLED: gone", True),
        (Fault("error", code="ALREADY_EXISTS", message="is"), "ALREADY_EXISTS", "ALREADY_EXISTS: is", False),
        (
            Fault("error", code="PERMISSION_DENIED", message="The caller does not have permission"),
            "PERMISSION_DENIED",
            "PERMISSION_DENIED: The caller does not have permission",
            False,
        ),
        (Fault("quota"), "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED: Quota exceeded for quota metric", True),
        (Fault("disabled"), "PERMISSION_DENIED", "it is disabled. (SERVICE_DISABLED)", False),
        (Fault("html"), "UNAVAILABLE", "UNAVAILABLE: HTTP 502 without an error object", True),
        (Fault("html", status=404), "NOT_FOUND", "NOT_FOUND: HTTP 404 without an error object", True),
    ],
)
def test_errors(side: Side, fault: Fault, code: str, text: str, transient: bool) -> None:
    """Code, words and kind are the same on both sides, and the page of a front end stays out of the text."""
    side.faults.add(Fault(**{name: getattr(fault, name) for name in Fault.__slots__}))
    error = failure(side, "create")
    assert (error.code, error.transient, error.throttled) == (code, transient, fault.effect == "quota")
    assert text in str(error)
    assert error.reason == ("SERVICE_DISABLED" if fault.effect == "disabled" else "")


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_beyond_the_deadline(side: Side, when: Any) -> None:
    """The call ends at its deadline. After the effect, the build exists all the same."""
    count = len(list(side.service.store.newest_first()))
    side.faults.add(Fault("slow", "create", when, seconds=60))
    error = failure(side, "create", SHORT)
    assert (error.code, error.transient) == ("DEADLINE_EXCEEDED", True)
    if when == "after":
        until(lambda: len(list(side.service.store.newest_first())) == count + 1, "the build")


def test_a_slow_answer_within_the_deadline(side: Side) -> None:
    """It is an answer."""
    side.faults.add(Fault("slow", "list", seconds=0.01))
    assert side.call("list")


def test_a_body_that_breaks_off(side: Side) -> None:
    """It is no answer, and the build exists."""
    count = len(list(side.service.store.newest_first()))
    side.faults.add(Fault("cut_body", "create"))
    assert failure(side, "create").transient
    assert len(list(side.service.store.newest_first())) == count + 1


def test_nothing_is_sent_after_the_end(side: Side) -> None:
    """A call whose time is over makes no build."""
    count = len(list(side.service.store.newest_first()))
    with pytest.raises(CloudBuildError, match="DEADLINE_EXCEEDED"):
        side.port.call("POST", f"{BASE}/builds", BUILD, seconds=SECONDS, until=Instant(START))
    assert len(list(side.service.store.newest_first())) == count


def test_faults_are_chosen_and_counted(side: Side) -> None:
    """A fault affects its method and text, so often as it says."""
    assert side.build
    side.faults.add(Fault("error", "create", times=2, match="scheduler-invocation-1"))
    assert side.call("list")
    other = {**BUILD, "tags": ["other"]}
    side.port.call("POST", f"{BASE}/builds", other, seconds=SECONDS)
    for _ in range(2):
        assert failure(side, "create").transient
    assert side.call("create")


def test_refusals_name_the_rule(side: Side) -> None:
    """A bad request is permanent, with the service's words."""
    with pytest.raises(CloudBuildError) as caught:
        side.port.call("POST", f"{BASE}/builds", {**BUILD, "tags": ["a/b"]}, seconds=SECONDS)
    assert (caught.value.code, caught.value.transient) == ("INVALID_ARGUMENT", False)
    assert 'invalid build: invalid build tag "a/b": must match format' in str(caught.value)


def test_the_query_of_a_look_up(side: Side) -> None:
    """Filter and page size arrive as they were sent."""
    query = [("filter", 'tags="scheduler-invocation-1" AND NOT status="CANCELLED"'), ("pageSize", "1")]
    build = side.build
    found = side.port.call("GET", f"{BASE}/builds", query=query, seconds=SECONDS)
    assert [item["id"] for item in found["builds"]] == [build]
