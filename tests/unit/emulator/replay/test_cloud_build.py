"""Cloud Build in a replay: each kind of answer, as the client of the functions gets it."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.clock import SteppedClock
from emulator.replay.answers import Reply
from emulator.replay.cloud_build import ScriptedCloudBuild
from luci_scheduler.core.instants import Instant
from luci_scheduler.ports import CloudBuildError

BUILDS = "/v1/projects/p/locations/l/builds"


def _call(reply: Reply | None, path: str = BUILDS, body: Any = None) -> tuple[Any, str]:
    """Return the answer and the method that the server recognized."""
    methods: list[str] = []

    def take(method: str) -> Reply | None:
        methods.append(method)
        return reply

    client = ScriptedCloudBuild(take).client(SteppedClock(Instant(0)))
    return client.call("GET" if body is None else "POST", path, body, seconds=5), methods[0]


@pytest.mark.parametrize(
    ("path", "body", "method"),
    [
        (BUILDS, {}, "builds.create"),
        (BUILDS, None, "builds.list"),
        (f"{BUILDS}/b", None, "builds.get"),
        (f"{BUILDS}/b:cancel", {}, "builds.cancel"),
        ("/v1/projects/p/locations/l/triggers/t:run", {}, "triggers.run"),
        ("/v1/unknown", None, "/v1/unknown"),
    ],
)
def test_a_method_has_its_name(path: str, body: Any, method: str) -> None:
    """Faults of a scenario name the call."""
    assert _call(Reply(reply={"a": 1}), path, body) == ({"a": 1}, method)


def test_a_look_up_without_an_answer_finds_nothing() -> None:
    """A refused launch looks for its build without a log line."""
    assert _call(None) == ({}, "builds.list")


@pytest.mark.parametrize(
    ("reply", "code", "transient"),
    [
        (Reply(code=5, text="no such build"), "NOT_FOUND", False),
        (Reply(code=8), "RESOURCE_EXHAUSTED", True),
        (Reply(code=13), "INTERNAL", True),
        (Reply(http=502, text="<html>"), "UNAVAILABLE", True),
        (Reply(lost=True), "UNAVAILABLE", True),
    ],
)
def test_a_failure_is_that_of_the_service(reply: Reply, code: str, transient: bool) -> None:
    """The client judges it as in the cloud."""
    with pytest.raises(CloudBuildError) as raised:
        _call(reply)
    assert (raised.value.code, raised.value.transient) == (code, transient)
