"""A build that an invocation may have left running is canceled later, within a limit.

No state waits forever for an answer.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import structlog

from luci_scheduler.adapters import documents
from luci_scheduler.core.cleanup import BUILD_LIFE, Cleanup, first_cleanup, next_cleanup
from luci_scheduler.core.errors import ComeAgainError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.engine.outcome import on_cleanup_task
from luci_scheduler.engine.sweep import CARRYING_OUT, sweep
from luci_scheduler.ports import BuildbucketError, QueueTask, UpdateInvocation
from tests.unit.api.support import world_for
from tests.unit.engine.world import JOB, World, config
from tests.unit.web.support import Visitor

DOWN = BuildbucketError("UNAVAILABLE", "down", transient=True)
REFUSED = BuildbucketError("PERMISSION_DENIED", "not allowed", transient=False)
ALWAYS = 1_000_000


def _left_running(world: World | None = None) -> World:
    """Return a world whose only invocation was aborted while Buildbucket failed; its build still runs."""
    world = world or World()
    world.buildbucket.lose_reply = True
    world.commit()
    world.buildbucket.faults = [DOWN] * ALWAYS
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
    world.tick(1)
    assert world.invocations()[0].status is Status.ABORTED
    return world


def _names(events: list[Any]) -> list[str]:
    return [event["event"] for event in events]


def test_the_slot_is_free_at_once_and_the_log_says_how_to_find_the_build() -> None:
    """The next commit does not wait for Buildbucket."""
    world = _left_running()
    (invocation,) = world.invocations()
    assert f"look for builds with the tag scheduler_invocation_id:{invocation.id}" in world.log()
    assert invocation.cleanup == first_cleanup(world.clock.now())
    assert invocation.next_due == invocation.cleanup.next_try
    world.commit("b", "m2")
    assert world.invocations()[0].status is Status.RETRYING


def test_the_build_is_canceled_when_buildbucket_answers_again() -> None:
    """The record is removed, a line is logged, and nothing is due; the counter of saves stays the same."""
    world = _left_running()
    before = world.invocations()[0]
    for _ in range(60):
        world.tick(60)
    world.buildbucket.faults = []
    with structlog.testing.capture_logs() as events:
        world.tick(3600)
    (invocation,) = world.invocations()
    assert world.buildbucket.canceled == list(world.buildbucket.builds)
    assert (invocation.cleanup, invocation.next_due, invocation.mutations) == (None, None, before.mutations)
    assert "no unwatched build of this invocation is left running" in world.log()
    assert "cleanup_done" in _names(events)
    assert not world.queue.tasks
    assert world.store.job(JOB).value.active_invocations == ()  # type: ignore[union-attr]


def test_a_lost_cleanup_task_is_enqueued_again_by_the_sweep() -> None:
    """The document records when the cleanup is due."""
    world = _left_running()
    world.queue.purge()
    world.buildbucket.faults = []
    world.clock.advance(5 * MINUTE)
    assert sweep(world.runtime).tasks == 1
    world.tick()
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


def test_a_cleanup_ends_when_no_build_can_still_be_alive() -> None:
    """After five days no build can be alive: an error event and a line are logged, and nothing is due."""
    world = _left_running()
    begun, calls = world.clock.now(), len(world.buildbucket.calls)
    with structlog.testing.capture_logs() as events:
        while world.invocations()[0].cleanup:
            assert world.clock.now() - begun < BUILD_LIFE + 2 * HOUR
            world.tick(600)
    assert world.clock.now() - begun >= BUILD_LIFE
    assert len(world.buildbucket.calls) - calls < 150
    assert _names(events).count("cleanup_gave_up") == 1
    assert "nothing is looked for any more" in world.log()
    assert world.invocations()[0].next_due is None
    assert not world.queue.tasks


def test_a_refused_cleanup_ends() -> None:
    """Buildbucket refuses the cancellation: an error event asks a person to examine it."""
    world = _left_running()
    world.buildbucket.faults = [REFUSED] * 2
    with structlog.testing.capture_logs() as events:
        world.tick(60)
    assert "cleanup_gave_up" in _names(events)
    assert world.invocations()[0].cleanup is None
    assert (
        "has refused to cancel the build that this invocation may have left running - failed to look up" in world.log()
    )


def test_a_cleanup_task_ahead_of_its_commit_is_retried_then_dropped() -> None:
    """It is retried for five minutes; a stale task sends no request to Buildbucket."""
    world = World()
    world.commit()
    (invocation,) = world.invocations()
    created = world.clock.now()
    with pytest.raises(ComeAgainError):
        on_cleanup_task(world.runtime, JOB, invocation.id, 0, created, "k")
    world.clock.advance(6 * MINUTE)
    on_cleanup_task(world.runtime, JOB, invocation.id, 0, created, "k")
    left = _left_running()
    calls = len(left.buildbucket.calls)
    on_cleanup_task(left.runtime, JOB, left.invocations()[0].id, 7, left.clock.now(), "k")
    assert len(left.buildbucket.calls) == calls


def test_an_overtaken_launch_whose_build_cannot_be_canceled_leaves_it_to_a_cleanup() -> None:
    """The abort followed the claim's end and found no build.

    The launch knows the build, but Buildbucket no longer answers.
    """
    world = World()

    def meanwhile() -> None:
        abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
        world.clock.advance(76 * SECOND)
        search, world.buildbucket._SearchBuilds = world.buildbucket._SearchBuilds, lambda _: {}  # type: ignore[method-assign]
        world.tick()
        world.buildbucket._SearchBuilds = search  # type: ignore[method-assign]
        world.buildbucket.faults = [DOWN]

    world.buildbucket.on_schedule = meanwhile
    world.commit()
    assert world.invocations()[0].status is Status.ABORTED
    assert world.buildbucket.canceled == []
    world.tick(10)
    assert world.buildbucket.canceled == list(world.buildbucket.builds)
    assert world.invocations()[0].cleanup is None


def test_a_launch_that_was_overtaken_by_another_build_leaves_its_own_to_a_cleanup() -> None:
    """The invocation runs with the next attempt's build; the lost build is canceled by its ID, and the other is not."""
    world = _overtaken()
    (invocation,) = world.invocations()
    (lost,) = set(world.buildbucket.builds) - {invocation.task_data["build_id"]}
    assert invocation.status is Status.RUNNING
    assert invocation.cleanup is not None
    assert invocation.next_due == invocation.cleanup.next_try
    world.queue.purge()
    world.clock.advance(3 * MINUTE)
    for _ in range(6):
        world.run_task(QueueTask("sweep", {"created": world.clock.now()}, world.clock.now()), "sweep")
        world.tick(60)
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.cleanup) == (Status.RUNNING, None)
    assert world.buildbucket.canceled == [lost]
    assert invocation.pending_timers[0].eta == invocation.next_due


def test_an_end_without_an_answer_keeps_the_cleanup_of_an_earlier_build() -> None:
    """Both builds of the invocation are canceled once Buildbucket answers again."""
    world = _overtaken()
    world.buildbucket.faults = [DOWN] * ALWAYS
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
    for _ in range(12):
        world.tick(60)
    assert world.invocations()[0].status is Status.ABORTED
    world.buildbucket.faults = []
    for _ in range(12):
        world.tick(600)
    assert world.invocations()[0].cleanup is None
    assert sorted(world.buildbucket.canceled) == sorted(world.buildbucket.builds)
    assert len(world.buildbucket.builds) == 2


def _overtaken() -> World:
    """Return a world whose only invocation runs, and has left an earlier attempt's build to a cleanup."""
    world = World()
    world.buildbucket.forgets = True
    build = world.buildbucket._ScheduleBuild

    def stall(request: Any) -> Any:
        made = build(request)
        world.buildbucket._ScheduleBuild = build  # type: ignore[method-assign]
        search, world.buildbucket._SearchBuilds = world.buildbucket._SearchBuilds, lambda _: {}  # type: ignore[method-assign]
        world.clock.advance(76 * SECOND)
        (invocation,) = world.invocations()
        world.run_task(launch_task(invocation, world.clock.now(), world.clock.now()), "another")
        world.buildbucket._SearchBuilds = search  # type: ignore[method-assign]
        world.buildbucket.faults = [DOWN] * 2
        return made

    world.buildbucket._ScheduleBuild = stall  # type: ignore[method-assign]
    world.commit()
    return world


def test_an_abort_waits_ten_minutes_for_a_running_build() -> None:
    """The running build keeps the slot until then. The invocation then ends, and the log names the build."""
    world = World()
    world.commit()
    (invocation,) = world.invocations()
    world.buildbucket.faults = [DOWN] * ALWAYS
    abort_invocation(world.runtime, JOB, invocation.id, "user:a@example.com", "k")
    for _ in range(9):
        world.tick(60)
        assert world.invocations()[0].status is Status.RUNNING
    world.tick(70)
    assert world.invocations()[0].status is Status.ABORTED
    assert f"Build 9000 may be running: {invocation.view_url}" in world.log()


def test_an_abort_that_an_older_version_recorded_ends_at_once() -> None:
    """Such an abort has no request time."""
    world = World()
    world.commit()
    found = world.store.invocation(JOB, world.invocations()[0].id)
    assert found is not None
    requested = replace(found.value, abort_requested_by="user:a@example.com")
    world.store.commit([UpdateInvocation(world.runtime.stamped(requested, "by hand"), found.version)])
    world.buildbucket.faults = [DOWN] * ALWAYS
    world.tick(60)
    assert world.invocations()[0].status is Status.ABORTED


def test_silence_ends_a_running_invocation_only_after_the_life_of_any_build() -> None:
    """Six days without an answer end it. Earlier transient errors do not, and one answer restarts the period."""
    world = World()
    world.commit()
    world.buildbucket.faults = [DOWN] * ALWAYS
    for _ in range(5 * 24):
        world.tick(3600)
    world.buildbucket.faults = []
    world.tick(3600)
    world.buildbucket.faults = [DOWN] * ALWAYS
    for _ in range(6 * 24 - 2):
        world.tick(3600)
    assert world.invocations()[0].status is Status.RUNNING
    with structlog.testing.capture_logs() as events:
        for _ in range(4):
            world.tick(3600)
    (invocation,) = world.invocations()
    assert invocation.status is Status.FAILED
    assert "build_unknown" in _names(events)
    assert f"giving up. The build was {invocation.view_url}" in world.log()


def test_settings_that_lack_a_server_end_no_running_invocation() -> None:
    """Only Buildbucket itself can say that a build failed; once the settings are fixed, the checks continue."""
    world = World()
    world.commit()
    manager = world.runtime.managers["buildbucket"]
    servers = dict(manager._environment.servers)  # type: ignore[attr-defined]
    manager._environment.servers.clear()  # type: ignore[attr-defined]
    for _ in range(3):
        world.tick(600)
    assert world.invocations()[0].status is Status.RUNNING
    manager._environment.servers.update(servers)  # type: ignore[attr-defined]
    world.finish()
    world.tick(600)
    assert world.invocations()[0].status is Status.SUCCEEDED


def test_pauses_double_to_an_hour_until_no_build_can_be_alive() -> None:
    """The record holds its start, the number of tries, and the time of the next try."""
    now, pauses = Instant(0), []
    cleanup: Cleanup | None = first_cleanup(now)
    while cleanup:
        pauses.append((cleanup.next_try - now) // SECOND)
        now = cleanup.next_try
        cleanup = next_cleanup(cleanup, now)
    assert pauses[:11] == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
    assert BUILD_LIFE <= now < BUILD_LIFE + HOUR


def test_the_record_is_kept_in_the_document_and_may_be_absent() -> None:
    """Documents of older functions lack the member."""
    world = _left_running()
    (invocation,) = world.invocations()
    document = documents.encode_invocation(invocation)
    assert documents.decode_invocation(JOB, invocation.id, document) == invocation
    old = {name: value for name, value in document.items() if name != "state"}
    state = {
        name: value
        for name, value in json.loads(document["state"]).items()
        if name not in ("cleanup", "abort_requested_at")
    }
    read = documents.decode_invocation(JOB, invocation.id, old | {"state": json.dumps(state)})
    assert (read.cleanup, read.abort_requested_at) == (None, None)


def test_the_page_shows_that_a_build_may_run() -> None:
    """The page shows the next and the last try; the JSON twin has the next try."""
    world = _left_running(world_for())
    (invocation,) = world.invocations()
    path = f"/jobs/proj/job/{invocation.id}"
    assert "A build of this invocation may still be running" in Visitor(world).page(path).text
    assert Visitor(world).json(path)["cleanup_next_try"] == "2026-03-01T12:00:12Z"
    world.buildbucket.faults = []
    world.tick(20)
    assert "may still be running" not in Visitor(world).page(path).text
    assert Visitor(world).json(path)["cleanup_next_try"] is None


NAMES = tuple(f"job{number}" for number in range(5))


def _overdue_checks(minutes: int) -> World:
    world = World(config(NAMES))
    world.commit()
    world.queue.purge()
    for build in list(world.buildbucket.builds):
        world.finish(build_id=build)
    world.clock.advance(minutes * MINUTE)
    return world


def _sweep(world: World) -> None:
    world.run_task(QueueTask("sweep", {"created": world.clock.now()}, world.clock.now()), "sweep")


def _ended(world: World) -> int:
    return sum(world.invocations(JobId(f"proj/{name}"))[0].status is Status.SUCCEEDED for name in NAMES)


def test_the_sweep_runs_tasks_that_the_queue_refuses() -> None:
    """The sweep calls the queue once: each refusal may take the whole deadline."""
    world, asked = _overdue_checks(10), []

    def refuse(task: QueueTask) -> None:
        asked.append(task)
        raise TransientError("the queue is down")

    world.queue.enqueue = refuse  # type: ignore[method-assign]
    _sweep(world)
    assert _ended(world) == len(NAMES)
    assert len(asked) == 1


@pytest.mark.parametrize(("minutes", "ended"), [(50, 0), (65, len(NAMES))])
def test_the_sweep_runs_tasks_that_the_queue_has_not_delivered_for_an_hour(minutes: int, ended: int) -> None:
    """The queue has an hour to deliver a task; it gets the task again in any case."""
    world = _overdue_checks(minutes)
    _sweep(world)
    assert _ended(world) == ended
    assert len(world.queue.tasks) == len(NAMES)


def test_the_sweep_runs_tasks_for_at_most_a_minute() -> None:
    """The next sweep finds the remaining tasks; a failing task does not block the others."""
    world = _overdue_checks(65)
    answer = world.buildbucket._GetBuild

    def slow(request: Any) -> Any:
        world.clock.advance(CARRYING_OUT // 2)
        if request["id"] == "9000":
            raise BuildbucketError("UNAVAILABLE", "down", transient=True)
        return answer(request)

    world.buildbucket._GetBuild = slow  # type: ignore[method-assign]
    _sweep(world)
    assert _ended(world) == 1
    assert "job_id" not in structlog.contextvars.get_contextvars()
    for _ in range(4):
        _sweep(world)
    assert _ended(world) == len(NAMES) - 1


def test_a_fault_in_one_task_does_not_stop_the_sweep_of_the_others() -> None:
    """The fault is logged with its stack, and the sweep finishes."""
    world = _overdue_checks(65)
    answer = world.buildbucket._GetBuild

    def faulty(request: Any) -> Any:
        if request["id"] == "9000":
            raise ZeroDivisionError
        return answer(request)

    world.buildbucket._GetBuild = faulty  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as events:
        _sweep(world)
    assert _ended(world) == len(NAMES) - 1
    assert [event["task"] for event in events if event["event"] == "unexpected_error"] == ["timer"]
    assert "sweep_done" in _names(events)


def test_an_outcome_is_recorded_although_the_queue_refuses() -> None:
    """The document records the due retry and check, and the sweep finds them."""
    world = World()

    def refuse(_: QueueTask) -> None:
        raise TransientError("the queue is down")

    enqueue, world.queue.enqueue = world.queue.enqueue, refuse  # type: ignore[method-assign]
    world.buildbucket.faults = [DOWN]
    world.commit()
    (invocation,) = world.invocations()
    assert invocation.status is Status.RETRYING
    assert invocation.next_due == world.clock.now() + 5 * SECOND
    world.clock.advance(5 * SECOND)
    world.run_task(launch_task(invocation, world.clock.now(), world.clock.now()))
    assert world.invocations()[0].status is Status.RUNNING
    world.queue.enqueue = enqueue  # type: ignore[method-assign]
    world.clock.advance(5 * MINUTE)
    assert sweep(world.runtime).tasks == 1
