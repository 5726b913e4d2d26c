"""Due times: the sweep handles a document two minutes after it is due, not earlier, and with the right task."""

from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.core.errors import ComeAgainError
from luci_scheduler.core.identifiers import InvocationId
from luci_scheduler.core.instants import MINUTE
from luci_scheduler.core.invocation import Status, Timer
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.managers.controller import timer_task
from luci_scheduler.ports import BuildbucketError, QueueTask, UpdateInvocation
from tests.unit.engine.world import JOB, Crash, World

WHO = "user:a@example.com"
DOWN = BuildbucketError("UNAVAILABLE", "down", transient=True)
GRACE = 2 * MINUTE


def _swept(world: World) -> list[str]:
    """Sweep, and return the kinds of the tasks that are new on the queue."""
    before = world.queue.tasks
    sweep(world.runtime)
    return [task.kind for task in world.queue.tasks if task not in before]


def test_a_retry_is_due_when_its_pause_is_over() -> None:
    """The eighth attempt failed: the next is due after the pause, and the sweep finds it two minutes later."""
    world = World()
    world.buildbucket.faults = [DOWN] * 100
    world.commit()
    while world.invocations()[0].attempts < 8:
        world.tick(30)
    (invocation,) = world.invocations()
    assert invocation.status is Status.RETRYING
    (task,) = world.queue.tasks
    assert invocation.next_due == task.eta
    assert task.eta - world.clock.now() > 5 * MINUTE
    world.queue.purge()
    world.clock.move_to(task.eta)
    world.clock.advance(GRACE - 1)
    assert _swept(world) == []
    world.clock.advance(1)
    assert _swept(world) == ["launch"]


def test_a_claimed_launch_is_due_when_its_claim_ends() -> None:
    """The process of a second attempt dies: the sweep waits for the end of the claim, and two more minutes."""
    world = World()
    world.buildbucket.faults = [DOWN]
    world.commit()
    world.clock.advance(MINUTE)

    def die(*_: Any, **__: Any) -> Any:
        raise Crash

    world.buildbucket.v2 = die  # type: ignore[method-assign]
    with pytest.raises(Crash):
        world.tick()
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.attempts) == (Status.RETRYING, 2)
    assert invocation.claim_until is not None
    assert invocation.next_due == invocation.claim_until
    world.queue.purge()
    world.clock.move_to(invocation.claim_until)
    world.clock.advance(GRACE - 1)
    assert _swept(world) == []
    world.clock.advance(1)
    assert _swept(world) == ["launch"]


def test_the_sweep_resumes_an_abort_whose_task_is_lost() -> None:
    """The sweep enqueues the abort's task, which ends the invocation before its next status check."""
    world = World()
    world.commit()
    (invocation,) = world.invocations()
    assert invocation.next_due is not None
    world.clock.move_to(invocation.next_due)
    world.buildbucket.faults = [DOWN]
    abort_invocation(world.runtime, JOB, invocation.id, WHO, "k")
    world.queue.purge()
    world.clock.advance(GRACE)
    assert _swept(world) == ["abort"]
    world.tick()
    assert world.invocations()[0].status is Status.ABORTED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


def test_a_launch_task_ahead_of_its_invocation_is_retried() -> None:
    """For five minutes a launch task waits for the commit that creates its invocation; then it is dropped."""
    world = World()
    world.commit()
    (invocation,) = world.invocations()
    absent = replace(invocation, id=InvocationId(invocation.id - 1))
    task = launch_task(absent, world.clock.now(), world.clock.now())
    with pytest.raises(ComeAgainError, match="not created yet"):
        world.run_task(task)
    world.clock.advance(5 * MINUTE - 1)
    with pytest.raises(ComeAgainError, match="not created yet"):
        world.run_task(task)
    world.clock.advance(1)
    world.run_task(task)
    assert len(world.buildbucket.builds) == 1


def test_a_launch_task_under_a_live_claim_is_repeated_when_the_claim_ends() -> None:
    """An early launch task enqueues a task for the end of the claim, so that no launch depends on the sweep."""
    world = World()
    tasks: list[QueueTask] = []

    def early() -> None:
        (invocation,) = world.invocations()
        world.run_task(launch_task(invocation, world.clock.now(), world.clock.now()), "early")
        tasks.extend(world.queue.tasks)
        raise Crash

    world.buildbucket.on_schedule = early
    with pytest.raises(Crash):
        world.commit()
    world.buildbucket.on_schedule = None
    (invocation,) = world.invocations()
    assert [(task.kind, task.eta) for task in tasks] == [("launch", invocation.claim_until)]
    world.tick(75)
    assert world.invocations()[0].status is Status.RUNNING
    assert len(world.buildbucket.builds) == 1


def test_a_launch_task_whose_process_died_is_repeated_when_its_claim_ends() -> None:
    """The queue delivers the task again at once.

    That delivery enqueues a task for the claim's end, and sends no request.
    """
    world = World()
    world.buildbucket.faults = [DOWN]
    world.commit()
    (task,) = world.queue.tasks
    world.queue.remove(task)
    world.clock.move_to(task.eta)
    answering = world.buildbucket.v2

    def die(*_: Any, **__: Any) -> Any:
        raise Crash

    world.buildbucket.v2 = die  # type: ignore[method-assign]
    with pytest.raises(Crash):
        world.run_task(task)
    world.run_task(task)
    (invocation,) = world.invocations()
    assert [(again.kind, again.eta) for again in world.queue.tasks] == [("launch", invocation.claim_until)]
    world.buildbucket.v2 = answering  # type: ignore[method-assign]
    world.tick(75)
    assert world.invocations()[0].status is Status.RUNNING
    assert len(world.buildbucket.builds) == 1


def test_a_timer_after_the_end_changes_nothing() -> None:
    """A document that lists a timer of an ended invocation, as an older version might leave it, does not change."""
    world = World()
    world.commit()
    world.finish()
    world.notify("done")
    found = world.store.invocation(JOB, world.invocations()[0].id)
    assert found is not None
    ended = found.value
    now = world.clock.now()
    timer = Timer(f"{JOB}:{ended.id}:1:0", "check-buildbucket-build-status", now, now)
    left = replace(ended, pending_timers=(timer,))
    world.store.commit([UpdateInvocation(left, found.version)])
    world.buildbucket.calls.clear()
    world.store.counts.clear()
    world.run_task(timer_task(left, timer))
    assert world.counted() == "1R/0W/0c"
    assert world.buildbucket.calls == []


def test_the_size_of_the_log_is_counted_at_every_step() -> None:
    """The log's limit relies on this number: after each step it equals the number of stored bytes."""
    world = World()
    two_bytes = BuildbucketError("UNAVAILABLE", "é", transient=True)
    world.buildbucket.faults = [two_bytes] * 3
    sizes: list[tuple[int, int]] = []

    def measure() -> None:
        (invocation,) = world.invocations()
        sizes.append((invocation.log_size, len(world.log().encode())))

    world.buildbucket.on_schedule = measure  # the claim's line is stored, the outcome's lines are not
    world.commit()
    measure()
    for _ in range(4):
        world.tick(60)
        measure()
    world.finish()
    world.notify("done")
    measure()
    assert world.invocations()[0].status is Status.SUCCEEDED
    assert len(sizes) == 7
    assert [counted for counted, _ in sizes] == [stored for _, stored in sizes]
    assert len({stored for _, stored in sizes}) > 4
