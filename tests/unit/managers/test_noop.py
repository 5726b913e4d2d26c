"""noop: sleeps through its port, emits triggers, ends."""

import pytest

from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MILLISECOND, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.managers.controller import CallCache
from luci_scheduler.managers.noop import NoopManager
from luci_scheduler.managers.registry import launch_time
from tests.unit.engine.world import JOB, World


def launched(task: str, trigger_id: str = "t1") -> World:
    """Return a world whose one job was triggered and did nothing."""
    world = World(f'job {{ id: "job" noop {{ {task} }} }}')
    accept_triggers(world.runtime, JOB, [Trigger(trigger_id, world.clock.now(), "webui")], trigger_id)
    world.tick(1)
    return world


def test_golden_log() -> None:
    """Twenty seconds unless something else is said; two counted saves after the allocation."""
    world = launched("")
    assert world.log() == (
        "[12:00:00.000] New invocation is queued and will start shortly\n"
        "[12:00:01.000] Starting the invocation (attempt 1)\n"
        "[12:00:01.000] Running noop task for 20s\n"
        "[12:00:21.000] Invocation finished in 21s with status SUCCEEDED\n"
    )
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.mutations) == (Status.SUCCEEDED, 2)


def test_triggers() -> None:
    """Emitted after the sleep, named after the invocation, created then, in order."""
    world = launched("sleep_ms: 1500 triggers_count: 2")
    (invocation,) = world.invocations()
    first, second = (f"noop:{invocation.id}:{number}" for number in range(2))
    assert world.log().splitlines()[2:] == [
        "[12:00:01.000] Running noop task for 1.5s",
        f"[12:00:02.500] Emitting a trigger {first}",
        f"[12:00:02.500] Emitting a trigger {second}",
        "[12:00:02.500] Invocation finished in 2.5s with status SUCCEEDED",
    ]
    emitted = invocation.outgoing_triggers
    assert [(t.id, t.kind, t.order_in_batch) for t in emitted] == [(first, "noop", 0), (second, "noop", 1)]
    assert {(t.job_id, t.invocation_id) for t in emitted} == {(JOB, invocation.id)}
    assert all(t.created == invocation.finished for t in emitted)


@pytest.mark.parametrize("task", ["sleep_ms: 480001", "sleep_ms: 1 triggers_count: 1001"])
def test_too_much(task: str) -> None:
    """What one delivery cannot do fails, and the log says what to change; nothing is slept or emitted."""
    world = launched(task)
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.outgoing_triggers) == (Status.FAILED, ())
    assert "at most 8m0s and 1000 triggers; change sleep_ms or triggers_count of the job" in world.log()
    assert world.clock.now() == invocation.finished


def test_deciding_again_does_not_sleep_again() -> None:
    """The second controller of a delivery knows that it slept."""
    world = World()
    task = TaskDefinition("noop", {"sleep_ms": 1000})
    invocation = Invocation(
        id=16, job_id=JobId(JOB), started=Instant(world.clock.now()), task=task  # type: ignore[arg-type]
    )  # fmt: skip
    answers, before = CallCache(), world.clock.now()
    for _ in range(2):
        NoopManager().launch(world.runtime.controller(invocation, answers))
    assert world.clock.now() - before == SECOND


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(0, 20 * SECOND), (1, MILLISECOND), (-5, 0), (480_000, 8 * MINUTE), (10**9, 8 * MINUTE)],
)
def test_launch_time(milliseconds: int, expected: int) -> None:
    """As long as the sleep, and never longer than it can be."""
    assert launch_time(TaskDefinition("noop", {"sleep_ms": milliseconds})) == expected
