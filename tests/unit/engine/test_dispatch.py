"""Dispatch: the triggers that an invocation emits reach its triggered jobs, once, in one triage each."""

import pytest

from luci_scheduler.core.errors import ComeAgainError, PermanentError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MINUTE
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import QueueTask
from tests.unit.engine.stub import NOOP, made, stub_world
from tests.unit.engine.world import HOST, World

A, B, SOURCE = JobId("proj/a"), JobId("proj/b"), JobId("proj/source")
CONFIG = (
    f'trigger {{ id: "source" schedule: "with 10m interval" {NOOP} triggers: "a" triggers: "b" }}'
    f'job {{ id: "a" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "a" }} }}'
    f'job {{ id: "b" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }} }}'
)


def emitted() -> World:
    """Return a world in which the source has just emitted three triggers that are not dispatched yet."""
    world, manager = stub_world(CONFIG)
    manager.emits = [made("t1"), made("t2"), made("t0")]
    world.tick(600)
    return world


def test_all_triggers_reach_each_target_in_one_triage() -> None:
    """One invocation of each target consumes all of them in order, and the log says so."""
    world = emitted()
    assert not world.invocations(A)
    world.tick()
    for job_id in (A, B):
        (invocation,) = world.invocations(job_id)
        assert [trigger.id for trigger in invocation.incoming_triggers] == ["t1", "t2", "t0"]
        assert {trigger.job_id for trigger in invocation.incoming_triggers} == {SOURCE}
    log = world.log(SOURCE)
    assert "Emitting a trigger t2\n" in log
    place = log.index("Dispatching triggers (3 of them) to the following jobs:\n")
    assert log.index("  proj/a\n") > place
    assert log.index("Invocation finished in") > log.index("  proj/b\n")
    (source,) = world.invocations(SOURCE)
    assert source.next_due is None


def test_a_repeated_dispatch_does_nothing() -> None:
    """After the dispatch, the task reads the invocation and ends."""
    world = emitted()
    (task,) = (task for task in world.queue.tasks if task.kind == "dispatch")
    world.tick()
    world.store.counts.clear()
    world.run_task(task)
    assert world.counted() == "1R/0W/0c"


def test_the_sweep_repeats_a_lost_dispatch() -> None:
    """The finished invocation stays due until its triggers are dispatched."""
    world = emitted()
    world.queue.purge()
    world.clock.advance(3 * MINUTE)
    sweep(world.runtime)
    world.tick()
    assert len(world.invocations(A)) == len(world.invocations(B)) == 1


def test_a_dispatch_ahead_of_its_commit_is_retried() -> None:
    """It is retried for five minutes, until the commit is visible."""
    world = emitted()
    (source,) = world.invocations(SOURCE)
    now = world.clock.now()
    payload = {"job": SOURCE, "invocation": str(source.id), "mutation": source.mutations + 1, "created": now}
    with pytest.raises(ComeAgainError):
        world.run_task(QueueTask("dispatch", payload, now))
    world.clock.advance(5 * MINUTE)
    world.run_task(QueueTask("dispatch", payload, now))
    assert not world.invocations(A)


def _fail(world: World, error: Exception) -> None:
    """Make the first attempt to start an invocation of the first target fail."""
    failed = []

    def fail_once(writes: list[object]) -> None:
        if not failed and any(getattr(getattr(w, "invocation", None), "job_id", "") == A for w in writes):
            failed.append(1)
            raise error

    world.store.before_commit = fail_once


def test_one_failing_target_does_not_delay_the_others() -> None:
    """The failed target gets a separate task with the same triggers."""
    world = emitted()
    _fail(world, TransientError("no"))
    world.tick()
    assert (len(world.invocations(A)), len(world.invocations(B))) == (0, 1)
    assert [task.payload["target"] for task in world.queue.tasks if task.kind == "dispatch-to"] == [A]
    world.tick()
    (invocation,) = world.invocations(A)
    assert len(invocation.incoming_triggers) == 3


def test_the_sweep_replaces_the_lost_task_of_a_failing_target() -> None:
    """The finished invocation stays due until every target has its triggers; no target has them twice."""
    world = emitted()
    _fail(world, TransientError("no"))
    world.tick()
    world.queue.purge()
    world.clock.advance(3 * MINUTE)
    sweep(world.runtime)
    world.tick()
    assert len(world.invocations(A)) == len(world.invocations(B)) == 1
    (source,) = world.invocations(SOURCE)
    assert source.next_due is None


def test_the_sweep_skips_a_target_that_can_never_accept_its_triggers() -> None:
    """Another attempt could not succeed."""
    world = emitted()

    def fail(writes: list[object]) -> None:
        if f"job_id='{A}'" in repr(writes):
            raise PermanentError("never")

    world.store.before_commit = fail
    world.tick()
    assert not world.invocations(A)
    (source,) = world.invocations(SOURCE)
    assert source.next_due is None


def test_known_triggers_are_not_delivered_twice() -> None:
    """A second emission of the same IDs starts nothing; new IDs next to them do."""
    world, manager = stub_world(CONFIG)
    manager.emits = [made("t1")]
    world.tick(600)
    world.tick()
    for build in list(world.buildbucket.builds):
        world.finish(build_id=build)
    manager.emits = [made("t1"), made("t2")]
    world.tick(600)
    world.tick(60)
    world.tick(60)
    found = [trigger.id for invocation in world.invocations(A) for trigger in invocation.incoming_triggers]
    assert sorted(found) == ["t1", "t2"]
