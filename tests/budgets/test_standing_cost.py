"""The cost while nothing happens: an unchanged poll, counted through the engine and the gitiles manager."""

from __future__ import annotations

from collections import Counter

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.engine.sweep import sweep
from tests.unit.engine.world import World, config

POLLER = JobId("proj/poller")
PERIOD = 30
AN_HOUR = 3_600 // PERIOD


def test_an_hour_of_unchanged_polls() -> None:
    """Each poll costs two reads, one write in one commit, one task, and one listing; no invocation is kept.

    An empty sweep: three reads.
    """
    git = MemoryGitiles()
    git.push("refs/heads/main")
    text = config().replace('schedule: "triggered" gitiles', f'schedule: "with {PERIOD}s interval" gitiles')
    world = World(text, git)
    for _ in range(3):  # the first poll finds the branch, and its triggers are dispatched
        world.tick(PERIOD)
    world.finish()
    world.notify("end")
    world.tick(PERIOD)
    kept = len(world.invocations(POLLER))
    world.counted()
    git.calls.clear()
    tasks: Counter[str] = Counter()
    for _ in range(AN_HOUR):
        (due,) = (task for task in world.queue.tasks if task.kind == "cron")
        world.clock.move_to(Instant(due.eta))
        tasks.update(task.kind for task in world.tick() if task.kind == "cron")
    assert world.counted() == f"{2 * AN_HOUR}R/{AN_HOUR}W/{AN_HOUR}c"
    assert tasks == {"cron": AN_HOUR}
    assert Counter(git.calls) == {"refs refs/heads": AN_HOUR}
    assert len(world.invocations(POLLER)) == kept
    sweep(world.runtime)
    assert world.counted() == "3R/0W/0c"
