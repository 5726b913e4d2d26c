"""One build for each invocation, for every failure of its request: the build is found again, or canceled."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.ports import BuildbucketError, UpdateInvocation
from tests.unit.engine.stub import trigger_task
from tests.unit.engine.world import JOB, World, config


def _unanswered() -> World:
    """Return a world in which a launch got no answer: the build exists, but its ID is unknown."""
    world = World()
    world.buildbucket.lose_reply = True
    world.commit()
    return world


def test_an_experimental_build_is_found_again() -> None:
    """Its answer was lost, and the server has forgotten the request ID.

    A search by tag finds it, though it is experimental.
    """
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
DOWN = BuildbucketError("UNAVAILABLE", "down", transient=True)


def test_a_refused_search_does_not_prevent_another_request() -> None:
    """The first attempt's build runs, and its answer was lost: Buildbucket returns it for the same request ID."""
    world = _unanswered()
    world.buildbucket.faults = [REFUSED]
    world.tick(10)
    (invocation,) = world.invocations()
    assert invocation.status is Status.RUNNING
    assert world.buildbucket.calls == ["ScheduleBuild", "SearchBuilds", "ScheduleBuild"]
    assert len(world.buildbucket.builds) == 1
    assert "Failed to look up the build by its tag - PERMISSION_DENIED: not allowed" in world.log()


def test_requests_without_a_search_stop_when_the_request_may_be_forgotten() -> None:
    """The launch gives up and logs it, as a second build would be worse."""
    world = World()
    world.buildbucket.lose_reply = True
    world.buildbucket.forgets = True
    world.commit()
    world.buildbucket.faults = [REFUSED] * 2
    world.clock.advance(MINUTE)
    world.tick(20)
    (invocation,) = world.invocations()
    assert invocation.status is Status.FAILED
    assert len(world.buildbucket.builds) == 1
    assert "Failed to look up the build by its tag - PERMISSION_DENIED" in world.log()


def test_giving_up_logs_how_to_find_a_build_that_cannot_be_searched() -> None:
    """Neither a search nor a request is permitted any more: the log names the tag of the build that may be running."""
    world = _unanswered()
    world.buildbucket.faults = [REFUSED] * 3
    world.tick(10)
    (invocation,) = world.invocations()
    assert invocation.status is Status.FAILED
    tag = f"scheduler_invocation_id:{invocation.id}"
    assert f"A build of an earlier attempt may be running: look for builds with the tag {tag}" in world.log()


def test_giving_up_on_a_second_attempt_cancels_the_build_of_the_first() -> None:
    """The search misses the build and the second request is refused: another search follows."""
    world = _unanswered()
    search, seen = world.buildbucket._SearchBuilds, iter([False, True])
    world.buildbucket._SearchBuilds = lambda request: search(request) if next(seen) else {}  # type: ignore[method-assign]
    world.buildbucket.faults = [None, REFUSED]
    world.tick(10)
    assert world.invocations()[0].status is Status.FAILED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


def test_failing_a_launch_does_not_wait_until_the_build_is_canceled() -> None:
    """The invocation fails; a cleanup cancels the build once its search is answered."""
    world = _unanswered()
    world.buildbucket.faults = [REFUSED, REFUSED, DOWN, DOWN]
    world.tick(10)
    (invocation,) = world.invocations()
    assert invocation.status is Status.FAILED
    assert f"look for builds with the tag scheduler_invocation_id:{invocation.id}" in world.log()
    for seconds in (10, 20):
        assert world.buildbucket.canceled == []
        world.tick(seconds)
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


def test_an_abort_during_an_outage_ends_a_launch_at_once() -> None:
    """The build that may run cannot be searched: the log names its tag, and a cleanup cancels it after the outage."""
    world = _unanswered()
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
    world.buildbucket.faults = [DOWN] * 2
    world.tick(1)
    (invocation,) = world.invocations()
    assert invocation.status is Status.ABORTED
    assert "Failed to look up the build by its tag - UNAVAILABLE: down" in world.log()
    assert f"look for builds with the tag scheduler_invocation_id:{invocation.id}" in world.log()
    for seconds in (12, 22):
        assert world.buildbucket.canceled == []
        world.tick(seconds)
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


def test_giving_up_during_an_outage_ends_at_the_last_attempt() -> None:
    """No build is requested after the last attempt; the existing build is canceled after the outage."""
    world = World()
    world.runtime = replace(world.runtime, limits=replace(world.runtime.limits, max_attempts=1))
    world.buildbucket.lose_reply = True
    world.buildbucket.on_schedule = lambda: world.buildbucket.faults.extend([DOWN, DOWN])
    world.commit()
    assert world.invocations()[0].status is Status.FAILED
    for _ in range(2):
        world.tick(700)
    assert world.buildbucket.calls.count("ScheduleBuild") == 1
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


class SlowBuildbucket:
    """Takes fifty seconds for each call, or less if the call has a shorter deadline.

    Meanwhile the commit and tasks are delivered.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._answer = world.buildbucket.v2
        self._asking = 0
        self._redelivered = False
        self.together = 0
        """The largest number of simultaneous requests for a build."""

    def v2(self, server: str, method: str, request: Any, *, until: Instant | None = None) -> dict[str, Any]:
        """Answer late, or fail if the answer would be too late."""
        world = self._world
        answered = Instant(world.clock.now() + 50 * SECOND)
        end = answered if until is None else min(answered, until)
        self._asking += method == "ScheduleBuild"
        self.together = max(self.together, self._asking)
        while world.clock.now() < end:
            world.clock.advance(min(5 * SECOND, end - world.clock.now()))
            if not self._redelivered:
                self._redelivered = True
                world.commit(message="again")  # leaves a task for the end of the claim
            world.tick()
        self._asking -= method == "ScheduleBuild"
        if end < answered:
            raise BuildbucketError("DEADLINE_EXCEEDED", "", transient=True)
        return self._answer(server, method, request)


def test_two_attempts_never_send_requests_at_once() -> None:
    """Search and request of an attempt share one deadline: together they end before the claim does."""
    world = World()
    world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "", transient=True)]
    world.commit()
    slow = SlowBuildbucket(world)
    answer, world.buildbucket.v2 = world.buildbucket.v2, slow.v2  # type: ignore[method-assign]
    world.tick(5)
    for _ in range(3):
        world.tick(30)
    assert slow.together == 1
    world.buildbucket.v2 = answer  # type: ignore[method-assign]
    for _ in range(20):
        world.tick(60)
    assert world.invocations()[0].status is Status.RUNNING
    assert len(world.buildbucket.builds) == 1


def test_an_attempt_is_over_when_its_claim_ends() -> None:
    """A slow commit of the claim leaves the attempt less than its deadline."""
    world = World()
    claims: list[Instant | None] = []
    ends: list[Instant | None] = []
    answer = world.buildbucket.v2

    def slow(writes: list[Any]) -> None:
        if isinstance(writes[0], UpdateInvocation) and writes[0].invocation.claim_until:
            claims.append(writes[0].invocation.claim_until)
            world.clock.advance(40 * SECOND)

    def v2(server: str, method: str, request: Any, *, until: Instant | None = None) -> dict[str, Any]:
        ends.append(until)
        return answer(server, method, request)

    world.store.before_commit = slow
    world.buildbucket.v2 = v2  # type: ignore[method-assign]
    world.commit()
    assert len(claims) == 1
    assert ends == claims


def test_a_request_after_an_empty_search_is_over_while_its_id_is_known() -> None:
    """A search may hide a build of 45 seconds, whose request ID is known for 15 more: the repeated request takes 10."""
    world = World()
    world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "", transient=True)]
    world.commit()
    calls: list[tuple[str, Instant, Instant | None]] = []
    answer = world.buildbucket.v2

    def v2(server: str, method: str, request: Any, *, until: Instant | None = None) -> dict[str, Any]:
        calls.append((method, world.clock.now(), until))
        world.clock.advance(3 * SECOND)
        return answer(server, method, request)

    world.buildbucket.v2 = v2  # type: ignore[method-assign]
    world.tick(5)
    (search, began, attempt_end), (ask, _, end) = calls
    assert (search, ask) == ("SearchBuilds", "ScheduleBuild")
    assert end == began + 10 * SECOND
    assert attempt_end == began + MINUTE


def test_one_message_delivered_twice_at_once_requests_each_build_once() -> None:
    """The deliveries have the same key, but the delivery that lost the claim does not mistake it for its own."""
    world = World(config(policy="triggering_policy { max_concurrent_invocations: 2 max_batch_size: 1 }"))
    world.buildbucket.forgets = True
    now = world.clock.now()
    triggers = [Trigger(name, now, "webui", order_in_batch=place) for place, name in enumerate("ab")]
    task = trigger_task(JOB, triggers, "delivery", now)
    asked, threads = [], []
    second_asks, first_is_done = threading.Event(), threading.Event()

    def meanwhile() -> None:
        asked.append(threading.current_thread())
        if len(asked) == 1:
            threads.append(threading.Thread(target=world.run_task, args=(task, "same")))
            threads[0].start()
            second_asks.wait(30)
        elif len(asked) == 2:
            second_asks.set()
            first_is_done.wait(30)

    world.buildbucket.on_schedule = meanwhile
    world.run_task(task, "same")
    first_is_done.set()
    threads[0].join()
    assert world.buildbucket.calls == ["ScheduleBuild"] * 2
    assert [invocation.status for invocation in world.invocations()] == [Status.RUNNING] * 2


def test_a_launch_that_ends_after_an_abort_cancels_its_build() -> None:
    """The abort followed the claim's end and did not see the build: only the launch knows it."""
    world = World()
    search = world.buildbucket._SearchBuilds

    def meanwhile() -> None:
        abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
        world.clock.advance(76 * SECOND)
        world.buildbucket._SearchBuilds = lambda _: {}  # type: ignore[method-assign]
        world.tick()
        world.buildbucket._SearchBuilds = search  # type: ignore[method-assign]

    world.buildbucket.on_schedule = meanwhile
    world.commit()
    assert world.invocations()[0].status is Status.ABORTED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


def test_a_launch_that_was_overtaken_by_another_build_cancels_its_own() -> None:
    """It stalled past its claim, and the next attempt neither saw its build nor got the same one."""
    world = World()
    world.buildbucket.forgets = True
    search, build = world.buildbucket._SearchBuilds, world.buildbucket._ScheduleBuild

    def stall(request: Any) -> Any:
        made = build(request)
        world.buildbucket._ScheduleBuild = build  # type: ignore[method-assign]
        world.buildbucket._SearchBuilds = lambda _: {}  # type: ignore[method-assign]
        world.clock.advance(76 * SECOND)
        (invocation,) = world.invocations()
        world.run_task(launch_task(invocation, world.clock.now(), world.clock.now()), "another")
        world.buildbucket._SearchBuilds = search  # type: ignore[method-assign]
        return made

    world.buildbucket._ScheduleBuild = stall  # type: ignore[method-assign]
    world.commit()
    (invocation,) = world.invocations()
    assert invocation.status is Status.RUNNING
    (lost,) = set(world.buildbucket.builds) - {invocation.task_data["build_id"]}
    assert world.buildbucket.canceled == [lost]


def test_a_launch_that_loses_its_claim_in_the_last_conflict_cancels_its_build() -> None:
    """Other writes interfere until no attempt is left; the last one is an attempt that took over with another build."""
    world = World()
    world.buildbucket.forgets = True
    conflicts: list[int] = []

    def interfere(writes: list[Any]) -> None:
        if not any(isinstance(write, UpdateInvocation) and write.invocation.task_data for write in writes):
            return
        conflicts.append(1)
        (invocation,) = world.invocations()
        if len(conflicts) < world.runtime.limits.races:
            found = world.store.invocation(JOB, invocation.id)
            assert found is not None
            world.store.commit([UpdateInvocation(world.runtime.stamped(found.value, "touch"), found.version)])
            return
        world.store.before_commit = None
        search = world.buildbucket._SearchBuilds
        world.buildbucket._SearchBuilds = lambda _: {}  # type: ignore[method-assign]
        world.clock.advance(76 * SECOND)
        world.run_task(launch_task(invocation, world.clock.now(), world.clock.now()), "another")
        world.buildbucket._SearchBuilds = search  # type: ignore[method-assign]

    world.store.before_commit = interfere
    world.commit()
    assert len(conflicts) == world.runtime.limits.races
    (invocation,) = world.invocations()
    assert invocation.status is Status.RUNNING
    (lost,) = set(world.buildbucket.builds) - {invocation.task_data["build_id"]}
    assert world.buildbucket.canceled == [lost]


def test_a_launch_whose_outcome_is_refused_cancels_its_build() -> None:
    """It cancels the build by its ID, as a search may not find the build yet."""
    world = World()
    world.buildbucket._SearchBuilds = lambda _: {}  # type: ignore[method-assign]

    def refuse(writes: list[Any]) -> None:
        if any(isinstance(write, UpdateInvocation) and write.invocation.task_data for write in writes):
            raise PermanentError("too large")

    world.store.before_commit = refuse
    world.commit()
    assert world.invocations()[0].status is Status.FAILED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


@pytest.mark.parametrize("build_id", ["7/../../builds/8", "8?x=y", "\u00b2", "-1", "8" * 20, ""])
def test_an_id_that_is_not_a_number_never_becomes_an_address(build_id: str) -> None:
    """This holds for answers to requests and searches, whether the build is kept or canceled."""
    world = _unanswered()
    schedule, search = world.buildbucket._ScheduleBuild, world.buildbucket._SearchBuilds

    def doubled(request: Any) -> Any:
        (build,) = search(request)["builds"]
        return {"builds": [{**build, "id": build_id}, {**build, "id": build_id}]}

    world.buildbucket._SearchBuilds = doubled  # type: ignore[method-assign]
    world.tick(10)
    (invocation,) = world.invocations()
    assert invocation.status is Status.FAILED
    assert "has no ID of a build" in world.log() or "holds no build ID" in world.log()
    world.buildbucket._SearchBuilds = lambda _: {}  # type: ignore[method-assign]
    world.buildbucket._ScheduleBuild = lambda request: {**schedule(request), "id": build_id}  # type: ignore[method-assign]
    world.commit("b", "m2")
    for _ in range(3):
        world.tick(600)
    assert {invocation.status for invocation in world.invocations()} == {Status.FAILED}
    assert world.buildbucket.canceled == []
    assert "GetBuild" not in world.buildbucket.calls


def test_a_search_that_stays_empty_is_trusted_after_some_minutes() -> None:
    """The request never arrived: the cleanup ends, and nothing is left to do."""
    world = World()
    world.buildbucket.faults = [DOWN]
    world.commit()
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
    world.tick(1)
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.cleanup is None) == (Status.ABORTED, False)
    for _ in range(20):
        world.tick(20)
    (invocation,) = world.invocations()
    assert (invocation.cleanup, invocation.next_due) == (None, None)
    assert not world.queue.tasks


def test_a_first_request_that_is_refused_for_good_needs_no_cleanup() -> None:
    """Buildbucket itself says that there is no build: one search is enough."""
    world = World()
    world.buildbucket.faults = [REFUSED]
    world.commit()
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.cleanup) == (Status.FAILED, None)
    assert not world.queue.tasks
