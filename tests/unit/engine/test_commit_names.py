"""Each commit of an invocation has its own number and name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.invocation import Status, Timer
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.ports import CreateInvocation, UpdateInvocation
from tests.unit.engine.world import Crash, World


def test_every_commit_of_a_life_raises_the_counter_and_has_a_new_name() -> None:
    """The number keeps equal chunks of the log apart; by the name, a handler recognizes its commit."""
    world = World()
    states = []

    def keep(writes: list[Any]) -> None:
        states.extend(w.invocation for w in writes if isinstance(w, CreateInvocation | UpdateInvocation))

    world.store.before_commit = keep
    world.commit()
    world.notify("running")
    world.tick(60)
    world.finish()
    world.notify("done")
    assert states[-1].status is Status.SUCCEEDED
    assert [state.commits for state in states] == list(range(len(states)))
    assert len({state.last_event for state in states}) == len(states) == 6


def test_two_deliveries_with_one_key_do_not_share_a_claim() -> None:
    """The queue delivers a task twice at once. The loser of the race does not take the claim for its own."""
    world = World()
    world.buildbucket.on_schedule = _die
    with pytest.raises(Crash):
        world.commit()
    (invocation,) = world.invocations()
    assert invocation.claim_until is not None
    world.clock.move_to(invocation.claim_until)
    task = launch_task(invocation, world.clock.now(), world.clock.now())
    asked: list[str] = []

    def die(_: str, method: str, *__: Any, **___: Any) -> Any:
        asked.append(method)
        raise Crash

    def other_delivery(writes: list[Any]) -> None:
        world.store.before_commit = None
        with pytest.raises(Crash):
            world.run_task(task)

    world.store.before_commit = other_delivery
    world.buildbucket.v2 = die  # type: ignore[method-assign]
    world.run_task(task)
    assert world.invocations()[0].attempts == 2
    assert asked == ["SearchBuilds"]


def test_invocation_is_due_at_its_earliest_timer() -> None:
    """The sweep finds a document by one instant, and must not find it after the first of its timers is lost."""
    world = World()
    world.commit()
    (invocation,) = world.invocations()
    now = world.clock.now()
    timers = tuple(Timer(f"t{number}", "t", now, Instant(now + number * MINUTE)) for number in (2, 1, 3))
    stamped = world.runtime.stamped(replace(invocation, pending_timers=timers), "k")
    assert stamped.next_due == now + MINUTE


def _die() -> None:
    raise Crash
