"""A Buildbucket server without notifications: builds from their launch to their end, found by status checks alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.api.export import to_scenario
from luci_scheduler.bootstrap import make_app
from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.ports import BuildbucketError
from tests.unit.api.support import Client, world_for
from tests.unit.engine.buildbucket_model import Model
from tests.unit.engine.world import JOB, World

LINE = "The server sends no notifications here: status checks alone find the build's end"


def _world(protocol: Era, **settings: Any) -> tuple[World, Model]:
    """Return a world whose server sends no notifications, and that server."""
    world = world_for()
    model = Model(world.clock, remembers=0, after=_succeeded)
    (server,) = world.app.settings.buildbucket_servers
    changes = {"check_interval_seconds": 0, **settings}
    changes["buildbucket_servers"] = (replace(server, protocol=protocol, notifications=False),)
    world.ports = replace(world.ports, buildbucket=model)
    world.app = make_app(replace(world.app.settings, **changes), world.ports)
    world.runtime = world.app.runtime
    return world, model


def _succeeded(_: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Add the result to an ended build of v1."""
    build = answer.get("build", {})
    if build.get("status") == "COMPLETED":
        build["result"] = "SUCCESS"
    return answer


def _pauses(invocation: Invocation) -> list[int]:
    return [timer.eta - timer.created for timer in invocation.pending_timers]


@pytest.mark.parametrize(("protocol", "ended"), [(Era.V1, "COMPLETED"), (Era.V2, "SUCCESS")])
def test_from_launch_to_end_without_a_notification(protocol: Era, ended: str) -> None:
    """Requests have neither topic nor token, and a check each minute finds the end. Waiting commits then start."""
    world, model = _world(protocol)
    lost = [BuildbucketError("UNAVAILABLE", "", transient=True)]

    def lose_first_request(method: str) -> None:
        if method == "ScheduleBuild" and lost:
            raise lost.pop()

    model.before = lose_first_request
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.tick(30)
    (build,) = model.builds.values()
    (invocation,) = world.invocations()
    assert _pauses(invocation) == [MINUTE]
    world.tick(60)
    assert [item.status for item in world.invocations()] == [Status.RUNNING]
    assert _pauses(world.invocations()[0]) == [MINUTE]
    build.status = ended
    world.tick(60)
    newest, oldest = world.invocations()
    assert (newest.status, oldest.status) == (Status.RUNNING, Status.SUCCEEDED)
    list(model.builds.values())[1].status = ended
    world.tick(60)
    assert {item.status for item in world.invocations()} == {Status.SUCCEEDED}
    assert len(model.builds) == 2
    for build in model.builds.values():
        assert {"notify", "pubsub_callback"}.isdisjoint(build.request)
        assert "userData" not in str(build.request)
    assert LINE in world.log()
    assert "PubSub topic" not in world.log()


def test_the_interval_of_checks_can_be_set() -> None:
    """The setting wins over the minute, as it does over the defaults of the eras."""
    world, _ = _world(Era.V2, check_interval_seconds=20)
    world.commit()
    assert _pauses(world.invocations()[0]) == [20 * SECOND]


def test_pages_say_that_the_server_sends_no_notifications() -> None:
    """The log on the invocation's page says it. Its run is no scenario, because a scenario names a topic."""
    world, model = _world(Era.V2)
    world.commit()
    (build,) = model.builds.values()
    build.status = "SUCCESS"
    world.tick(60)
    (invocation,) = world.invocations()
    page = Client(world).http(f"/jobs/{JOB}/{invocation.id}", who="owner@example.com", method="GET").text
    assert "The server sends no notifications here" in page
    assert (
        json.loads(to_scenario(invocation, world.log()).scenario)["service"]["buildbucket"][0]["notifications"] is False
    )
