"""Deferred tasks: their cost, their ends, and the sweep that reaches each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from emulator.memory.queue import MemoryQueue
from luci_scheduler.core.deferred import KEPT, Deferred, is_abandoned, pause, postponed
from luci_scheduler.core.errors import (
    MalformedError,
    PermanentError,
    SchedulerError,
    StoreConflictError,
    TransientError,
)
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import DAY, HOUR, MINUTE, SECOND, Instant
from luci_scheduler.engine.deferral import abort_work, defer, trigger_work
from luci_scheduler.engine.sweep import BUDGET, sweep
from luci_scheduler.ports import BuildbucketError, CreateTrigger, PutDeferred, QueueTask
from tests.unit.engine.stub import made
from tests.unit.engine.world import JOB, World, config


def _work(world: World, name: str = "t", due: int = 0) -> Deferred:
    now = world.clock.now()
    return trigger_work(JOB, [made(name)], f"delivery-{name}", now, Instant(now + due))


def test_pauses_grow_to_ten_minutes() -> None:
    """This limit holds for any number of tries."""
    assert [pause(tries) // SECOND for tries in (0, 1, 2, 5, 6, 7, 1_000)] == [10, 20, 40, 320, 600, 600, 600]


def test_a_reason_has_a_bounded_length() -> None:
    """A host may answer with a whole page."""
    work = Deferred("a", "commit", {}, Instant(0), Instant(0), Instant(0))
    assert len(postponed(work, Instant(0), "x" * 10_000).reason) == 500


def test_a_task_is_dropped_after_at_least_a_week() -> None:
    """A longer wait for the commit extends the week."""
    work = Deferred("a", "trigger", {}, Instant(0), Instant(0), Instant(5))
    assert [is_abandoned(work, Instant(now)) for now in (6, KEPT - 1, KEPT)] == [False, False, True]
    assert not is_abandoned(replace(work, expires=Instant(30 * DAY)), Instant(29 * DAY))


def test_cost_of_a_deferred_trigger() -> None:
    """Recording it costs one write. Running it costs one read and one write more than the trigger alone.

    A repetition costs one read.
    """
    world = World()
    defer(world.runtime, _work(world))
    assert world.counted() == "0R/1W/1c"
    (task,) = world.tick()
    assert world.counted() == "2R/6W/4c"
    world.run_task(task)
    assert world.counted() == "1R/0W/0c"


def test_the_same_work_twice_is_one_document() -> None:
    """The second record costs one read, and enqueues another task for the same try, which finds nothing to do."""
    world = World()
    for _ in range(2):
        defer(world.runtime, _work(world))
    assert world.counted() == "1R/1W/1c"
    assert len(world.works()) == 1
    assert len(world.tick()) == 2
    assert len(world.invocations()) == 1


def test_a_refused_record_is_not_mistaken_for_an_older_one() -> None:
    """A store that refuses because of contention has written nothing: the caller must try again."""
    world = World()
    work = _work(world)
    (version,) = world.store.commit([PutDeferred(work, None)])
    del version
    commit = world.store.commit

    def gone(writes: Any) -> Any:
        world.store.commit = commit  # type: ignore[method-assign]
        try:
            return commit(writes)
        finally:
            world.store.commit = gone  # type: ignore[method-assign]

    world.store.commit = gone  # type: ignore[method-assign]
    world.store.deferred = lambda _: None  # type: ignore[method-assign]
    with pytest.raises(TransientError):
        defer(world.runtime, work)
    assert world.queue.tasks == []


def test_hopeless_work_is_deleted() -> None:
    """The invocation does not exist, so nothing is tried again."""
    world = World()
    defer(world.runtime, abort_work(JOB, InvocationId(16), "user:a@example.com", "", world.clock.now()))
    (task,) = world.queue.take_due(world.clock.now())
    with pytest.raises(PermanentError, match="no such invocation"):
        world.run_task(task)
    assert world.works() == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [("trigger", TransientError), ("of a newer version", MalformedError), ("emit", MalformedError), ("bug", KeyError)],
)
def test_work_that_always_fails_ends(kind: str, error: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    """It is tried for a week and then dropped with an alert, even if a defect of this code is the cause."""
    world = World()
    payload = {} if kind == "emit" else _work(world).payload
    work = replace(_work(world), kind="trigger" if kind == "bug" else kind, payload=payload)
    defer(world.runtime, work)
    (task,) = world.queue.take_due(world.clock.now())

    def fail(_: Any) -> Any:
        raise error("always")

    commit = world.store.commit
    reading = world.store.job
    for age in (0, 6 * DAY, 7 * DAY):
        world.clock.move_to(Instant(work.created + age))
        if kind in ("trigger", "bug"):
            world.store.job = fail  # type: ignore[method-assign]
        if age < KEPT:
            with pytest.raises(error):
                world.run_task(task)
            assert len(world.works()) == 1
        else:
            world.run_task(task)
    world.store.job, world.store.commit = reading, commit  # type: ignore[method-assign]
    assert world.works() == []
    assert capsys.readouterr().out.count("deferred_dropped") == 1


def test_a_sweep_out_of_time_continues_with_the_next_deferred_tasks() -> None:
    """A task continues where it ended: no deferred task is omitted, none is enqueued twice."""
    world = World()
    world.runtime = replace(world.runtime, limits=replace(world.runtime.limits, sweep_batch=20))
    works = [_work(world, f"t{number:03}", number % 3) for number in range(100)]
    world.store.commit([PutDeferred(work, None) for work in works])
    world.clock.advance(10 * MINUTE)

    def slow(task: QueueTask) -> None:
        world.clock.advance(BUDGET // 30)
        MemoryQueue.enqueue(world.queue, task)

    world.queue.enqueue = slow  # type: ignore[method-assign]
    assert sweep(world.runtime).deferred == 40
    for _ in range(5):
        for task in [task for task in world.queue.tasks if task.kind == "sweep"]:
            world.queue.remove(task)
            world.run_task(task)
    swept = [task.payload["deferred"] for task in world.queue.tasks]
    assert sorted(swept) == sorted(work.id for work in works)


def test_the_sweep_skips_work_that_is_not_due() -> None:
    """A commit that waits for its next try is left to its own task."""
    world = World()
    world.store.commit([PutDeferred(_work(world, due=HOUR), None)])
    assert sweep(world.runtime).deferred == 0
    world.clock.advance(HOUR + 3 * MINUTE)
    assert sweep(world.runtime).deferred == 1
    world.tick()
    assert world.works() == []


def test_an_attempt_that_loses_to_another_changes_nothing() -> None:
    """Two deliveries of one try: the later delivery finds the work done, and raises nothing."""
    world = World()
    defer(world.runtime, _work(world))
    (task,) = world.queue.take_due(world.clock.now())
    commit, inside = world.store.commit, []

    def race(writes: Any) -> Any:
        if not inside and "DeleteDeferred" in type(writes[0]).__name__:
            inside.append(True)
            world.run_task(task, "other")
        return commit(writes)

    world.store.commit = race  # type: ignore[method-assign]
    world.run_task(task)
    assert inside
    assert world.works() == []
    assert len(world.invocations()) == 1


def test_an_unknown_job_ends_the_work() -> None:
    """The job was removed meanwhile."""
    world = World()
    now = world.clock.now()
    defer(world.runtime, trigger_work(JobId("proj/gone"), [made("t")], "d", now, now))
    try:
        world.tick()
    except SchedulerError as error:
        pytest.fail(f"nothing may be raised: {error}")
    assert world.works() == []


def test_hanging_checks_do_not_block_deferred_tasks() -> None:
    """The queue refuses everything, and a build service answers late: the kinds of tasks take turns."""
    names = ("one", "two", "three")
    world = World(config(names))
    world.commit()

    def refuse(_: QueueTask) -> None:
        raise TransientError("the queue is down")

    def hang(*_: Any, **__: Any) -> Any:
        world.clock.advance(MINUTE)
        raise BuildbucketError("UNAVAILABLE", "down", transient=True)

    world.queue.enqueue, world.buildbucket.v2 = refuse, hang  # type: ignore[method-assign]
    world.clock.advance(10 * MINUTE)
    world.store.commit([PutDeferred(_work(world), None)])
    for _ in range(2):
        world.clock.advance(10 * MINUTE)
        _sweep_task(world)
    assert world.works() == []


def test_a_hanging_check_does_not_block_the_other_checks() -> None:
    """Within a kind, each minute's sweep starts with another task."""
    names = ("one", "two", "three")
    world = World(config(names))
    world.commit()
    asked = set()

    def refuse(_: QueueTask) -> None:
        raise TransientError("the queue is down")

    def hang(_server: str, _method: str, request: Any, **_: Any) -> Any:
        asked.add(request["id"])
        world.clock.advance(MINUTE)
        raise BuildbucketError("UNAVAILABLE", "down", transient=True)

    world.queue.enqueue, world.buildbucket.v2 = refuse, hang  # type: ignore[method-assign]
    world.clock.advance(10 * MINUTE)
    for _ in range(len(names)):
        _sweep_task(world)
    assert asked == set(world.buildbucket.builds)


def _sweep_task(world: World) -> None:
    world.run_task(QueueTask("sweep", {}, world.clock.now()))


def test_a_commit_is_discarded_with_a_record_although_the_store_is_contended() -> None:
    """A refused commit may have collided with another: the next delivery records the discarded trigger."""
    git = MemoryGitiles()
    git.push("refs/heads/main")
    world = World(gitiles=git, commit_wait_seconds=60)
    world.commit()
    world.clock.advance(2 * MINUTE)
    refused: list[bool] = []

    def contend(writes: list[Any]) -> None:
        if isinstance(writes[0], CreateTrigger) and not refused:
            refused.append(True)
            raise StoreConflictError("ABORTED: too much contention")

    world.store.before_commit = contend
    world.tick()
    world.tick(5)
    (record,) = world.store.triggers_of_revision("a" * 40, 10)
    assert record.discarded
    assert world.works() == []
