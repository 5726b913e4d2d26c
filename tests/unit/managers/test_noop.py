"""noop: sleeps, emits triggers and ends."""

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
    """Return a world whose only job, a noop job, was triggered and has run."""
    world = World(f'job {{ id: "job" noop {{ {task} }} }}')
    accept_triggers(world.runtime, JOB, [Trigger(trigger_id, world.clock.now(), "webui")], trigger_id)
    world.tick(1)
    return world


def test_golden_log() -> None:
    """The default is twenty seconds; two saves are counted after the allocation."""
    world = launched("")
    assert world.log() == (
        "[12:00:00.000] New invocation is queued and will start shortly\n"
        "[12:00:01.000] Starting the invocation (attempt 1)\n"
        "[12:00:01.000] Running noop task for 20s\n"
        "[12:00:21.000] Invocation finished in 21s with status SUCCEEDED\n"
    )
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.mutations) == (Status.SUCCEEDED, 2)


def test_triggers_are_emitted_after_the_sleep() -> None:
    """Triggers are emitted after the sleep, in order; their IDs contain the invocation's ID."""
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
def test_a_task_above_the_limits_fails(task: str) -> None:
    """A task that exceeds the limits of one delivery fails at once, and the log names the fields to change."""
    world = launched(task)
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.outgoing_triggers) == (Status.FAILED, ())
    assert "at most 8m0s and 1000 triggers; change sleep_ms or triggers_count of the job" in world.log()
    assert world.clock.now() == invocation.finished


def test_a_repeated_decision_does_not_sleep_again() -> None:
    """The second controller of a delivery does not repeat the sleep."""
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
    """The launch time is the length of the sleep, up to the limit."""
    assert launch_time(TaskDefinition("noop", {"sleep_ms": milliseconds})) == expected
