"""Commits that land although the store reports a conflict: the handler recognizes its own commit and continues."""

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from luci_scheduler.core.errors import StoreConflictError
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import BuildbucketError, UpdateInvocation
from tests.unit.engine.ends import DOWN, abort, abort_later, check, notify
from tests.unit.engine.world import World, config

Is = Callable[[UpdateInvocation], bool]


def _report_conflict_once(world: World, which: Is) -> list[str]:
    """Let the first commit with such an update land and report a conflict; return a list that then holds its status."""
    commit, reported = world.store.commit, []

    def landed(writes: Any) -> Any:
        versions = commit(writes)
        updates = [write for write in writes if isinstance(write, UpdateInvocation) and which(write)]
        if updates and not reported:
            reported.append(str(updates[0].invocation.status))
            raise StoreConflictError("the commit landed; this is the answer to the client's second try")
        return versions

    world.store.commit = landed  # type: ignore[method-assign]
    return reported


def _is_claim(write: UpdateInvocation) -> bool:
    return write.invocation.status.is_initial and write.invocation.claim_until is not None


def _is_end(write: UpdateInvocation) -> bool:
    return write.invocation.status.is_final


def test_a_launch_recognizes_its_own_claim() -> None:
    """The delivery that claimed the launch requests the build at once, in its first attempt."""
    world = World()
    reported = _report_conflict_once(world, _is_claim)
    world.commit()
    assert reported == ["STARTING"]
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.attempts) == (Status.RUNNING, 1)
    assert world.buildbucket.calls == ["ScheduleBuild"]
    assert world.log().count("Starting the invocation (attempt") == 1
    assert [task.kind for task in world.queue.tasks] == ["timer"]


def test_a_retry_recognizes_its_own_claim() -> None:
    """The launch task searches for the build and requests it at once, in its second attempt."""
    world = World()
    world.buildbucket.faults = [DOWN]
    world.commit()
    reported = _report_conflict_once(world, _is_claim)
    world.tick(10)
    assert reported == ["RETRYING"]
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.attempts) == (Status.RUNNING, 2)
    assert len(world.buildbucket.builds) == 1


def test_a_launch_recognizes_its_own_outcome() -> None:
    """The recorded build is the launch's own: it is neither requested again nor canceled."""
    world = World()
    reported = _report_conflict_once(world, lambda write: write.invocation.status is Status.RUNNING)
    world.commit()
    assert reported == ["RUNNING"]
    assert world.buildbucket.calls == ["ScheduleBuild"]
    assert world.invocations()[0].status is Status.RUNNING


ENDS = {"notification": notify, "timer": check, "abort": abort, "abort task": abort_later}


@pytest.mark.parametrize("name", ENDS)
def test_a_handler_recognizes_its_own_end(name: str) -> None:
    """The end is recorded, logged and counted once: the line ``invocation_finished`` feeds the metrics."""
    world = World()
    world.commit()
    reported = _report_conflict_once(world, _is_end)
    with capture_logs() as lines:
        ENDS[name](world)
    assert len(reported) == 1
    (invocation,) = world.invocations()
    assert str(invocation.status) == reported[0]
    assert world.log().count("Invocation finished in") == 1
    assert [line["status"] for line in lines if line["event"] == "invocation_finished"] == reported
    assert len(world.buildbucket.canceled) == name.startswith("abort")


def test_a_launch_that_fails_for_good_recognizes_its_own_end() -> None:
    """Buildbucket refuses the build: the end is counted although its commit reported a conflict."""
    world = World()
    world.buildbucket.faults = [BuildbucketError("PERMISSION_DENIED", "no", transient=False)]
    reported = _report_conflict_once(world, _is_end)
    with capture_logs() as lines:
        world.commit()
    assert reported == ["FAILED"]
    assert [line["status"] for line in lines if line["event"] == "invocation_finished"] == reported
    assert world.buildbucket.builds == {}


@pytest.mark.parametrize("name", ENDS)
def test_a_successor_is_launched_although_the_end_reports_a_conflict(name: str) -> None:
    """The successor was committed with the end: the sweep finds it if the handler does not launch it."""
    world = World(config(policy="triggering_policy { max_concurrent_invocations: 1 }"))
    world.commit("a", "m1")
    world.commit("b", "m2")
    reported = _report_conflict_once(world, _is_end)
    ENDS[name](world)
    assert len(reported) == 1
    for _ in range(5):
        world.tick(60)
        sweep(world.runtime)
        world.tick()
    newest, _ = world.invocations()
    assert newest.status is Status.RUNNING
    assert len(world.buildbucket.builds) == 2
