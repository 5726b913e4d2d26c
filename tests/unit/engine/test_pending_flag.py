"""The flag ``triggers_wait``: it is set while a trigger is pending, so that the next end starts the trigger."""

from dataclasses import replace
from typing import Any

from luci_scheduler.core.triage_throttle import triage_kick
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.outbox import triage_task
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import CreateTrigger, PutJob
from tests.unit.engine.stub import made
from tests.unit.engine.world import JOB, World, config

NEWEST_FIRST = config(policy="triggering_policy { kind: NEWEST_FIRST max_concurrent_invocations: 1 }")


def _consumed(world: World) -> list[list[str]]:
    """Return the IDs of the triggers of each invocation, the oldest invocation first."""
    return [[trigger.id for trigger in found.incoming_triggers] for found in reversed(world.invocations())]


def _flag(world: World) -> bool:
    found = world.store.job(JOB)
    assert found is not None
    return found.value.triggers_wait


def _deliver(world: World, *names: str) -> None:
    accept_triggers(world.runtime, JOB, [made(name, world.clock.now()) for name in names], f"api-{names[0]}")


def _end(world: World, message: str) -> None:
    world.finish()
    world.notify(message)


def test_a_trigger_recorded_after_the_flag_was_cleared_sets_it_again() -> None:
    """The delivery of a trigger sees the flag set; two ends and another trigger precede its commit.

    The next end starts it.
    """
    world = World()
    _deliver(world, "a")
    _deliver(world, "b")
    slipped: list[str] = []

    def slip_in(writes: list[Any]) -> None:
        is_late = any(isinstance(write, CreateTrigger) and write.record.trigger.id == "late" for write in writes)
        if is_late and not slipped:
            slipped.append("late")
            _end(world, "a is done")  # starts b; the flag stays set
            _end(world, "b is done")  # clears the flag
            assert not _flag(world)
            _deliver(world, "c")  # takes the free slot

    world.store.before_commit = slip_in
    _deliver(world, "late")
    assert slipped
    assert _flag(world)
    _end(world, "c is done")
    assert _consumed(world) == [["a"], ["b"], ["c"], ["late"]]


def test_a_triage_leaves_the_flag_set_for_the_triggers_that_stay_pending() -> None:
    """NEWEST_FIRST starts one trigger; each end starts the next one, without another trigger or a sweep."""
    world = World(NEWEST_FIRST)
    now = world.clock.now()
    triggers = [Trigger(name, now, "webui", order_in_batch=place) for place, name in enumerate("abc")]
    _deliver(world, "first")
    accept_triggers(world.runtime, JOB, triggers, "api")
    _end_without_triage(world)
    eta, _ = triage_kick(JOB, world.clock.now())
    world.clock.move_to(eta)
    world.run_task(triage_task(JOB, eta))
    assert _consumed(world)[1:] == [["c"]]
    assert _flag(world)
    _end(world, "c is done")
    _end(world, "b is done")
    assert _consumed(world)[1:] == [["c"], ["b"], ["a"]]


def _end_without_triage(world: World) -> None:
    """Free the job's slot and clear its flag, as a handler does whose query precedes the triggers."""
    found = world.store.job(JOB)
    assert found is not None
    job = replace(found.value, active_invocations=(), triggers_wait=False)
    world.store.commit([PutJob(job, found.version)])
