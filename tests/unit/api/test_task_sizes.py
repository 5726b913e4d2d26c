"""Triggers on a queue with a size limit: what the API promises to take is taken by the real client and its server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from emulator.cloud_tasks import CloudTasksServer
from emulator.cloud_tasks.limits import Limits
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.api.access import user
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError, Code
from luci_scheduler.api.triggering import Batch, emit_triggers
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.ports import Task
from tests.unit.api.support import OWNER, context, world_for
from tests.unit.engine.world import JOB, World, config

OTHER = JobId("proj/b")


@contextmanager
def _server(world: World, limits: Limits | None = None) -> Iterator[tuple[CloudTasksServer, Context]]:
    """Put the world's tasks on a queue of the server."""
    with CloudTasksServer(clock=world.clock, dispatch="manual", limits=limits or Limits()) as server:
        name = server.create_queue("projects/p/locations/l/queues/q")
        client = make_client(server.grpc_address)
        queue = CloudTasksQueue(client, name, "https://on-task.invalid", "tasks@p.iam.gserviceaccount.com", "audience")
        yield server, Context(replace(world.runtime, queue=queue), world.app.access, user(OWNER))
        client.transport.close()


def _batches(count: int, size: int, *job_ids: JobId) -> list[Batch]:
    return [Batch(_trigger(f"t{number:04}", size), job_ids) for number in range(count)]


def _trigger(name: str, size: int) -> Trigger:
    return Trigger(name, Instant(0), "noop", {"data": "x" * size})


def test_as_many_triggers_as_one_request_may_bring_are_taken() -> None:
    """In tasks of which each is below the smaller of the two limits that are documented; a second apart, in order."""
    world = world_for(config(("job", "b")))
    with _server(world) as (server, caller):
        emit_triggers(caller, _batches(500, 300, JOB, OTHER))
        tasks = [task.request for task in server.waiting()]
    assert 4 <= len(tasks) <= 6
    assert max(len(task.body) for task in tasks) < 97_000


def test_the_parts_are_one_emission() -> None:
    """All arrive, the oldest first; the same ones emitted again have no effect; each part has a delivery key of its own."""
    world = world_for()
    for _ in range(2):
        emit_triggers(context(world), _batches(1000, 300, JOB))
        parts = [task for task in world.queue.tasks if task.kind == "trigger"]
        names = [item["id"] for part in parts for item in part.payload["triggers"]]
        assert names == [f"t{number:04}" for number in range(1000)]
        assert [part.eta - parts[0].eta for part in parts] == [number * SECOND for number in range(len(parts))]
        assert len({part.payload["delivery"] for part in parts}) == len(parts) > 1
        _bring(world)
    (invocation,) = world.invocations()
    waiting = world.store.pending_triggers(JOB, 2000)
    taken = [trigger.id for trigger in invocation.incoming_triggers]
    assert taken == names[: len(taken)]
    assert [item.value.trigger.id for item in waiting] == names[len(taken) :]


def _bring(world: World) -> None:
    for task in [task for task in world.queue.tasks if task.kind == "trigger"]:
        world.clock.advance(SECOND)
        world.queue.remove(task)
        world.run_task(task)


def test_a_large_trigger_is_taken_where_the_queue_takes_it() -> None:
    """Alone in its task; those beside it come in others."""
    world = world_for()
    batches = [
        Batch(_trigger("a", 10), (JOB,)),
        Batch(_trigger("b", 190_000), (JOB,)),
        Batch(_trigger("c", 10), (JOB,)),
    ]
    with _server(world, Limits(max_task_bytes=1_000_000)) as (server, caller):
        emit_triggers(caller, batches)
        assert len(server.waiting()) == 3


def test_a_large_trigger_is_refused_where_the_queue_does_not_take_it() -> None:
    """With what to do about it, and before any other one is on the queue: all or none."""
    world = world_for()
    batches = [*_batches(3, 10, JOB), Batch(_trigger("large", 190_000), (JOB,))]
    with _server(world) as (server, caller):
        with pytest.raises(ApiError, match=r'the trigger "large" is too large for the queue') as caught:
            emit_triggers(caller, batches)
        assert caught.value.code is Code.INVALID_ARGUMENT
        assert "96000 bytes" in caught.value.message
        assert server.waiting() == []


def test_what_else_a_queue_refuses_may_pass() -> None:
    """Its settings can be mended: a small task is not lost for them."""
    world = world_for()
    with _server(world) as (_, caller):
        queue: Any = caller.runtime.queue
        queue._url = "no URL"
        with pytest.raises(TransientError, match="Cloud Tasks did not take a trigger task: 400"):
            queue.enqueue(Task("trigger", {}, world.clock.now()))
