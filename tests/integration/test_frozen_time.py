"""The engine on the official Firestore emulator with a frozen machine clock: leases end by the clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import freezegun
import pytest

from emulator.memory.queue import MemoryQueue
from luci_scheduler.adapters.firestore import FirestoreStore
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.bootstrap import make_app
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.commit import on_commit
from tests.unit.engine.world import JOB, REPO, World, config

pytestmark = pytest.mark.emulators

LEASE = timedelta(seconds=75)
MILLISECOND = timedelta(milliseconds=1)


class Crash(BaseException):
    """The process dies: no code catches this."""


def _crash() -> None:
    raise Crash


@pytest.mark.parametrize("year", [2001, 2060])
def test_a_claim_ends_with_its_lease(firestore_client: Any, year: int) -> None:
    """A duplicate under a live claim makes no call; at its end it finds the build that the dead process requested."""
    world = World()
    began = datetime(year, 5, 6, 7, 8, 9, tzinfo=UTC)
    clock = SystemClock()
    queue = MemoryQueue(clock)
    ports = replace(world.ports, store=FirestoreStore(firestore_client), clock=clock, queue=queue)
    app = make_app(world.app.settings, ports)
    with freezegun.freeze_time(began) as frozen:
        published = Instant(int(began.timestamp()) * SECOND)

        def deliver() -> None:
            on_commit(app.runtime, CommitEvent(REPO, "refs/heads/main", "a" * 40), published, "commit-1")

        sync_project(app.runtime, ConfigFile("proj", config(), "rev1"), "sync")
        world.buildbucket.on_schedule = _crash
        with pytest.raises(Crash):
            deliver()
        world.buildbucket.on_schedule = None
        frozen.move_to(began + LEASE - MILLISECOND)
        deliver()
        assert world.buildbucket.calls == ["ScheduleBuild"]
        (task,) = queue.tasks
        assert task.kind == "launch"
        assert task.eta == published + 75 * SECOND
        frozen.tick(MILLISECOND)
        deliver()
        assert world.buildbucket.calls == ["ScheduleBuild", "SearchBuilds"]
        assert len(world.buildbucket.builds) == 1
        (invocation,) = app.runtime.store.invocations(JOB, 10)
        assert invocation.status is Status.RUNNING
        assert invocation.attempts == 2
