"""Handlers that another writer overtakes decide again, or leave the invocation to that writer."""

from collections.abc import Callable
from typing import Any

import pytest

from luci_scheduler.core.errors import ComeAgainError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.outbox import abort_task, launch_task
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import UpdateInvocation
from tests.unit.engine.ends import WHO, abort, abort_later, check, notify
from tests.unit.engine.world import JOB, Crash, World

ENDS: dict[str, tuple[Callable[[World], None], Status]] = {
    "notification": (notify, Status.SUCCEEDED),
    "timer": (check, Status.SUCCEEDED),
    "abort": (abort, Status.ABORTED),
    "abort task": (abort_later, Status.ABORTED),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_handler_that_loses_the_race_for_the_end_decides_again(name: str) -> None:
    """Another write precedes the commit of the end: the same delivery still records the end."""
    end, status = ENDS[name]
    world = World()
    world.commit()
    slipped: list[str] = []

    def slip_in(writes: list[Any]) -> None:
        if not slipped and any(isinstance(w, UpdateInvocation) and w.invocation.status.is_final for w in writes):
            slipped.append("another write")
            _touch(world)

    world.store.before_commit = slip_in
    end(world)
    assert slipped
    (invocation,) = world.invocations()
    assert invocation.status is status
    job = world.store.job(JOB)
    assert job is not None
    assert job.value.active_invocations == ()


def _touch(world: World) -> None:
    """Write the invocation unchanged: only its version changes."""
    found = world.store.invocation(JOB, world.invocations()[0].id)
    assert found is not None
    world.store.commit([UpdateInvocation(world.runtime.stamped(found.value, "touch"), found.version)])


def test_an_overtaken_launch_leaves_the_claim_of_its_successor_alone() -> None:
    """The first attempt stalls past its claim; the second claims the launch and dies: its claim and attempt stay."""
    world = World()
    build = world.buildbucket._ScheduleBuild
    claimed: list[Any] = []

    def die(_: Any) -> Any:
        raise Crash

    def stall(request: Any) -> Any:
        made = build(request)
        world.clock.advance(76 * SECOND)
        (invocation,) = world.invocations()
        world.buildbucket._SearchBuilds, search = die, world.buildbucket._SearchBuilds  # type: ignore[method-assign]
        now = world.clock.now()
        with pytest.raises(Crash):
            world.run_task(launch_task(invocation, now, now), "another")
        world.buildbucket._SearchBuilds = search  # type: ignore[method-assign]
        claimed.extend(world.invocations())
        return made

    world.buildbucket._ScheduleBuild = stall  # type: ignore[method-assign]
    world.commit()
    (invocation,) = world.invocations()
    assert invocation.attempts == 2
    assert invocation == claimed[0]
    assert invocation.claim_until is not None
    assert invocation.claim_until > world.clock.now()
    world.buildbucket._ScheduleBuild = build  # type: ignore[method-assign]
    for _ in range(5):
        world.tick(60)
        sweep(world.runtime)
    assert world.invocations()[0].status is Status.RUNNING
    assert world.buildbucket.canceled == []
    assert len(world.buildbucket.builds) == 1


def test_an_abort_task_waits_for_the_launch_in_progress() -> None:
    """The launch dies after its build exists: an abort task during the claim must not end the invocation."""
    world = World()
    build = world.buildbucket._ScheduleBuild
    answers: list[str] = []

    def dying(request: Any) -> Any:
        (invocation,) = world.invocations()
        abort_invocation(world.runtime, JOB, invocation.id, WHO, "k")
        try:
            world.run_task(abort_task(invocation, world.clock.now()))
        except ComeAgainError as error:
            answers.append(str(error))
        build(request)
        raise Crash

    world.buildbucket._ScheduleBuild = dying  # type: ignore[method-assign]
    with pytest.raises(Crash):
        world.commit()
    assert len(answers) == 1
    assert "still starting" in answers[0]
    world.buildbucket._ScheduleBuild = build  # type: ignore[method-assign]
    for _ in range(5):
        world.tick(60)
        sweep(world.runtime)
    assert world.invocations()[0].status is Status.ABORTED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)
    assert len(world.buildbucket.builds) == 1
