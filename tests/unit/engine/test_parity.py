"""Rows of the parity checklist, and quirks, that no other test covers."""

from __future__ import annotations

import pytest

from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.jobs import pause_job
from luci_scheduler.engine.outbox import triage_task
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import BuildbucketError
from tests.unit.engine.stub import NOOP, stub_world
from tests.unit.engine.world import HOST, JOB, World, config


def outside(number: int, created: int = 0, tags: tuple[str, ...] = ()) -> Trigger:
    """Return a trigger that a caller sends."""
    return Trigger(f"t{number:04}", Instant(created or number), "buildbucket", {"tags": list(tags)})


def discarded(world: World, trigger_id: str) -> str:
    """Return why a trigger was discarded; empty if it was not."""
    found = world.store.trigger(JOB, trigger_id)
    assert found is not None
    return found.value.discarded


def test_a_duplicate_leaves_the_counter() -> None:
    """A delivery that changes nothing saves nothing."""
    world = World()
    world.commit()
    world.notify("n1")
    before = world.invocations()[0].mutations
    world.notify("n1")
    assert world.invocations()[0].mutations == before


def test_a_timer_of_a_finished_invocation_is_ignored() -> None:
    """A build that has ended when it is scheduled sets no timer; a timer that arrives after the end writes nothing."""
    world = World()
    world.commit()
    (timer,) = world.queue.tasks
    world.finish()
    world.notify("end")
    log = world.log()
    world.counted()
    world.run_task(timer)
    assert world.counted() == "1R/0W/0c"
    assert world.log() == log


def test_an_abort_before_the_launch_skips_it() -> None:
    """Between two attempts, the next delivery of any kind performs the abort; no further build is requested."""
    world = World()
    world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "", transient=True)]
    world.commit()
    (invocation,) = world.invocations()
    (retry,) = world.queue.tasks
    abort_invocation(world.runtime, JOB, invocation.id, "user:a@example.com", "k")
    world.clock.advance(5 * SECOND)
    world.run_task(retry)
    assert world.invocations()[0].status is Status.ABORTED
    assert "manually aborted by user:a@example.com" in world.log()
    assert "ScheduleBuild" not in world.buildbucket.calls[1:]


def test_the_same_trigger_within_half_an_hour() -> None:
    """It has one invocation, for any sender of the repetition."""
    world = World()
    for minute in range(3):
        accept_triggers(world.runtime, JOB, [outside(1)], f"k{minute}")
        world.finish()
        world.notify(f"n{minute}")
        world.clock.advance(9 * MINUTE)
    assert len(world.invocations()) == 1


def test_more_than_a_thousand_waiting_triggers_lose_their_oldest() -> None:
    """The oldest is discarded with the reason; the log has the error line."""
    world = World(config(policy="triggering_policy { max_batch_size: 2000 }"))
    accept_triggers(world.runtime, JOB, [outside(5000)], "first")
    for start in range(1, 1002, 77):
        accept_triggers(world.runtime, JOB, [outside(n) for n in range(start, min(start + 77, 1002))], f"k{start}")
    world.finish()
    world.notify("end")
    newest = world.invocations()[0]
    assert [trigger.id for trigger in newest.incoming_triggers] == [f"t{n:04}" for n in range(2, 1002)]
    assert discarded(world, "t0001") == "more than 1000 triggers were pending"
    assert "Error: Too many pending triggers (>1000), dropping 1 oldest\n" in world.store.triage_log(JOB)


def test_ten_simultaneous_triage_requests_make_one_task() -> None:
    """All requests within two seconds share one triage."""
    world = World()
    for _ in range(10):
        world.queue.enqueue(triage_task(JOB, world.clock.now()))
        world.clock.advance(SECOND // 10)
    assert [task.kind for task in world.queue.tasks] == ["triage"]


def test_a_paused_job_drops_new_triggers() -> None:
    """The sender gets no error; the job's pages show the discarded trigger."""
    world = World()
    pause_job(world.runtime, JOB, "user:a@example.com", "", "k")
    accept_triggers(world.runtime, JOB, [outside(1)], "k1")
    assert not world.invocations()
    assert discarded(world, "t0001") == "the job is paused"


def test_a_new_revision_alone_changes_no_job() -> None:
    """A job shows the revision of its last real change."""
    world = World()
    before = world.store.job(JOB)
    world.sync(config())
    after, project = world.store.job(JOB), world.store.project("proj")
    assert before == after
    assert project is not None
    assert project.value.revision == "rev2"


def test_a_removed_job_loses_pending_triggers_and_its_invocations_end() -> None:
    """The job is disabled and has no tick; its running invocation ends normally."""
    world = World()
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.sync("")
    world.tick(3)
    job = world.store.job(JOB)
    assert job is not None
    assert (job.value.enabled, job.value.cron.enabled) == (False, False)
    assert not world.store.pending_triggers(JOB, 10)
    world.finish()
    world.notify("end")
    assert [item.status for item in world.invocations()] == [Status.SUCCEEDED]


def test_one_point_for_each_end(capsys: pytest.CaptureFixture[str]) -> None:
    """The line about an invocation's end has its seconds and its status, once."""
    world = World()
    world.commit()
    world.clock.advance(10 * SECOND)
    world.finish("FAILURE")
    world.notify("end")
    world.notify("end again")
    lines = [line for line in capsys.readouterr().out.splitlines() if "invocation_finished" in line]
    assert len(lines) == 1
    assert "FAILED" in lines[0]
    assert "seconds" in lines[0]


# Quirks: docs/decisions/0006-quirks.md -------------------------------------------------------------------------


def test_quirk_2_a_notification_between_two_attempts_has_no_effect() -> None:
    """The original fails the invocation; here the next attempt handles it."""
    world = World()
    world.buildbucket.lose_reply = True
    world.commit()
    assert world.invocations()[0].status is Status.RETRYING
    world.notify("early")
    assert world.invocations()[0].status is Status.RETRYING
    world.tick(5)
    assert world.invocations()[0].status is Status.RUNNING


def test_quirk_4_too_many_attempts_leave_no_line_about_the_end() -> None:
    """The first line of attempt 51 is the last line of the log."""
    world = World()
    world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "", transient=True)]
    world.commit()
    world.runtime = world.app.runtime
    (found,) = world.invocations()
    (retry,) = world.queue.tasks
    from dataclasses import replace

    world.runtime = replace(world.runtime, limits=replace(world.runtime.limits, max_attempts=1))
    world.clock.advance(5 * SECOND)
    world.run_task(retry)
    assert world.invocations()[0].status is Status.FAILED
    assert found.attempts == 1
    assert world.log().endswith("Too many attempts, giving up\n")


def test_quirk_5_a_trigger_with_a_bad_tag_does_not_block_its_job() -> None:
    """It is discarded with the reason, and the next trigger runs."""
    world = World()
    accept_triggers(world.runtime, JOB, [outside(1, tags=("no colon",))], "k1")
    accept_triggers(world.runtime, JOB, [outside(2)], "k2")
    assert "no colon" in discarded(world, "t0001")
    assert [item.incoming_triggers[0].id for item in world.invocations()] == ["t0002"]


def test_quirk_10_a_job_shows_the_revision_of_its_last_change() -> None:
    """A revision that changes only other jobs leaves it."""
    world = World(config(("job", "other")))
    world.sync(config(("job", "other")).replace('bucket: "ci" builder: "other"', 'bucket: "try" builder: "other"'))
    revisions = [world.store.job(JobId(f"proj/{name}")) for name in ("job", "other")]
    assert [found.value.definition.revision for found in revisions if found] == ["rev1", "rev2"]


def test_quirk_12_nothing_overruns() -> None:
    """A tick while an invocation runs leaves a pending trigger."""
    world, manager = stub_world(f'job {{ id: "job" schedule: "0 * * * *" {NOOP} }}')
    manager.runs_on = True
    world.tick(3600)
    world.tick(3600)
    assert [item.status for item in world.invocations()] == [Status.RUNNING]
    assert len(world.store.pending_triggers(JOB, 10)) == 1


def test_quirk_13_an_abort_works_although_the_server_is_no_longer_configured() -> None:
    """The original leaves such an invocation hanging; here it is ABORTED, with the reason in its log."""
    world = World(config().replace(HOST, HOST))
    world.commit()
    (invocation,) = world.invocations()
    environment = world.runtime.managers["buildbucket"]._environment  # type: ignore[attr-defined]
    object.__setattr__(environment, "servers", {})
    abort_invocation(world.runtime, JOB, invocation.id, "user:a@example.com", "k")
    assert world.invocations()[0].status is Status.ABORTED
    assert "Fatal error when aborting the invocation" in world.log()
