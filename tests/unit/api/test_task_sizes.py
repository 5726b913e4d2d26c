"""Triggers and a queue with a size limit: the API keeps its documented limits although tasks must be small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from emulator.cloud_tasks import CloudTasksServer
from luci_scheduler.adapters.cloud_tasks import CloudTasksQueue, make_client
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError
from luci_scheduler.api.triggering import Batch, emit_triggers
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.identity import user
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import MAX_TRIGGER_BYTES, stored_bytes, trigger_to_json
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import QueueTask
from tests.unit.api.support import OWNER, context, world_for
from tests.unit.engine.world import JOB, World, config

OTHER = JobId("proj/b")


@contextmanager
def _server(world: World) -> Iterator[tuple[CloudTasksServer, Context]]:
    """Put the world's tasks on a queue of a server."""
    with CloudTasksServer(clock=world.clock, dispatch="manual") as server:
        name = server.create_queue("projects/p/locations/l/queues/q")
        client = make_client(server.grpc_address)
        queue = CloudTasksQueue(client, name, "https://on-task.invalid", "tasks@p.iam.gserviceaccount.com", "audience")
        yield server, Context(replace(world.runtime, queue=queue), world.app.access, user(OWNER))
        client.transport.close()


def _batches(count: int, size: int, *job_ids: JobId) -> list[Batch]:
    return [Batch(_trigger(f"t{number:04}", size), job_ids) for number in range(count)]


def _trigger(name: str, size: int) -> Trigger:
    return Trigger(name, Instant(0), "noop", {"data": "x" * size})


def test_tasks_are_small_however_large_their_triggers_are() -> None:
    """A task names deferred work, and the work's document holds the triggers. Each job has one."""
    world = world_for(config(("job", "b")))
    with _server(world) as (server, caller):
        emit_triggers(caller, [*_batches(400, 300, JOB, OTHER), Batch(_trigger("large", 190_000), (JOB, OTHER))])
        tasks = [task.request for task in server.waiting()]
    assert [len(work.payload["triggers"]) for work in world.works()] == [401, 401]
    assert len(tasks) == 2
    assert max(len(task.body) for task in tasks) < 500


def test_the_parts_of_a_large_batch_are_one_emission() -> None:
    """All triggers arrive, the oldest first. A repeated emission has no effect. Each part has another delivery key."""
    world = world_for()
    names = [f"t{number:04}" for number in range(10)]
    for _ in range(2):
        emit_triggers(context(world), _batches(10, 190_000, JOB))
        parts = world.works()
        assert [[item["id"] for item in part.payload["triggers"]] for part in parts] == [
            names[:4],
            names[4:8],
            names[8:],
        ]
        assert [part.next_due - parts[0].next_due for part in parts] == [
            number * SECOND for number in range(len(parts))
        ]
        assert len({part.payload["delivery"] for part in parts}) == len(parts) > 1
        for _ in parts:
            world.tick(1)
        assert world.works() == []
    (invocation,) = world.invocations()
    waiting = world.store.pending_triggers(JOB, 2000)
    taken = [trigger.id for trigger in invocation.incoming_triggers]
    assert taken == names[: len(taken)]
    assert [item.value.trigger.id for item in waiting] == names[len(taken) :]


def test_a_refusal_of_the_queue_is_transient() -> None:
    """The operator can fix the queue's settings, and the task must not be lost until then."""
    world = world_for()
    with _server(world) as (_, caller):
        queue: Any = caller.runtime.queue
        queue._url = "no URL"
        with pytest.raises(TransientError, match="Cloud Tasks did not accept a trigger task: 400"):
            queue.enqueue(QueueTask("trigger", {}, world.clock.now()))


def test_a_refusing_queue_delays_triggers_by_minutes() -> None:
    """The request is recorded, so it is accepted. The sweep queues its task when the queue works again."""
    world = world_for()
    enqueue = world.queue.enqueue

    def refuse(_: QueueTask) -> None:
        raise TransientError("Cloud Tasks did not accept a deferred task: 503")

    world.queue.enqueue = refuse  # type: ignore[method-assign]
    emit_triggers(context(world), _batches(1, 10, JOB))
    world.queue.enqueue = enqueue  # type: ignore[method-assign]
    world.tick(180)
    assert world.invocations() == []
    sweep(world.runtime)
    world.tick()
    assert len(world.invocations()) == 1
    assert world.works() == []


def _at_the_limit() -> Trigger:
    trigger = _trigger("t", 0)
    return _trigger("t", MAX_TRIGGER_BYTES - stored_bytes(trigger))


def test_the_size_of_a_trigger_includes_the_schedulers_additions() -> None:
    """The caller and the time count toward the size, so no accepted trigger becomes too large later."""
    world = world_for()
    largest = _at_the_limit()
    with pytest.raises(ApiError, match="at most 200000 are allowed"):
        emit_triggers(context(world), [Batch(largest, (JOB,))])
    assert world.works() == []
    shorter = replace(largest, payload={"data": largest.payload["data"][:-100]})
    emit_triggers(context(world), [Batch(shorter, (JOB,))])
    world.tick()
    (invocation,) = world.invocations()
    assert [trigger.id for trigger in invocation.incoming_triggers] == ["t"]


def test_a_trigger_that_has_grown_too_large_is_discarded_with_the_reason() -> None:
    """A rerun gives a trigger a longer name, and older functions accepted larger ones. The marker has the reason."""
    world = world_for()
    document = trigger_to_json(replace(_at_the_limit(), created=world.clock.now()))
    world.run_task(QueueTask("trigger", {"job": JOB, "triggers": [document], "delivery": "d"}, world.clock.now()))
    marker = world.store.trigger(JOB, "t")
    assert marker is not None
    assert marker.value.discarded == "the trigger has 200032 bytes, an invocation can hold 200000"
    assert world.invocations() == []
