"""Triggers that are too large, too many or brought at a bad moment: no job is blocked, nothing runs twice or is forgotten."""

import pytest

from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.intake import accept_triggers
from luci_scheduler.engine.jobs import pause_job
from tests.unit.engine.world import JOB, World, config


def _noop(identifier: str, created: int, size: int = 0) -> Trigger:
    return Trigger(identifier, Instant(created), "noop", {"data": "x" * size})


def _bring(world: World, triggers: list[Trigger], key: str = "api-1") -> None:
    accept_triggers(world.runtime, JOB, triggers, key)


def _end(world: World, name: str) -> None:
    """Let the latest build end and be noticed."""
    world.finish()
    world.notify(name)


def test_triggers_whose_data_builds_never_see_count_for_the_size_of_an_invocation() -> None:
    """Twelve triggers of 90 kB wait: each completion takes up what one document can hold, and none fails."""
    world = World()
    world.commit("a", "m1")
    for number in range(12):
        _bring(world, [_noop(f"t{number}", world.clock.now() + number, 90_000)], f"api-{number}")
    for number in range(15):
        if world.invocations()[0].status.is_final:
            break
        _end(world, f"n{number}")
    assert all(i.status is Status.SUCCEEDED for i in world.invocations())
    assert sum(len(i.incoming_triggers) for i in world.invocations()) == 13


@pytest.mark.parametrize("is_busy", [True, False])
def test_a_trigger_that_no_invocation_can_hold_is_visibly_discarded(*, is_busy: bool) -> None:
    """Its properties are kept twice, in the trigger and in the request: half a document is too much already."""
    world = World()
    if is_busy:
        world.commit("a", "m1")
    payload = {"properties": {"x": "y" * 550_000}}
    _bring(world, [Trigger("big", world.clock.now(), "buildbucket", payload)])
    if is_busy:
        _end(world, "done")
    with world.uncounted():
        found = world.store.trigger(JOB, "big")
    assert found is not None
    assert "bytes" in found.value.discarded
    assert [i.status for i in world.invocations()] == [Status.SUCCEEDED] * is_busy
    with world.uncounted():
        assert world.store.job(JOB).value.active_invocations == ()  # type: ignore[union-attr]


def test_newest_first_takes_the_newest_however_much_waits() -> None:
    """What exceeds one invocation's size is no reason to run an old commit: each runs one trigger."""
    world = World(config(policy="triggering_policy { kind: NEWEST_FIRST }"))
    world.commit("a", "m1")
    for number in range(20):
        _bring(world, [_noop(f"t{number}", world.clock.now() + number, 90_000)], f"api-{number}")
    _end(world, "done")
    assert [t.id for t in world.invocations()[0].incoming_triggers] == ["t19"]


def test_a_waiting_trigger_that_is_delivered_again_when_a_slot_is_free_runs_once() -> None:
    """The config has just allowed another invocation, and its triage has not taken place yet."""
    policy = "triggering_policy {{ kind: NEWEST_FIRST max_concurrent_invocations: {} }}"
    world = World(config(policy=policy.format(1)))
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.sync(config(policy=policy.format(3)))
    world.commit("b", "m2")
    world.tick(5)
    consumed = [trigger.title for i in world.invocations() for trigger in i.incoming_triggers]
    assert sorted(consumed) == ["a" * 40, "b" * 40]
    assert len(world.buildbucket.builds) == 2


def test_pausing_discards_all_that_waits_however_much_it_is() -> None:
    """One triage takes up so many; those that are left are the next one's, not those of a job that is resumed."""
    world = World()
    world.commit("a", "m1")
    _bring(world, [_noop(f"t{number}", world.clock.now() + number) for number in range(1500)])
    pause_job(world.runtime, JOB, "user:x", "", "p")
    for _ in range(5):
        world.tick(3)
    with world.uncounted():
        assert world.store.pending_triggers(JOB, 10) == []
    _end(world, "done")
    assert [i.status for i in world.invocations()] == [Status.SUCCEEDED]


def test_a_slot_that_is_left_free_for_want_of_space_is_used() -> None:
    """What did not fit into the first batch is taken up by another triage, without an end or a new trigger."""
    world = World(config(policy="triggering_policy { max_concurrent_invocations: 3 }"))
    _bring(world, [_noop(f"t{number}", world.clock.now() + number, 100_000) for number in range(8)])
    for _ in range(5):
        world.tick(3)
    assert sorted(len(i.incoming_triggers) for i in world.invocations()) == [2, 3, 3]
