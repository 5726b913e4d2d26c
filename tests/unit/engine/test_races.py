"""Duplicates, lost races, and crashes between any two steps: one build, one effect, nothing lost."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from luci_scheduler.core.errors import ComeAgainError, SchedulerError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import PutJob
from tests.unit.engine.world import Crash, World


def _crash_points(world: World) -> Any:
    """Return a switch: after ``arm(n)``, the n-th outside effect from then on is followed by a crash."""
    state = {"left": -1}

    def hit() -> None:
        state["left"] -= 1
        if state["left"] == 0:
            raise Crash

    store_commit, enqueue, call = world.store.commit, world.queue.enqueue, world.buildbucket.v2

    def commit(writes: Any) -> Any:
        versions = store_commit(writes)
        hit()
        return versions

    def put(task: Any) -> None:
        enqueue(task)
        hit()

    def v2(*args: Any, **named: Any) -> Any:
        answer = call(*args, **named)
        hit()
        return answer

    world.store.commit, world.queue.enqueue, world.buildbucket.v2 = commit, put, v2  # type: ignore[method-assign]
    return lambda n: state.update(left=n)


def _settle(world: World) -> None:
    """Repeat all deliveries until nothing is left: messages, tasks, sweeps; builds end after a while."""
    for _ in range(12):
        world.tick(60)
        sweep(world.runtime)
        world.tick()


@pytest.mark.parametrize("point", range(1, 9))
def test_crash_after_any_step_of_a_launch(point: int) -> None:
    """After a crash at any step, a redelivery or the sweep completes the build, once."""
    for redelivered in (True, False):
        world = World()
        arm = _crash_points(world)
        arm(point)
        try:
            world.commit()
        except Crash:
            arm(-1)
            if redelivered:
                try:
                    world.commit()
                except SchedulerError:
                    world.commit()
        arm(-1)
        _settle(world)
        world.finish()
        _settle(world)
        (invocation,) = world.invocations()
        assert invocation.status is Status.SUCCEEDED, (point, redelivered)
        assert len(world.buildbucket.builds) == 1


@pytest.mark.parametrize("point", range(1, 9))
def test_crash_after_any_step_of_a_completion(point: int) -> None:
    """A completion that dies at any step still ends its invocation and starts the pending triggers, once."""
    world = World()
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.commit("c", "m3")
    world.finish()
    arm = _crash_points(world)
    arm(point)
    try:
        world.notify("done", "9000")
    except Crash:
        arm(-1)
        world.notify("done", "9000")
    arm(-1)
    _settle(world)
    world.finish("SUCCESS", list(world.buildbucket.builds)[-1])
    _settle(world)
    assert [i.status for i in world.invocations()] == [Status.SUCCEEDED, Status.SUCCEEDED]
    assert sorted(len(i.incoming_triggers) for i in world.invocations()) == [1, 2]
    assert len(world.buildbucket.builds) == 2


def test_everything_three_times_in_parallel() -> None:
    """Each message and task that is delivered three times at once has one effect."""
    world = World()

    def thrice(deliver: Any) -> None:
        with ThreadPoolExecutor(3) as pool:
            for future in [pool.submit(deliver) for _ in range(3)]:
                try:
                    future.result(timeout=30)
                except ComeAgainError:
                    deliver()

    thrice(world.commit)
    assert len(world.buildbucket.builds) == 1
    thrice(lambda: world.notify("n1"))
    world.clock.advance(60 * SECOND)
    for task in world.queue.take_due(world.clock.now()):
        thrice(lambda task=task: world.run_task(task))
    world.finish()
    thrice(lambda: world.notify("n2"))
    _settle(world)
    (invocation,) = world.invocations()
    assert invocation.status is Status.SUCCEEDED
    log = world.log()
    assert log.count("Starting the invocation") == 1
    assert log.count("Handling timer") == 1
    assert log.count("Received PubSub notification") == 2
    assert log.count("Invocation finished") == 1


def test_burst_of_commits_for_one_job() -> None:
    """Of sixty commits at once, each is in exactly one invocation, and each invocation has one build."""
    world = World()

    def deliver(number: int) -> None:
        for _ in range(5):
            try:
                _commit(world, number)
            except SchedulerError:
                continue
            return
        raise AssertionError("delivered more than five times")

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(deliver, number) for number in range(60)]:
            future.result(timeout=60)
    for _ in range(20):
        for build in list(world.buildbucket.builds.values()):
            build["status"] = "SUCCESS"
        world.tick(60)
    triggers = [t.id for i in world.invocations() for t in i.incoming_triggers]
    assert len(triggers) == len(set(triggers)) == 60
    assert all(i.status is Status.SUCCEEDED for i in world.invocations())
    assert len(world.buildbucket.builds) == len(world.invocations())


def _commit(world: World, number: int) -> None:
    from luci_scheduler.core.commit_event import CommitEvent
    from luci_scheduler.engine.commit import on_commit
    from tests.unit.engine.world import REPO

    event = CommitEvent(REPO, "refs/heads/main", f"{number:040x}")
    on_commit(world.runtime, event, world.clock.now(), f"commit-{number}")


def test_a_trigger_between_the_last_query_and_the_end_is_not_lost() -> None:
    """A completion that clears the flag queries once more: it starts a commit that arrived in between."""
    world = World()
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.finish()
    world.notify("done 1")  # takes b; the flag stays set although nothing waits
    world.finish()
    slipped = []

    def slip_in(writes: list[Any]) -> None:
        if not slipped and any(isinstance(w, PutJob) and not w.job.active_invocations for w in writes):
            slipped.append(True)
            world.commit("c", "m3")

    world.store.before_commit = slip_in
    world.notify("done 2")
    assert slipped
    assert [len(i.incoming_triggers) for i in world.invocations()] == [1, 1, 1]
    assert len(world.buildbucket.builds) == 3


def test_a_claim_that_died_is_taken_over_after_its_end() -> None:
    """No request is sent while a dead process's claim lives.

    After its end the next attempt searches for the build first.
    """
    world = World()
    arm = _crash_points(world)
    arm(3)  # marker and invocation, claim, the build itself
    with pytest.raises(Crash):
        world.commit()
    arm(-1)
    world.commit()
    assert world.buildbucket.calls == ["ScheduleBuild"]
    assert [task.kind for task in world.queue.tasks] == ["launch"]
    world.tick(80)
    assert world.buildbucket.calls == ["ScheduleBuild", "SearchBuilds"]
    assert "Starting the invocation (attempt 2)" in world.log()
    assert world.invocations()[0].status is Status.RUNNING
