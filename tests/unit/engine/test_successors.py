"""Successors: the delivery that ends an invocation launches the next one, without a task or a sweep."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from luci_scheduler.core.invocation import Status
from luci_scheduler.ports import BuildbucketError
from tests.unit.engine.ends import abort, abort_later, check, notify
from tests.unit.engine.world import World

REFUSED = BuildbucketError("PERMISSION_DENIED", "no", transient=False)


def _running() -> World:
    """Return a world in which one invocation runs and a second commit is pending."""
    world = World()
    world.commit("a", "m1")
    world.commit("b", "m2")
    return world


def _ended(end: Callable[[World], None]) -> World:
    world = _running()
    end(world)
    return world


def _during_a_launch(happen: Callable[[World], None]) -> World:
    """Deliver a second commit while the first launch requests its build."""
    world = World()
    build = world.buildbucket._ScheduleBuild

    def meanwhile(request: Any) -> Any:
        world.buildbucket._ScheduleBuild = build  # type: ignore[method-assign]
        world.commit("b", "m2")
        happen(world)
        return build(request)

    world.buildbucket._ScheduleBuild = meanwhile  # type: ignore[method-assign]
    world.commit("a", "m1")
    return world


def _refused_launch() -> World:
    def refuse(_: World) -> None:
        raise REFUSED

    return _during_a_launch(refuse)


def _abort_during_a_launch() -> World:
    return _during_a_launch(abort)


ENDS: dict[str, tuple[Callable[[], World], Status]] = {
    "a notification": (partial(_ended, notify), Status.SUCCEEDED),
    "a status check": (partial(_ended, check), Status.SUCCEEDED),
    "an abort": (partial(_ended, abort), Status.ABORTED),
    "the task of an abort": (partial(_ended, abort_later), Status.ABORTED),
    "a launch that is refused": (_refused_launch, Status.FAILED),
    "an abort during a launch": (_abort_during_a_launch, Status.ABORTED),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_delivery_that_ends_an_invocation_launches_its_successor(end: str) -> None:
    """After the delivery the successor runs, without the queue or the sweep."""
    make, status = ENDS[end]
    world = make()
    newest, oldest = world.invocations()
    assert oldest.status is status
    assert newest.status is Status.RUNNING
    assert newest.task_data["build_id"] in world.buildbucket.builds
