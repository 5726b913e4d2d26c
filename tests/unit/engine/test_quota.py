"""A quota slows launches down: it fails none and duplicates none."""

import pytest

from luci_scheduler.core.backoff import plain_pause, throttled_pause
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import HOUR, MICROSECOND, MINUTE, SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import BuildbucketError
from tests.unit.engine.buildbucket_model import Model
from tests.unit.engine.world import World, config

NAMES = tuple(f"job{number:03}" for number in range(300))


@pytest.mark.usefixtures("no_log")
@pytest.mark.parametrize("retry_after", [0, 30 * SECOND])
def test_three_hundred_launches_with_a_quota_of_ten_per_second(retry_after: int) -> None:
    """One commit starts 300 jobs at once.

    All calls count, searches see builds three seconds late, request IDs live a minute.
    """
    world = World(config(NAMES), concurrency=1)
    model = Model(world.clock, quota=10, lag=3 * SECOND, retry_after=retry_after)
    world.buildbucket.v2 = model.v2  # type: ignore[method-assign]
    started = world.clock.now()
    world.commit()
    while any(task.kind == "launch" for task in world.queue.tasks):
        assert world.clock.now() - started < HOUR
        world.tick(1)
    found = [invocation for name in NAMES for invocation in world.invocations(JobId(f"proj/{name}"))]
    seconds, attempts = (world.clock.now() - started) // SECOND, max(invocation.attempts for invocation in found)
    print(  # noqa: T201 - the measure
        f"\nRetry-After {retry_after // SECOND} s: {len(model.builds)} builds in {seconds} s, "
        f"{len(model.calls)} calls, {model.throttled} of them throttled, at most {attempts} attempts"
    )
    assert {invocation.status for invocation in found} == {Status.RUNNING}
    assert len(found) == len(model.builds) == len(model.live) == len(NAMES)
    assert seconds < 10 * MINUTE // SECOND
    assert attempts < 15


@pytest.mark.parametrize(("retry_after", "least", "most"), [(0, 5, 10), (120, 120, 240), (600, 600, 1200)])
def test_a_throttled_launch_waits_as_long_as_the_server_requires(retry_after: int, least: int, most: int) -> None:
    """It waits at least that long, and at most twice as long; the sweep uses the same time.

    The clients limit the server's time.
    """
    world = World()
    world.buildbucket.faults = [
        BuildbucketError(
            "RESOURCE_EXHAUSTED", "quota", transient=True, throttled=True, retry_after=retry_after * SECOND
        )
    ]
    world.commit()
    (task,) = world.queue.tasks
    (invocation,) = world.invocations()
    assert least * SECOND <= task.eta - world.clock.now() < most * SECOND
    assert invocation.next_due is not None
    assert 0 <= invocation.next_due - task.eta < MICROSECOND  # the precision of the queue
    assert "The invocation will be retried" in world.log()


def test_a_quota_that_never_recovers_ends_the_launch() -> None:
    """The attempts count as usual, but take longer: at least seven hours."""
    world = World()
    throttled = BuildbucketError("RESOURCE_EXHAUSTED", "quota", transient=True, throttled=True)
    world.buildbucket.faults = [throttled] * 1000
    started = world.clock.now()
    world.commit()
    while world.invocations()[0].status is Status.RETRYING:
        world.tick(60)
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.attempts) == (Status.FAILED, 50)
    assert 7 * HOUR < world.clock.now() - started < 18 * HOUR


def test_a_quota_makes_pauses_longer() -> None:
    """The plain pause is the original's.

    A throttled pause is at least the longer of it and the server's, and less than twice as long.
    """
    assert [plain_pause(n, 5, 600) for n in (1, 2, 3, 8, 50)] == [5, 10, 20, 600, 600]
    assert [throttled_pause(10, 0, draw) for draw in (0, 9, 10, 25)] == [10, 19, 10, 15]
    assert [throttled_pause(10, 70, draw) for draw in (3, 69, 70)] == [73, 139, 70]


def test_an_abort_does_not_wait_for_the_end_of_a_quota_pause() -> None:
    """The queue loses the abort's task: the sweep finds the invocation by the abort, and not by the next attempt."""
    world = World()
    world.buildbucket.faults = [
        BuildbucketError("RESOURCE_EXHAUSTED", "quota", transient=True, throttled=True, retry_after=HOUR)
    ]
    world.commit()
    (invocation,) = world.invocations()
    world.queue.purge()
    abort_invocation(world.runtime, invocation.job_id, invocation.id, "user:a@example.com", "k")
    world.queue.purge()
    world.clock.advance(3 * MINUTE)
    sweep(world.runtime)
    world.tick()
    assert world.invocations()[0].status is Status.ABORTED
