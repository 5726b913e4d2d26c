"""The cost of a page: a bounded number of reads, independent of the length of the history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.identifiers import make_invocation_id
from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.ports import CreateInvocation
from tests.unit.api.support import world_for
from tests.unit.engine.world import REPO, World
from tests.unit.web.support import Visitor


def _with_history(number: int) -> World:
    """Return a world whose job has this many past invocations and a running one; the log grows with the number."""
    world = world_for()
    world.commit()
    newest = world.invocations()[0]
    for place in range(number):
        started = Instant(newest.started - (place + 1) * MINUTE)
        past = replace(
            newest,
            id=make_invocation_id(started, place),
            started=started,
            finished=Instant(started + MINUTE),
            status=Status.SUCCEEDED,
            next_due=None,
        )
        world.store.commit([CreateInvocation(past, "[12:00:00.000] Handling timer\n" * number)])
    world.store.counts.clear()
    return world


def _cost(world: World, path: str) -> int:
    world.store.counts.clear()
    Visitor(world).page(path)
    assert world.store.counts["c"] == 0
    return world.store.counts["R"]


@pytest.mark.parametrize("length", [60, 600])
def test_pages_cost_the_same_for_any_history(length: int) -> None:
    """A job's page reads the job, a count and bounded lists; an invocation's page reads two documents."""
    world = _with_history(length)
    invocation = world.invocations()[-1].id
    # The job, the invocations, the count of failed ones, pending triggers, the last triage, the jobs that trigger it,
    # and once in ten minutes the projects that watch the repository.
    assert _cost(world, "/jobs/proj/job") == 1 + 51 + 1 + 1 + 1 + 1 + 1
    assert _cost(world, "/jobs/proj/job") == 1 + 51 + 1 + 1 + 1 + 1
    # The projects that watch the commit's repository are known for ten minutes.
    assert _cost(world, f"/jobs/proj/job/{invocation}") == 2
    cursor = Visitor(world).json("/jobs/proj/job")["next_cursor"]
    world.store.counts.clear()
    assert _cost(world, f"/jobs/proj/job?c={cursor}") <= 1 + 51 + 1
    # The project's record, three counts, and its two jobs.
    assert _cost(world, "/jobs/proj") == 1 + 3 + 2
    assert _cost(world, "/") == 1 + 3
    assert _cost(world, f"/commits?repo={REPO}&revision={'a' * 40}&ref=refs/heads/main") == 5


def test_pending_triggers_are_bounded() -> None:
    """The page shows 50 pending triggers and says that there are more."""
    world = world_for()
    world.commit()
    for number in range(60):
        event = CommitEvent(REPO, "refs/heads/main", f"{number:040x}")
        on_commit(world.runtime, event, world.clock.now(), f"commit-{number}")
    page = Visitor(world).page("/jobs/proj/job")
    assert page.text.count("in all jobs") == 50
    assert "there are more" in page.text
    assert _cost(world, "/jobs/proj/job") == 1 + 1 + 1 + 51 + 1 + 1
