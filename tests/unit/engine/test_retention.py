"""Retention: how long the store keeps ended invocations and the markers of triggers."""

from datetime import timedelta

import pytest

from luci_scheduler.core.instants import DAY, SECOND, Instant, to_datetime
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.jobs import pause_job
from luci_scheduler.engine.triggers import accept_triggers
from tests.unit.engine.stub import made
from tests.unit.engine.world import JOB, World

RETENTION = 90 * DAY
"""The default of the setting ``SCHEDULER_RETENTION_DAYS``."""


def _marker(world: World, trigger_id: str) -> TriggerRecord:
    found = world.store.trigger(JOB, trigger_id)
    assert found is not None
    return found.value


def _in_ninety_days(ended: Instant | None, retention: int = RETENTION) -> Instant:
    assert ended is not None
    return Instant((ended + retention) // SECOND * SECOND)


@pytest.mark.parametrize("end", ["success", "failure", "abort"])
def test_an_ended_invocation_is_kept_for_ninety_days(end: str) -> None:
    """The store deletes it 90 days after its end, to the second, and its trigger's marker 90 days after the launch."""
    world = World()
    world.clock.advance(SECOND // 3)
    world.commit()
    (running,) = world.invocations()
    assert running.expires is None
    world.clock.advance(5 * SECOND)
    if end == "abort":
        abort_invocation(world.runtime, JOB, running.id, "user:a@example.com", "k")
    else:
        world.finish(end.upper())
        world.notify("done")
    (ended,) = world.invocations()
    assert ended.status.is_final
    assert ended.expires == _in_ninety_days(ended.finished)
    assert to_datetime(ended.expires) - to_datetime(ended.started) > timedelta(days=90)
    marker = _marker(world, ended.incoming_triggers[0].id)
    assert marker.expires == _in_ninety_days(marker.resolved)


def test_a_pending_trigger_is_kept_until_it_is_resolved() -> None:
    """A pending trigger has no expiry; its marker has one."""
    world = World()
    world.commit("a", "m1")
    world.commit("b", "m2")
    (waiting,) = world.store.pending_triggers(JOB, 10)
    assert waiting.value.expires is None
    world.finish()
    world.notify("done")
    marker = _marker(world, waiting.value.trigger.id)
    assert marker.expires == _in_ninety_days(marker.resolved)


def test_a_discarded_trigger_is_kept_for_ninety_days() -> None:
    """The marker of a discarded trigger is evidence for people, so it stays as long as an invocation."""
    world = World()
    pause_job(world.runtime, JOB, "user:a@example.com", "", "k")
    accept_triggers(world.runtime, JOB, [made("t", world.clock.now())], "api")
    marker = _marker(world, "t")
    assert marker.discarded
    assert marker.expires == _in_ninety_days(marker.resolved)


def test_the_setting_decides_how_long() -> None:
    """Another number of days moves the expiry by the same amount."""
    world = World(retention_days=30)
    world.commit()
    world.finish()
    world.notify("done")
    (ended,) = world.invocations()
    assert ended.expires == _in_ninety_days(ended.finished, 30 * DAY)
