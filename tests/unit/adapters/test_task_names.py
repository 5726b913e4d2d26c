"""Names of tasks on the wire: Cloud Tasks takes a name once, which keeps sweeps and triages from multiplying tasks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from emulator.clock import SteppedClock
from emulator.cloud_tasks.server import CloudTasksServer
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import HOUR, MINUTE, Instant, parse_rfc3339
from luci_scheduler.engine.outbox import triage_task
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import QueueTask
from tests.unit.engine.world import World

QUEUE = "projects/p/locations/l/queues/q"
NOON = parse_rfc3339("2026-03-01T12:00:00Z")
LONG_AGO = Instant(NOON - HOUR)


@pytest.fixture(scope="module")
def server() -> Iterator[CloudTasksServer]:
    """A Cloud Tasks on loopback that delivers nothing by itself."""
    with CloudTasksServer(clock=SteppedClock(NOON), dispatch="manual") as server:
        yield server


@pytest.fixture
def queue(server: CloudTasksServer) -> Iterator[CloudTasksQueue]:
    """The adapter on an empty queue of that server."""
    server.reset()
    server.create_queue(QUEUE)
    client = make_client(server.grpc_address)
    yield CloudTasksQueue(client, QUEUE, "http://127.0.0.1:1", "a@p.iam.gserviceaccount.com", "audience")
    client.transport.close()


def _kinds(server: CloudTasksServer) -> list[str]:
    return sorted(task.request.url.rpartition("/")[2] for task in server.waiting())


def test_a_named_task_is_taken_once(server: CloudTasksServer, queue: CloudTasksQueue) -> None:
    """A second task under the name is dropped without an error; tasks without a name are all taken."""
    for name in ("one", "one", "two", "", ""):
        queue.enqueue(QueueTask("triage", {}, NOON, name=name))
    names = [task.name for task in server.waiting()]
    assert {f"{QUEUE}/tasks/one", f"{QUEUE}/tasks/two"} < set(names)
    assert len(names) == 4


def test_triages_of_the_same_two_seconds_are_one_task(server: CloudTasksServer, queue: CloudTasksQueue) -> None:
    """Another job's triage, and a triage of later seconds, are separate tasks."""
    for job, later in (("p/a", 0), ("p/a", 1), ("p/b", 0), ("p/a", 2)):
        queue.enqueue(triage_task(JobId(job), Instant(NOON + later * 10**9)))
    assert _kinds(server) == ["triage"] * 3


def test_sweeps_that_find_the_same_thing_leave_one_task(server: CloudTasksServer, queue: CloudTasksQueue) -> None:
    """Each minute's sweep finds the overdue check of a build: for ten minutes the queue holds one task for it."""
    world = World()
    world.commit()
    world.queue.purge()
    world.queue.enqueue = queue.enqueue  # type: ignore[method-assign]
    world.clock.advance(4 * MINUTE)
    for _ in range(5):
        sweep(world.runtime)
        world.clock.advance(MINUTE)
    assert _kinds(server) == ["timer"]


def test_names_are_such_as_cloud_tasks_takes() -> None:
    """Letters, digits, hyphens and underscores, at most 500 of them (reference of the API, version 2)."""
    world = World()
    world.commit()
    world.queue.purge()
    world.clock.advance(4 * MINUTE)
    sweep(world.runtime)
    names = [task.name for task in world.queue.tasks] + [triage_task(JobId("p/a b"), NOON).name]
    assert len(names) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,500}", name) for name in names)
