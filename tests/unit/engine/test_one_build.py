"""One build for an invocation, whatever goes wrong while it is asked for: it is found again, or canceled."""

from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.ports import BuildbucketError
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


REFUSED = BuildbucketError("PERMISSION_DENIED", "not allowed", transient=False)


def test_a_refused_look_up_does_not_keep_from_asking_again() -> None:
    """The first attempt's build runs, its answer was lost: under the same request ID Buildbucket returns it."""
    world = World()
    world.buildbucket.lose_reply = True
    world.commit()
    world.buildbucket.faults = [REFUSED]
    world.tick(10)
    (invocation,) = world.invocations()
    assert invocation.status is Status.RUNNING
    assert world.buildbucket.calls == ["ScheduleBuild", "SearchBuilds", "ScheduleBuild"]
    assert len(world.buildbucket.builds) == 1
    assert "Failed to look up the build by its tag - PERMISSION_DENIED: not allowed" in world.log()


def test_giving_up_tells_how_to_find_what_nobody_may_look_for() -> None:
    """Neither look-up nor request is allowed any more: the log names the tag of the build that may be running."""
    world = World()
    world.buildbucket.lose_reply = True
    world.commit()
    world.buildbucket.faults = [REFUSED] * 3
    world.tick(10)
    (invocation,) = world.invocations()
    assert invocation.status is Status.FAILED
    tag = f"scheduler_invocation_id:{invocation.id}"
    assert f"A build of an earlier attempt may be running: look for builds with the tag {tag}" in world.log()


def test_giving_up_on_a_second_attempt_cancels_the_build_of_the_first() -> None:
    """The look-up does not see the build yet and the second request is refused: it is looked up once more."""
    world = World()
    world.buildbucket.lose_reply = True
    world.commit()
    search, seen = world.buildbucket._SearchBuilds, iter([False, True])
    world.buildbucket._SearchBuilds = lambda request: search(request) if next(seen) else {}  # type: ignore[method-assign]
    world.buildbucket.faults = [None, REFUSED]
    world.tick(10)
    assert world.invocations()[0].status is Status.FAILED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


def test_giving_up_waits_until_what_may_run_is_canceled() -> None:
    """A look-up that fails for now leaves the invocation to another attempt."""
    world = World()
    world.buildbucket.lose_reply = True
    world.commit()
    world.buildbucket.faults = [
        REFUSED,
        REFUSED,
        BuildbucketError("UNAVAILABLE", "down", transient=True),
        REFUSED,
        REFUSED,
    ]
    world.tick(10)
    assert world.invocations()[0].status.is_initial
    world.tick(80)
    assert world.invocations()[0].status is Status.FAILED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)
