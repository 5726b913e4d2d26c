"""Tasks on the wire: their bodies, and their names.

Cloud Tasks accepts a name once, so sweeps and triages add no duplicates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from emulator.clock import SteppedClock
from emulator.cloud_tasks.server import CloudTasksServer
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import HOUR, MINUTE, Instant, parse_rfc3339
from luci_scheduler.core.queue_tasks import TriageTask
from luci_scheduler.engine.outbox import triage_task
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.engine.tasks import read_task
from luci_scheduler.ports import QueueTask
from tests.unit.engine.world import World

QUEUE = "projects/p/locations/l/queues/q"
NOON = parse_rfc3339("2026-03-01T12:00:00Z")
LONG_AGO = Instant(NOON - HOUR)


@pytest.fixture(scope="module")
def server() -> Iterator[CloudTasksServer]:
    """A Cloud Tasks server on loopback that delivers nothing by itself."""
    with CloudTasksServer(clock=SteppedClock(NOON), dispatch="manual") as server:
        yield server


@pytest.fixture
def queue(server: CloudTasksServer) -> Iterator[CloudTasksQueue]:
    """The adapter, with an empty queue of that server."""
    server.reset()
    server.create_queue(QUEUE)
    client = make_client(server.grpc_address)
    yield CloudTasksQueue(client, QUEUE, "http://127.0.0.1:1", "a@p.iam.gserviceaccount.com", "audience")
    client.transport.close()


def _kinds(server: CloudTasksServer) -> list[str]:
    return sorted(task.request.url.rpartition("/")[2] for task in server.waiting())


def test_a_named_task_is_accepted_once(server: CloudTasksServer, queue: CloudTasksQueue) -> None:
    """A second task with the same name is dropped without an error. Tasks without a name are all accepted."""
    for name in ("one", "one", "two", "", ""):
        queue.enqueue(QueueTask("triage", {}, NOON, name=name))
    names = [task.name for task in server.waiting()]
    assert {f"{QUEUE}/tasks/one", f"{QUEUE}/tasks/two"} < set(names)
    assert len(names) == 4


def test_the_body_is_the_payload_with_its_version(server: CloudTasksServer, queue: CloudTasksQueue) -> None:
    """The function that handles the task reads the version before anything else."""
    task = triage_task(JobId("p/a"), NOON)
    queue.enqueue(task)
    (waiting,) = server.waiting()
    body = json.loads(waiting.request.body)
    assert body == {"v": 1, "job": "p/a", "created": NOON}
    assert read_task("triage", body) == TriageTask(JobId("p/a"), NOON)


def test_triage_requests_within_two_seconds_make_one_task(server: CloudTasksServer, queue: CloudTasksQueue) -> None:
    """A triage of another job, or of a later two seconds, is a separate task."""
    for job, later in (("p/a", 0), ("p/a", 1), ("p/b", 0), ("p/a", 2)):
        queue.enqueue(triage_task(JobId(job), Instant(NOON + later * 10**9)))
    assert _kinds(server) == ["triage"] * 3


def test_repeated_sweeps_of_one_overdue_timer_leave_one_task(server: CloudTasksServer, queue: CloudTasksQueue) -> None:
    """Each minute's sweep finds the overdue status check. The queue holds one task for it for ten minutes."""
    world = World()
    world.commit()
    world.queue.purge()
    world.queue.enqueue = queue.enqueue  # type: ignore[method-assign]
    world.clock.advance(4 * MINUTE)
    for _ in range(5):
        sweep(world.runtime)
        world.clock.advance(MINUTE)
    assert _kinds(server) == ["timer"]


def test_names_follow_the_rules_of_cloud_tasks() -> None:
    """A name has at most 500 letters, digits, hyphens and underscores (API reference, version 2)."""
    world = World()
    world.commit()
    world.queue.purge()
    world.clock.advance(4 * MINUTE)
    sweep(world.runtime)
    names = [task.name for task in world.queue.tasks] + [triage_task(JobId("p/a b"), NOON).name]
    assert len(names) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,500}", name) for name in names)
