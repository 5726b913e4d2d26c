"""The queue loses all tasks in the middle of the day: everything continues within two sweeps."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from emulator.memory.queue import MemoryQueue
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.sweep import BUDGET, sweep
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import BuildbucketError, QueueTask
from tests.unit.engine.stub import made
from tests.unit.engine.world import HOST, World, config

BUILDS, SCHEDULED = 50, 50
RUNNING = tuple(f"build{number:02}" for number in range(BUILDS))
TICKING = tuple(f"tick{number:02}" for number in range(SCHEDULED))


def test_fifty_builds_and_fifty_schedules_continue() -> None:
    """No notification arrives and no task is left: checks end the builds, ticks start the jobs, and both continue."""
    schedules = ("*/10 * * * *", "with 10m interval")
    jobs = "\n".join(
        f'job {{ id: "{name}" schedule: "{schedules[n % 2]}" '
        f'buildbucket {{ server: "{HOST}" bucket: "ci" builder: "{name}" }} }}'
        for n, name in enumerate(TICKING)
    )
    world = World(config(RUNNING) + jobs)
    world.commit()
    for build in list(world.buildbucket.builds):
        world.finish(build_id=build)
    assert len(world.queue.tasks) == BUILDS + SCHEDULED
    world.queue.purge()
    world.clock.advance(10 * MINUTE + world.runtime.limits.sweep_grace)
    swept = []
    for _ in range(2):
        swept.append(sweep(world.runtime).tasks)
        while any(task.eta <= world.clock.now() for task in world.queue.tasks):
            world.tick()
        world.clock.advance(MINUTE)
    assert swept == [BUILDS + SCHEDULED, 0]
    ended = [world.invocations(JobId(f"proj/{name}"))[0].status for name in RUNNING]
    assert ended == [Status.SUCCEEDED] * BUILDS
    started = [world.invocations(JobId(f"proj/{name}")) for name in TICKING]
    assert [len(found) for found in started] == [1] * SCHEDULED
    for build in list(world.buildbucket.builds):
        world.finish(build_id=build)
    for _ in range(15):
        world.tick(60 * SECOND // SECOND)
    assert all(len(world.invocations(JobId(f"proj/{name}"))) == 2 for name in TICKING)


def test_an_outage_does_not_multiply_the_tasks_of_a_timer() -> None:
    """A failing check leaves its timer overdue while its own task is being retried.

    The sweep adds two tasks in an hour.
    """
    world = World()
    world.commit()
    world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "down", transient=True)] * 100_000
    for _ in range(60):
        world.tick(60)
        sweep(world.runtime)
    assert len([task for task in world.queue.tasks if task.kind == "timer"]) == 1 + 2
    world.buildbucket.faults = []
    world.finish()
    world.tick(60)
    assert world.invocations()[0].status is Status.SUCCEEDED


def test_the_sweep_replaces_tasks_that_the_queue_loses_again() -> None:
    """A used name stays used, so the task gets another name after ten minutes, and then each hour."""
    world = World()
    world.commit()
    world.finish()
    swept = 0
    for _ in range(15):
        world.queue.purge()
        world.clock.advance(MINUTE)
        sweep(world.runtime)
        swept += len(world.queue.tasks)
    assert swept == 2
    world.queue.purge()
    world.clock.advance(HOUR)
    sweep(world.runtime)
    world.tick()
    assert world.invocations()[0].status is Status.SUCCEEDED


def test_the_sweep_reaches_the_documents_after_many_failing_checks() -> None:
    """More documents than one page are overdue permanently.

    The next sweep still resumes a launch that was lost later.
    """
    names, other = tuple(f"job{number:03}" for number in range(310)), JobId("proj/other")
    world = World(config((*names, "other")))
    for name in names:
        accept_triggers(world.runtime, JobId(f"proj/{name}"), [made("t")], "k")
    world.clock.advance(10 * MINUTE)
    world.runtime = replace(world.runtime, launch_time=lambda _: 1)  # the launch gets a separate task
    accept_triggers(world.runtime, other, [made("t")], "k")
    world.queue.purge()
    world.clock.advance(10 * MINUTE)
    sweep(world.runtime)
    assert [task.kind for task in world.queue.tasks if task.payload["job"] == other] == ["launch"]
    assert len(world.queue.tasks) == len(names) + 1


def test_a_sweep_out_of_time_continues_later() -> None:
    """A task continues it where it ended; invocations and jobs each have their time."""
    world = World(config(RUNNING) + "\n".join(f'job {{ id: "{n}" schedule: "30 * * * *" noop {{}} }}' for n in TICKING))
    world.runtime = replace(world.runtime, limits=replace(world.runtime.limits, sweep_batch=20))
    world.commit()
    world.queue.purge()
    world.clock.advance(35 * MINUTE)
    reads: list[str] = []

    def slow(task: QueueTask) -> None:
        reads.append(task.kind)
        world.clock.advance(BUDGET // 30)
        MemoryQueue.enqueue(world.queue, task)

    world.queue.enqueue = slow  # type: ignore[method-assign]
    sweep(world.runtime)
    for _ in range(5):
        for task in [task for task in world.queue.tasks if task.kind == "sweep"]:
            world.queue.remove(task)
            world.run_task(task)
    kinds = Counter(task.kind for task in world.queue.tasks)
    assert kinds == {"timer": BUILDS, "cron": SCHEDULED}
    assert reads.count("sweep") == 2
    world.clock.advance(15 * MINUTE)
    sweep(world.runtime)
    assert [task.kind for task in world.queue.tasks].count("sweep") == 2, "one of each kind, and not under a used name"


def test_one_document_that_cannot_be_read_does_not_stop_the_sweep() -> None:
    """A newer version that was rolled back has left an unknown status: the other documents are swept."""
    world = World(config(("job", "other")))
    world.commit()
    path = next(path for path in world.store._documents if path[2:3] == ("invocations",) and path[1] == "proj/other")
    stored = world.store._documents[path]
    state = json.loads(stored.document["state"]) | {"status": "PAUSED_BY_NEWER"}
    world.store._documents[path] = replace(stored, document={**stored.document, "state": json.dumps(state)})
    world.queue.purge()
    world.clock.advance(10 * MINUTE)
    assert sweep(world.runtime).invocations == 1
    assert [(task.kind, task.payload["job"]) for task in world.queue.tasks] == [("timer", "proj/job")]
