"""One build for an invocation, whatever goes wrong while it is asked for: it is found again, or canceled."""

from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.abort import abort_invocation
from tests.unit.engine.world import JOB, World


def test_an_experimental_build_is_found_again() -> None:
    """Its answer was lost, and the server has forgotten the request ID: the tag leads to it, though it is experimental."""
    world = World()
    world.buildbucket.experimental = True
    world.buildbucket.lose_reply = True
    world.buildbucket.forgets = True
    world.commit()
    world.tick(80)
    assert world.invocations()[0].status is Status.RUNNING
    assert len(world.buildbucket.builds) == 1


def test_an_experimental_build_is_canceled_on_abort() -> None:
    """Its ID was never recorded."""
    world = World()
    world.buildbucket.experimental = True
    world.buildbucket.lose_reply = True
    world.commit()
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
    world.tick(1)
    assert world.invocations()[0].status is Status.ABORTED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)
