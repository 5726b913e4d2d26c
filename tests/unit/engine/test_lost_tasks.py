"""The queue loses everything in the middle of the day: all goes on within two sweeps."""

from __future__ import annotations

import json
from dataclasses import replace

from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.sweep import sweep
from tests.unit.engine.world import HOST, World, config

BUILDS, SCHEDULED = 50, 50
RUNNING = tuple(f"build{number:02}" for number in range(BUILDS))
TICKING = tuple(f"tick{number:02}" for number in range(SCHEDULED))


def test_fifty_builds_and_fifty_schedules_go_on() -> None:
    """No notification comes and no task is left: checks end the builds, ticks start the jobs, and both go on from there."""
    schedules = ("*/10 * * * *", "with 10m interval")
    jobs = "\n".join(
        f'job {{ id: "{name}" schedule: "{schedules[n % 2]}" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "{name}" }} }}'
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


def test_one_document_that_cannot_be_read_does_not_stop_the_sweep() -> None:
    """A newer version that was rolled back has left a status that this one does not know: the others are swept."""
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
