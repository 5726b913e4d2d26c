"""Answers that do not come from Buildbucket end no invocation: the real client, in a launch and in a status check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.respond import responding
from tests.answering import Answer, Answering, answering
from tests.unit.engine.world import FakeBuildbucket, World

PAGE = b"<html><body>Sign in, please</body></html>"
HTML = {"Content-Type": "text/html; charset=UTF-8"}


def own(code: int, status: int, text: str = "no", **headers: str) -> Answer:
    """Return an error of the service itself."""
    return Answer(
        status, text.encode() + b"\n", {"X-Prpc-Grpc-Code": str(code), "Content-Type": "text/plain", **headers}
    )


def good(body: bytes) -> Answer:
    """Return an answer that looks like a success."""
    return Answer(200, body, {"X-Prpc-Grpc-Code": "0", "Content-Type": "application/json"})


TRANSIENT = {
    **{
        f"{status}, a page": Answer(status, PAGE, HTML)
        for status in (200, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504)
    },
    "302": Answer(302, PAGE, {**HTML, "Location": "http://127.0.0.1:1/login"}),
    "200, JSON without a code": Answer(200, b'{"id": "1"}', {"Content-Type": "application/json"}),
    "an unreadable code": Answer(404, b"no", {"X-Prpc-Grpc-Code": "abc"}),
    "an unknown code": own(99, 404),
    "UNKNOWN": own(2, 500),
    "DEADLINE_EXCEEDED": own(4, 504),
    "RESOURCE_EXHAUSTED": own(8, 429),
    "ABORTED": own(10, 409),
    "INTERNAL": own(13, 500),
    "UNAVAILABLE": own(14, 503),
    "a page, code 0": Answer(200, PAGE, {**HTML, "X-Prpc-Grpc-Code": "0"}),
    "no object": good(b"[]"),
    "NaN": good(b'{"id": NaN}'),
    "too deep": good(b'{"id": ' * 100_000),
    "a huge number": good(b'{"id": ' + b"9" * 100_000 + b"}"),
}
FATAL = {
    name: own(code, status)
    for name, code, status in (
        ("INVALID_ARGUMENT", 3, 400),
        ("NOT_FOUND", 5, 404),
        ("PERMISSION_DENIED", 7, 403),
        ("FAILED_PRECONDITION", 9, 400),
        ("UNAUTHENTICATED", 16, 401),
    )
}


@pytest.fixture
def server() -> Iterator[Answering]:
    """A server on loopback."""
    with answering() as said:
        yield said


@pytest.fixture
def world(server: Answering) -> World:
    """Return a world whose Buildbucket calls go to that server."""
    world = World()
    builds = world.buildbucket

    def behind(path: str, request: Any) -> Answer:
        return good(b")]}'\n" + json.dumps(FakeBuildbucket.v2(builds, "", path.rpartition("/")[2], request)).encode())

    server.otherwise = behind
    client = BuildbucketClient(lambda _: server.url, sessions(authenticated=False), world.clock, 30 * SECOND)
    builds.v2 = client.v2  # type: ignore[method-assign]
    return world


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT)
def test_a_status_check_without_an_answer_changes_nothing(answer: Answer, server: Answering, world: World) -> None:
    """The notification is delivered again; the slot stays taken, and the next delivery sees the end."""
    world.commit("a", "m1")
    world.commit("b", "m2")
    (running,) = world.invocations()
    server.answers = [answer]
    with responding() as response:
        world.notify("n1")
    assert response.code == 500
    server.answers = [answer]
    with pytest.raises(TransientError):
        world.run_task(world.queue.tasks[0])
    assert [item.status for item in world.invocations()] == [Status.RUNNING]
    assert len(world.buildbucket.builds) == 1
    world.finish()
    world.notify("n1")
    newer, ended = world.invocations()
    assert (ended.id, ended.status, newer.status) == (running.id, Status.SUCCEEDED, Status.RUNNING)


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT)
def test_a_launch_with_a_foreign_answer_is_retried(answer: Answer, server: Answering, world: World) -> None:
    """The retried launch creates one build."""
    server.answers = [answer]
    world.commit()
    assert [item.status for item in world.invocations()] == [Status.RETRYING]
    assert "Failed to schedule Buildbucket build - " in world.log()
    server.answers = [answer]  # to the look-up by the tag
    world.tick(10)
    assert [item.status for item in world.invocations()] == [Status.RETRYING]
    world.tick(20)
    assert [item.status for item in world.invocations()] == [Status.RUNNING]
    assert len(world.buildbucket.builds) == 1


@pytest.mark.parametrize("answer", FATAL.values(), ids=FATAL)
def test_a_refusal_of_the_service_itself_ends_the_invocation(answer: Answer, server: Answering, world: World) -> None:
    """This holds for a check and for a launch, as in the original."""
    world.commit("a", "m1")
    server.answers = [answer]
    world.notify("n1")
    assert [item.status for item in world.invocations()] == [Status.FAILED]
    # A launch that gives up may look for its build: the service refuses the look-up as well.
    server.answers = [answer] * 2
    world.commit("b", "m2")
    assert world.invocations()[0].status is Status.FAILED


def test_an_error_for_a_quota_names_its_pause(server: Answering, world: World) -> None:
    """The error that the engine gets has the pause, even if a proxy in front sends it."""
    client = BuildbucketClient(lambda _: server.url, sessions(authenticated=False), world.clock, 30 * SECOND)
    for answer in (own(8, 429, **{"Retry-After": "7"}), Answer(429, PAGE, {**HTML, "Retry-After": "7"})):
        server.answers = [answer]
        with pytest.raises(Exception, match=r"429|RESOURCE_EXHAUSTED") as raised:
            client.v2("h", "GetBuild", {})
        error: Any = raised.value
        assert (error.transient, error.throttled, error.retry_after) == (True, True, 7 * SECOND)
