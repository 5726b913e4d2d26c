"""One commit that 300 jobs watch: one build for each job, at the cost of the design's first path."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import pytest

from luci_scheduler.core.errors import SchedulerError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.invocation import Status
from tests.unit.engine.world import Crash, World, config

JOBS = 300
NAMES = tuple(f"job{number:03}" for number in range(JOBS))


def builders(world: World) -> Counter[str]:
    """Return how many builds each builder has."""
    return Counter(build["builder"]["builder"] for build in world.buildbucket.builds.values())


def test_three_hundred_builds_have_the_cost_of_the_first_path() -> None:
    """One read of the watchers; for each job one read, five writes in three commits, one call, one task."""
    world = World(config(NAMES))
    world.commit()
    assert world.counted() == f"{1 + JOBS}R/{5 * JOBS}W/{3 * JOBS}c"
    assert Counter(world.buildbucket.calls) == {"ScheduleBuild": JOBS}
    assert Counter(task.kind for task in world.queue.tasks) == {"timer": JOBS}
    assert builders(world) == Counter(NAMES)
    found = [world.invocations(JobId(f"proj/{name}")) for name in NAMES]
    assert {(len(each), each[0].status) for each in found} == {(1, Status.RUNNING)}


@pytest.mark.parametrize("point", [1, 100, 700, 1400])
def test_killed_midway_and_delivered_again(point: int) -> None:
    """The process dies after any number of commits; the message is repeated, and the sweep finds lost work.

    No build exists twice.
    """
    world = World(config(NAMES))
    store_commit, left = world.store.commit, [point]

    def commit(writes: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Crash  # later commits of other threads die as well
        return store_commit(writes)

    world.store.commit = commit  # type: ignore[method-assign]
    with contextlib.suppress(Crash):
        world.commit()
    world.store.commit = store_commit  # type: ignore[method-assign]
    try:
        world.commit()
    except SchedulerError:
        world.commit()
    for _ in range(4):
        world.tick(80, name="later")
    assert builders(world) == Counter(NAMES)
    statuses = Counter(item.status for name in NAMES for item in world.invocations(JobId(f"proj/{name}")))
    assert statuses == {Status.RUNNING: JOBS}
