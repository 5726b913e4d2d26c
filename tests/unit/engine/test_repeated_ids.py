"""The same trigger ID again: a repetition within half an hour of the trigger's end, and afterwards a new request."""

from __future__ import annotations

from luci_scheduler.core.instants import MINUTE
from luci_scheduler.engine.triggers import accept_triggers
from tests.unit.engine.stub import made
from tests.unit.engine.world import JOB, World


def _deliver(world: World, name: str, key: str) -> None:
    accept_triggers(world.runtime, JOB, [made(name, world.clock.now())], key)


def _end(world: World) -> None:
    world.finish()
    world.notify(f"end of {world.invocations()[0].id}")


def test_half_an_hour_counts_from_the_end_of_a_trigger() -> None:
    """A trigger that waits for a slot has its end when an invocation takes it."""
    world = World()
    _deliver(world, "first", "k1")
    _deliver(world, "waits", "k2")
    world.clock.advance(25 * MINUTE)
    _end(world)
    world.clock.advance(15 * MINUTE)
    _deliver(world, "waits", "k3")
    _end(world)
    assert len(world.invocations()) == 2
    world.clock.advance(16 * MINUTE)
    _deliver(world, "waits", "k4")
    assert len(world.invocations()) == 3


def test_a_marker_knows_the_latest_of_many_deliveries() -> None:
    """A delivery that is repeated after hours requests nothing new. Only the latest deliveries can be repeated."""
    world = World()
    rounds = world.runtime.limits.marker_deliveries + 2
    for number in range(rounds):
        _deliver(world, "again", f"k{number}")
        _end(world)
        world.clock.advance(31 * MINUTE)
    assert len(world.invocations()) == rounds
    _deliver(world, "again", f"k{rounds - 1}")
    assert len(world.invocations()) == rounds
