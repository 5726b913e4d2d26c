"""Timers, aborts and notifications that come too early, twice, or in place of one another."""

from __future__ import annotations

from typing import Any

import pytest

from luci_scheduler.core.errors import ComeAgainError
from luci_scheduler.core.instants import MINUTE
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import BuildbucketError, QueueTask
from tests.unit.engine.world import JOB, World

ALICE, BOB = "user:alice@example.com", "user:bob@example.com"
DOWN = BuildbucketError("UNAVAILABLE", "down", transient=True)


def _check_of(world: World) -> QueueTask:
    (task,) = [task for task in world.queue.tasks if task.kind == "timer"]
    return task


@pytest.mark.parametrize("step", ["launch", "check"])
def test_timer_ahead_of_its_commit_is_delivered_again(step: str) -> None:
    """The task of a check is on the queue before the commit that records the timer, and may run before it."""
    world = World()
    known: list[QueueTask] = []
    if step == "check":
        world.commit()
        known.append(_check_of(world))
        world.clock.advance(MINUTE)
    early: list[QueueTask] = []

    def deliver(writes: list[Any]) -> None:
        new = [task for task in world.queue.tasks if task.kind == "timer" and task not in known]
        if new and not early:
            early.extend(new)
            with pytest.raises(ComeAgainError, match="ahead of the commit"):
                world.run_task(new[0])

    world.store.before_commit = deliver
    if known:
        world.run_task(known[0])
    else:
        world.commit()
    assert len(early) == 1
    world.clock.advance(MINUTE)
    world.buildbucket.calls.clear()
    world.run_task(early[0])
    assert world.buildbucket.calls == ["GetBuild"]


def test_check_performs_an_abort_whose_task_is_lost() -> None:
    """Any delivery about the invocation does; otherwise a running build would be canceled only by the sweep."""
    world = World()
    world.commit()
    check = _check_of(world)
    world.buildbucket.faults = [DOWN]
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, ALICE, "k")
    assert world.invocations()[0].status is Status.RUNNING
    world.queue.purge()
    world.clock.advance(MINUTE)
    world.run_task(check)
    assert world.invocations()[0].status is Status.ABORTED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


def test_sweep_performs_the_abort_of_a_retry_long_before_its_next_attempt() -> None:
    """The abort counts from its request: the next attempt may be ten minutes away."""
    world = World()
    world.buildbucket.faults = [DOWN] * 100
    world.commit()
    while world.invocations()[0].attempts < 9:
        world.tick(30)
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, ALICE, "k")
    world.queue.purge()
    world.clock.advance(world.runtime.limits.sweep_grace)
    sweep(world.runtime)
    assert [task.kind for task in world.queue.tasks] == ["abort"]


def test_abort_during_the_request_cancels_the_build_by_its_id() -> None:
    """The launch knows the build from the answer, which a search may not show yet."""
    world = World()
    world.buildbucket.on_schedule = lambda: abort_invocation(world.runtime, JOB, world.invocations()[0].id, ALICE, "k")
    world.commit()
    assert world.invocations()[0].status is Status.ABORTED
    assert world.buildbucket.calls == ["ScheduleBuild", "CancelBuild"]
    assert world.buildbucket.canceled == list(world.buildbucket.builds)
    assert world.invocations()[0].view_url.endswith(f"/build/{world.buildbucket.canceled[0]}")


def test_first_abort_request_counts() -> None:
    """A second request changes neither the caller, nor the reason, nor the time from which the patience counts."""
    world = World()
    world.commit()
    world.buildbucket.faults = [DOWN] * 2
    invocation_id = world.invocations()[0].id
    abort_invocation(world.runtime, JOB, invocation_id, ALICE, "k", "flaky")
    requested = world.clock.now()
    world.clock.advance(MINUTE)
    abort_invocation(world.runtime, JOB, invocation_id, BOB, "l", "mine")
    (invocation,) = world.invocations()
    assert (invocation.abort_requested_by, invocation.abort_reason) == (ALICE, "flaky")
    assert invocation.abort_requested_at == requested


def test_notification_during_the_launch_is_delivered_again() -> None:
    """The build may end before the launch records it: Pub/Sub repeats the message, and the end is seen at once."""
    world = World()

    def end_at_once() -> None:
        world.finish()
        with pytest.raises(ComeAgainError, match="still starting"):
            world.notify("m")

    world.buildbucket.on_schedule = end_at_once
    world.commit()
    world.notify("m")
    assert world.invocations()[0].status is Status.SUCCEEDED


def test_repeated_notification_asks_and_writes_nothing() -> None:
    """Pub/Sub delivers a message at least once; also the oldest of many messages is known."""
    world = World()
    world.commit()
    for number in range(world.runtime.limits.handled_notifications):
        world.notify(f"m{number}")
    world.buildbucket.calls.clear()
    world.store.counts.clear()
    world.notify("m0")
    world.notify("m15")
    assert world.buildbucket.calls == []
    assert world.counted() == "2R/0W/0c"
    world.notify("m16")
    world.notify("m16")
    assert world.buildbucket.calls == ["GetBuild"]
