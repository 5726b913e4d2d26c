"""Failing, refused and unanswered calls, and deliveries ahead of their commits: all are retried within limits."""

import itertools
from collections import Counter
from typing import Any

import pytest

from luci_scheduler.core.errors import ComeAgainError, PermanentError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import BuildbucketError, QueueTask
from tests.unit.engine.stub import NOOP, made, stub_world, trigger_task
from tests.unit.engine.world import JOB, World, config


def test_reply_of_schedule_is_lost() -> None:
    """A build whose answer was lost is found by its tag, although the server has forgotten the request ID."""
    world = World()
    world.buildbucket.lose_reply = True
    world.buildbucket.forgets = True
    world.commit()
    assert world.invocations()[0].status is Status.RETRYING
    world.tick(5)
    assert world.buildbucket.calls == ["ScheduleBuild", "SearchBuilds"]
    assert world.invocations()[0].status is Status.RUNNING
    assert len(world.buildbucket.builds) == 1


def test_fifty_failures_end_the_invocation() -> None:
    """The fiftieth transient failure is the last; a build that may exist is canceled."""
    world = World()

    def down(*_: Any) -> Any:
        raise BuildbucketError("UNAVAILABLE", "down", transient=True)

    world.buildbucket._ScheduleBuild = down  # type: ignore[method-assign]
    world.commit()
    for _ in range(60):
        world.tick(600)
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.attempts) == (Status.FAILED, 50)
    assert world.log().count("The invocation will be retried") == 49
    assert not world.queue.tasks


def test_backoff_doubles_to_ten_minutes() -> None:
    """The pauses between attempts are 5, 10, 20 ... at most 600 seconds."""
    world = World()
    world.buildbucket.faults = list(
        itertools.chain.from_iterable([[BuildbucketError("INTERNAL", "", transient=True)] for _ in range(10)])
    )
    pauses = []
    world.commit()
    while world.invocations()[0].status is Status.RETRYING:
        pause = (world.queue.tasks[0].eta - world.clock.now()) // SECOND
        pauses.append(pause)
        world.tick(pause)
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_permanent_refusal_fails_the_invocation_and_frees_the_slot() -> None:
    """An invocation whose request Buildbucket refuses permanently ends FAILED, and the next commit starts at once."""
    world = World()
    world.buildbucket.faults = [BuildbucketError("PERMISSION_DENIED", "no", transient=False)]
    world.commit("a", "m1")
    world.commit("b", "m2")
    assert [i.status for i in world.invocations()] == [Status.RUNNING, Status.FAILED]
    assert "Failed to schedule Buildbucket build - PERMISSION_DENIED: no" in world.log(place=1)


def test_lost_timers_are_enqueued_again_by_the_sweep() -> None:
    """The queue loses everything: within two sweeps the checks continue."""
    world = World()
    world.commit()
    world.queue.purge()
    world.tick(60)
    assert not world.queue.tasks
    world.clock.advance(180 * SECOND)
    sweep(world.runtime)
    world.tick()
    assert "Handling timer" in world.log()
    assert len(world.queue.tasks) == 1


def test_a_timer_ahead_of_its_commit_is_retried_then_dropped() -> None:
    """A task that the queue delivers before its commit is visible is retried for five minutes."""
    world = World()
    seen: list[str] = []

    def bring_early() -> None:
        from luci_scheduler.core.identifiers import timer_id
        from luci_scheduler.engine.progress import on_timer

        (invocation,) = world.invocations()
        ahead = timer_id(JOB, invocation.id, 2, 0)
        created = world.clock.now()
        for _ in range(2):
            try:
                on_timer(world.runtime, JOB, invocation.id, ahead, created, "k")
                seen.append("dropped")
            except ComeAgainError:
                seen.append("again")
            world.clock.advance(300 * SECOND)

    world.buildbucket.on_schedule = bring_early
    world.commit()
    assert seen == ["again", "dropped"]


def test_notification_before_the_build_id_is_known() -> None:
    """Under a live claim it is retried, and writes nothing."""
    world = World()
    seen: list[str] = []

    def early() -> None:
        with world.uncounted():
            try:
                world.notify("early")
            except ComeAgainError:
                seen.append(world.log())

    world.buildbucket.on_schedule = early
    world.commit()
    assert len(seen) == 1
    assert "Received PubSub" not in seen[0]


def test_a_notification_for_an_unknown_invocation_is_a_permanent_error() -> None:
    """It is refused permanently, and writes nothing."""
    from luci_scheduler.core.identifiers import InvocationId
    from luci_scheduler.engine.progress import on_notification

    world = World()
    with pytest.raises(PermanentError, match="doesn't exist"):
        on_notification(world.runtime, JOB, InvocationId(16), "m")
    assert world.counted() == "1R/0W/0c"


def test_a_transient_error_during_a_check_keeps_the_timer() -> None:
    """Nothing is written, no line is kept, and the same task succeeds later."""
    world = World()
    world.commit()
    before = world.log()
    world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "", transient=True)]
    world.clock.advance(60 * SECOND)
    (task,) = world.queue.take_due(world.clock.now())
    with pytest.raises(TransientError):
        world.run_task(task)
    assert world.log() == before
    world.run_task(task)
    assert "Handling timer" in world.log()


def test_a_missing_build_fails_the_invocation() -> None:
    """A permanent error of a check is logged and ends the invocation."""
    world = World()
    world.commit()
    world.buildbucket.faults = [BuildbucketError("NOT_FOUND", "gone", transient=False)]
    world.tick(60)
    assert world.invocations()[0].status is Status.FAILED
    assert "Failed to fetch build - NOT_FOUND: gone" in world.log()


def test_abort_of_a_retrying_invocation_looks_for_the_build() -> None:
    """A build that an earlier attempt may have created is found by its tag and canceled."""
    world = World()
    world.buildbucket.lose_reply = True
    world.commit()
    (invocation,) = world.invocations()
    abort_invocation(world.runtime, JOB, invocation.id, "user:a@example.com", "k")
    world.tick(1)
    assert world.invocations()[0].status is Status.ABORTED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)
    abort_invocation(world.runtime, JOB, invocation.id, "user:b@example.com", "k2")
    assert "user:b@example.com" not in world.log()


def test_a_failing_job_does_not_affect_the_others() -> None:
    """A job whose launch cannot be recorded gets a separate task; the other jobs run."""
    world = World(config(("one", "two", "three")))
    world.store.before_commit = lambda writes: _fail_for("proj/two", writes)
    world.commit()
    assert {world.invocations(JobId(f"proj/{n}"))[0].status for n in ("one", "three")} == {Status.RUNNING}
    world.store.before_commit = None
    world.tick()
    assert world.invocations(JobId("proj/two"))[0].status is Status.RUNNING
    assert len(world.buildbucket.builds) == 3


def _fail_for(job_id: str, writes: list[Any]) -> None:
    if any(getattr(getattr(write, "job", None), "id", "") == job_id for write in writes):
        raise TransientError("the store is down for this job")


def test_concurrent_invocations_as_the_policy_allows() -> None:
    """Slots after the first are used at once; a batch never exceeds the policy's limit."""
    world = World(config(policy="triggering_policy { max_concurrent_invocations: 2 max_batch_size: 1 }"))
    for number, revision in enumerate("abcd"):
        world.commit(revision, f"m{number}")
    assert [i.status for i in world.invocations()] == [Status.RUNNING, Status.RUNNING]
    world.finish("SUCCESS", "9000")
    world.notify("n", "9000")
    assert [len(i.incoming_triggers) for i in world.invocations()] == [1, 1, 1]


def test_the_same_commit_after_half_an_hour_counts_as_new() -> None:
    """A deliberate new request runs again; the old message itself never does."""
    world = World()
    world.commit("a", "m1")
    world.finish()
    world.notify("done")
    world.clock.advance(1800 * SECOND)
    world.commit("a", "m1")
    assert len(world.buildbucket.builds) == 1
    world.commit("a", "m2")
    assert len(world.buildbucket.builds) == 2


def test_a_launch_task_under_a_live_claim_sends_no_request() -> None:
    """A launch task that arrives while another attempt holds the claim enqueues a task for the claim's end."""
    from luci_scheduler.engine.outbox import launch_task

    world = World()

    def second() -> None:
        (invocation,) = world.invocations()
        world.buildbucket.on_schedule = None
        world.run_task(launch_task(invocation, world.clock.now(), world.clock.now()))

    world.buildbucket.on_schedule = second
    world.commit()
    assert world.buildbucket.calls == ["ScheduleBuild"]
    assert sorted(task.kind for task in world.queue.tasks) == ["launch", "timer"]
    assert "attempt 2" not in world.log()


def test_a_launch_that_cannot_be_claimed_gets_a_task() -> None:
    """If the store fails just after the creation, a launch task continues at once: the sweep is not needed."""
    world = World()
    fail = iter([False, True])
    world.store.before_commit = lambda _: _raise_if(next(fail, False))
    world.commit()
    assert [task.kind for task in world.queue.tasks] == ["launch"]
    world.tick()
    assert world.invocations()[0].status is Status.RUNNING


def test_a_queue_that_refuses_the_first_check_does_not_leave_a_build_unwatched() -> None:
    """The build runs and its ID is kept: the document records the check, and the sweep enqueues it."""
    world = World()
    enqueue = world.queue.enqueue
    world.queue.enqueue = lambda _: _raise_if(condition=True)  # type: ignore[method-assign]
    world.commit()
    world.queue.enqueue = enqueue  # type: ignore[method-assign]
    (invocation,) = world.invocations()
    assert invocation.status is Status.RUNNING
    assert not world.queue.tasks
    world.finish()  # and its notification is lost
    world.tick(60 + 121)
    assert sweep(world.runtime).tasks == 1
    world.tick()
    assert world.invocations()[0].status is Status.SUCCEEDED


def _raise_if(condition: bool) -> None:
    if condition:
        raise TransientError("the store is down")


def test_abort_of_a_launch_without_a_build_wins_at_once() -> None:
    """A poll, a fetch or a noop in progress is ABORTED, and its later result is dropped."""
    world, manager = stub_world(
        f'trigger {{ id: "job" schedule: "0 * * * *" {NOOP} triggers: "other" }} job {{ id: "other" {NOOP} }}'
    )
    manager.emits = [made("t1")]

    def abort() -> None:
        (invocation,) = world.invocations()
        abort_invocation(world.runtime, JOB, invocation.id, "user:a@example.com", "k", "no more")

    manager.on_launch = abort
    world.tick(3600)
    (invocation,) = world.invocations()
    assert invocation.status is Status.ABORTED
    assert (invocation.abort_requested_by, invocation.abort_reason) == ("user:a@example.com", "no more")
    assert not invocation.outgoing_triggers
    assert world.log().count("Invocation finished") == 1


def test_hundreds_of_launches_that_fail_at_once_are_spread_over_deliveries() -> None:
    """Each refused launch makes room for the next: one delivery makes a few, and the queue delivers the others."""
    world = World(config(policy="triggering_policy { max_batch_size: 1 }"))
    world.commit("a", "m0")
    for number in range(1, 301):
        accept_triggers(world.runtime, JOB, [made(f"t{number:03d}", number)], f"d{number}")
    refusal = BuildbucketError("INVALID_ARGUMENT", "no such builder", transient=False)
    world.buildbucket.faults = [None] + [refusal] * 1000
    world.finish()
    before = world.buildbucket.calls.count("ScheduleBuild")
    world.notify("n1")
    asked = world.buildbucket.calls.count("ScheduleBuild") - before
    assert asked == world.runtime.limits.launches_at_once
    for _ in range(60):
        world.tick(1)
    assert len(world.invocations()) == 301
    assert {invocation.status for invocation in world.invocations()[:-1]} == {Status.FAILED}


def _nine_triggers(world: World) -> QueueTask:
    now = world.clock.now()
    triggers = [Trigger(f"t{number}", now, "webui", order_in_batch=number) for number in range(9)]
    return trigger_task(JOB, triggers, "d", now)


MANY = "triggering_policy { max_concurrent_invocations: 20 max_batch_size: 1 }"


def test_launches_that_the_queue_refuses_are_left_to_the_sweep() -> None:
    """Launches after the first few have no task then.

    The delivery still succeeds, and the other launches are not blocked.
    """
    world = World(config(policy=MANY))
    enqueue = world.queue.enqueue

    def refuse(task: QueueTask) -> None:
        if task.kind == "launch":
            raise TransientError("the queue is down")
        enqueue(task)

    world.queue.enqueue = refuse  # type: ignore[method-assign]
    world.run_task(_nine_triggers(world), "x")
    world.queue.enqueue = enqueue  # type: ignore[method-assign]
    assert Counter(invocation.status for invocation in world.invocations()) == {Status.RUNNING: 8, Status.STARTING: 1}
    for _ in range(5):
        world.tick(60)
        sweep(world.runtime)
    world.tick()
    assert {invocation.status for invocation in world.invocations()} == {Status.RUNNING}


def test_a_redelivered_launch_task_recovers_its_own_claim() -> None:
    """Its process died after the claim: the launch resumes when the claim ends, without the sweep."""

    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    world = World(config(policy=MANY))
    world.run_task(_nine_triggers(world), "x")
    (task,) = (task for task in world.queue.take_due(world.clock.now()) if task.kind == "launch")
    world.buildbucket.on_schedule = die
    with pytest.raises(Died):
        world.run_task(task, "launch")
    world.buildbucket.on_schedule = None
    world.run_task(task, "launch")
    world.tick(76)
    assert {invocation.status for invocation in world.invocations()} == {Status.RUNNING}
    assert len(world.buildbucket.builds) == 9
