"""Launches of one delivery: which it makes itself, with which calls, and which it leaves to tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from structlog.testing import capture_logs

from emulator.memory.system import SeededEntropy
from luci_scheduler.core.errors import StoreConflictError
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.launch import launch_all
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.managers.controller import CallCache
from luci_scheduler.ports import BuildbucketError, UpdateInvocation
from tests.unit.engine.stub import made
from tests.unit.engine.world import JOB, World, config

MANY = config(policy="triggering_policy { kind: GREEDY_BATCHING max_concurrent_invocations: 8 max_batch_size: 1 }")
DOWN = BuildbucketError("UNAVAILABLE", "down", transient=True)


def _deliver(world: World, count: int) -> None:
    accept_triggers(world.runtime, JOB, [made(f"t{number}", world.clock.now()) for number in range(count)], "api-k")


def _statuses(world: World) -> list[Status]:
    return sorted(invocation.status for invocation in world.invocations())


def test_slow_launches_are_left_to_tasks_after_half_a_minute() -> None:
    """The delivery must be answered in time. Three launches of eleven seconds fit, the other five get tasks."""
    world = World(MANY)
    world.buildbucket.on_schedule = lambda: world.clock.advance(11 * SECOND)
    _deliver(world, 8)
    assert len(world.buildbucket.builds) == 3
    assert [task.kind for task in world.queue.tasks].count("launch") == 5
    world.buildbucket.on_schedule = None
    world.tick()
    assert _statuses(world) == [Status.RUNNING] * 8


def test_calls_before_a_creation_belong_to_the_first_launch_alone() -> None:
    """A second invocation that used the answer of the first would watch the build of the first."""
    world = World(MANY)
    limits = replace(world.runtime.limits, launches_at_once=0)
    accept_triggers(
        replace(world.runtime, limits=limits), JOB, [made(name, world.clock.now()) for name in "ab"], "api-k"
    )
    created = [world.store.invocation(JOB, invocation.id) for invocation in world.invocations()]
    launch_all(world.runtime, [found for found in created if found], "k", CallCache())
    assert len(world.buildbucket.builds) == 2
    assert {invocation.task_data["build_id"] for invocation in world.invocations()} == set(world.buildbucket.builds)


def test_launch_task_of_an_earlier_attempt_does_not_cut_the_pause() -> None:
    """The queue delivers the first task again after the attempt has failed: only the task of the retry launches."""
    world = World()
    world.buildbucket.faults = [DOWN]
    world.commit()
    (invocation,) = world.invocations()
    first = launch_task(replace(invocation, attempts=0), world.clock.now(), world.clock.now())
    world.run_task(first)
    assert (world.invocations()[0].status, world.buildbucket.calls) == (Status.RETRYING, ["ScheduleBuild"])
    world.tick(5)
    assert world.invocations()[0].status is Status.RUNNING


def test_a_task_for_the_end_of_a_claim_does_not_cut_the_pause() -> None:
    """The answer to the commit of a failed attempt was lost, so a task follows the claim. It waits for the retry."""
    world = World()
    busy = BuildbucketError("RESOURCE_EXHAUSTED", "", transient=True, throttled=True, retry_after=90 * SECOND)
    world.buildbucket.faults = [busy]
    world.commit()
    (invocation,) = world.invocations()
    world.run_task(launch_task(invocation, world.clock.now(), world.clock.now()))
    world.tick(80)
    assert world.buildbucket.calls == ["ScheduleBuild"]
    world.tick(120)
    assert world.invocations()[0].status is Status.RUNNING


def test_repeated_commit_does_not_cut_the_pause() -> None:
    """The message comes again while the retry waits: the pause grows with each failure, not with a repetition."""
    world = World()
    world.buildbucket.faults = [DOWN]
    world.commit("a", "m1")
    world.commit("a", "m1")
    assert (world.invocations()[0].status, world.buildbucket.calls) == (Status.RETRYING, ["ScheduleBuild"])


def test_overtaken_launch_leaves_the_recorded_build_alone() -> None:
    """It stalled past its claim, and the next attempt found its build and watches it: no build is canceled."""
    world = World()
    build = world.buildbucket._ScheduleBuild

    def stall(request: Any) -> Any:
        made_build = build(request)
        world.clock.advance(76 * SECOND)
        (invocation,) = world.invocations()
        world.run_task(launch_task(invocation, world.clock.now(), world.clock.now()), "another")
        return made_build

    world.buildbucket._ScheduleBuild = stall  # type: ignore[method-assign]
    world.commit()
    assert (world.invocations()[0].status, world.invocations()[0].attempts) == (Status.RUNNING, 2)
    assert len(world.buildbucket.builds) == 1
    assert world.buildbucket.canceled == []


def test_invocations_of_one_triage_never_share_an_id() -> None:
    """The random part of an ID is short, so two draws may be equal."""
    world = World(MANY)
    draws = iter([4711, 4711, 4711, 4712])
    entropy = SeededEntropy(1)
    entropy.invocation_suffix = lambda: next(draws)  # type: ignore[method-assign]
    accept_triggers(
        replace(world.runtime, entropy=entropy), JOB, [made(name, world.clock.now()) for name in "ab"], "api-k"
    )
    assert list(draws) == []
    assert len({invocation.id for invocation in world.invocations()}) == 2
    assert len(world.buildbucket.builds) == 2


def test_request_is_not_repeated_blindly_after_45_seconds() -> None:
    """Buildbucket remembers the request's ID for a minute, and refuses the search that would find its build."""
    world = World()
    refused = BuildbucketError("PERMISSION_DENIED", "no search", transient=False)
    world.buildbucket.faults = [DOWN, *[refused, DOWN] * 3, *[refused] * 10]
    world.commit()
    for _ in range(60):
        world.tick(5)
    assert world.buildbucket.calls.count("ScheduleBuild") == 4  # after 0, 5, 15 and 35 seconds, and not after 75
    assert world.invocations()[0].status is Status.FAILED


def test_launch_that_landed_under_a_conflict_is_reported() -> None:
    """The store kept the outcome and lost its answer: the metric of launches counts it nevertheless, and once."""
    world = World()
    commit = world.store.commit

    def contended(writes: Any) -> Any:
        versions = commit(writes)
        if any(isinstance(write, UpdateInvocation) and write.invocation.task_data for write in writes):
            world.store.commit = commit  # type: ignore[method-assign]
            raise StoreConflictError("too much contention")
        return versions

    world.store.commit = contended  # type: ignore[method-assign]
    with capture_logs() as lines:
        world.commit()
    assert world.invocations()[0].status is Status.RUNNING
    assert [line["event"] for line in lines].count("launched") == 1


def test_overdue_launch_gets_one_task_in_ten_minutes() -> None:
    """The queue refuses the same name again, so the sweeps of an outage do not multiply the tasks."""
    world = World()
    world.buildbucket.faults = [DOWN]
    world.commit()
    world.queue.purge()
    world.clock.advance(3 * MINUTE)
    counts = []
    for _ in range(9):
        sweep(world.runtime)
        world.clock.advance(MINUTE)
        counts.append([task.kind for task in world.queue.tasks].count("launch"))
    assert counts == [1] * 8 + [2]
