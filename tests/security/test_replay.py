"""Every recorded delivery of a build, sent again: nothing changes, and no second build starts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from luci_scheduler.api.context import request_key
from luci_scheduler.core.identity import user
from luci_scheduler.core.instants import DAY, HOUR, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.notification_token import make_token
from luci_scheduler.ports import QueueTask
from tests.fuzz.site import ACCOUNT, CONSOLE, ON_TASK, Answer, Site
from tests.security.doors import ON_EVENT, PUSH_ACCOUNT, Door, guarded, push
from tests.unit.api.support import ADMIN, OWNER, world_for
from tests.unit.engine.world import JOB

_ACCOUNTS = {ON_EVENT: PUSH_ACCOUNT, ON_TASK: ACCOUNT, CONSOLE: OWNER}


@pytest.fixture(name="served")
def _served() -> Iterator[tuple[Site, Mapping[str, Door]]]:
    with guarded() as served:
        yield served


@dataclass
class Recorder:
    """Sends deliveries with fresh tokens of their senders, and records them."""

    functions: Site
    sent: list[tuple[Door, Mapping[str, str]]]

    def send(self, door: Door, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a delivery and record it."""
        self.sent.append((door, headers or {}))
        return self.again(door, headers or {})

    def again(self, door: Door, headers: Mapping[str, str]) -> Answer:
        """Send a delivery."""
        proof = self.functions.token(door.audience, _ACCOUNTS[door.audience])
        return door.knock(self.functions, {"Authorization": proof, **headers})

    def run_due(self, seconds: int) -> None:
        """Let time pass, and deliver the due tasks as the queue does."""
        world = self.functions.world
        world.clock.advance(seconds * SECOND)
        for number, task in enumerate(world.queue.take_due(world.clock.now())):
            self.send(_task(task), {"X-CloudTasks-TaskName": f"{world.clock.now()}-{number}"})


def _task(task: QueueTask) -> Door:
    return Door("on_task", f"/{task.kind}", json.dumps(task.payload).encode(), audience=ON_TASK)


def _life(recorder: Recorder, doors: Mapping[str, Door]) -> None:
    """Let people and machines start, watch, pause and end builds."""
    world = recorder.functions.world
    recorder.send(doors["commit"])
    recorder.send(doors["notification"])
    recorder.run_due(61)
    world.finish(build_id="9000")
    (running, *_) = (item for item in world.invocations() if item.status is Status.RUNNING)
    token = make_token("secret", JOB, running.id, world.clock.now())
    recorder.send(Door("on_build_completion", "/t", push(b"{}", "end", {"auth_token": token}), audience=ON_EVENT))
    for name in ("trigger", "form", "sweep", "sync"):
        recorder.send(doors[name])
    trigger = {"jobRef": {"project": "proj", "job": "job"}, "requestId": "r1"}
    recorder.send(Door("console", "/prpc/scheduler.Operator/TriggerJob", json.dumps(trigger).encode()))
    recorder.run_due(5)
    for _ in range(4):
        for build in list(world.buildbucket.builds):
            world.finish(build_id=build)
        recorder.run_due(90)


@pytest.mark.parametrize("later", [0, 29 * MINUTE, 40 * HOUR], ids=["at once", "within half an hour", "after days"])
def test_every_delivery_sent_again_changes_nothing(later: int) -> None:
    """An attacker has recorded all requests, and has valid tokens of their senders."""
    world = world_for()
    with guarded(world) as (functions, doors):
        recorder = Recorder(functions, [])
        _life(recorder, doors)
        assert {item.status for item in world.invocations()} == {Status.SUCCEEDED}
        paths = {door.path.rpartition("/")[2] for door, _ in recorder.sent}
        assert paths == {"t", "timer", "deferred", "trigger", "sweep", "sync", "job", "TriggerJob"}
        assert len(recorder.sent) >= 14
        builds = list(world.buildbucket.calls)
        world.clock.advance(later)
        before = world.invocations()
        # A person's request is recorded as work again, and the work finds that its triggers are known.
        for door, headers in sorted(recorder.sent, key=lambda sent: sent[0].audience == CONSOLE):
            answer = recorder.again(door, headers)
            assert answer.code in (200, 302, 403), (door, answer)
            assert not answer.writes or door.audience == CONSOLE, (door, answer)
        for _ in range(3):
            recorder.run_due(60)
        assert world.invocations() == before
        assert world.buildbucket.calls == builds
        assert world.works() == world.queue.take_due(Instant(world.clock.now() + 365 * DAY)) == []


def test_a_notification_counts_once(served: tuple[Site, Mapping[str, Door]]) -> None:
    """The same message again costs one read. After the end, so does any message, and Buildbucket is not asked."""
    functions, doors = served
    world, recorder = functions.world, Recorder(functions, [])
    assert recorder.send(doors["notification"]).writes == 1
    calls = list(world.buildbucket.calls)
    world.counted()
    assert recorder.send(doors["notification"]).code == 200
    assert (world.counted(), world.buildbucket.calls) == ("1R/0W/0c", calls)
    world.finish()
    token = make_token("secret", JOB, world.invocations()[0].id, world.clock.now())
    for number in range(3):
        body = push(b"{}", f"end{number}", {"auth_token": token})
        answer = recorder.send(Door("on_build_completion", "/t", body, audience=ON_EVENT))
        assert (answer.code, bool(answer.writes)) == (200, number == 0)
    assert world.invocations()[0].status is Status.SUCCEEDED
    assert world.buildbucket.calls == [*calls, "GetBuild"]


def test_two_people_never_share_the_key_of_a_request() -> None:
    """Otherwise one person's request would be taken for a repetition of the other's, and get lost."""
    assert request_key(user(OWNER), "r") != request_key(user(ADMIN), "r")
    assert request_key(user(OWNER), "r") == request_key(user(OWNER), "r")
