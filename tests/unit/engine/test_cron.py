"""Cron ticks: the invocations that a schedule starts, and the handling of late, early, lost and repeated ticks."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from luci_scheduler.core.errors import ComeAgainError, PermanentError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import DAY, HOUR, MINUTE, SECOND, Instant, parse_rfc3339
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.job_changes import MIN_PAUSE
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.jobs import pause_job, put_job, resume_job
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import CreateInvocation, CreateTrigger, QueueTask
from tests.unit.engine.stub import NOOP, made, stub_world
from tests.unit.engine.world import HOST, JOB, World

HOURLY = f'job {{ id: "job" schedule: "0 * * * *" {NOOP} }}'
INTERVAL = f'job {{ id: "job" schedule: "with 10m interval" {NOOP} }}'
NOON = parse_rfc3339("2026-03-01T12:00:00Z")


def ticks(world: World) -> list[QueueTask]:
    return [task for task in world.queue.tasks if task.kind == "cron"]


def test_a_new_job_awaits_its_first_tick() -> None:
    """The tick is enqueued before the job is written, and the job records when it is due."""
    world, _ = stub_world(HOURLY)
    (tick,) = ticks(world)
    job = world.store.job(JOB)
    assert job is not None
    assert tick.eta == job.value.next_due == NOON + HOUR
    assert tick.payload["generation"] == job.value.cron.generation


def test_a_tick_starts_an_invocation_and_the_next_tick() -> None:
    """One commit writes the invocation and the job; a tick's trigger needs no marker."""
    world, _ = stub_world(
        f'job {{ id: "job" schedule: "0 * * * *" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }} }}'
    )
    world.store.counts.clear()
    world.tick(3600)
    assert world.counted() == "1R/4W/3c"
    (invocation,) = world.invocations()
    assert invocation.incoming_triggers[0].id == "cron:v1:3"
    assert [task.kind for task in world.queue.tasks] == ["cron", "timer"]
    assert ticks(world)[0].eta == NOON + 2 * HOUR


def test_an_interval_counts_from_the_end() -> None:
    """No tick is awaited while the invocation runs; its end starts the next interval."""
    world, manager = stub_world(INTERVAL)
    manager.on_launch = lambda: world.clock.advance(7 * MINUTE)
    world.tick(600)
    (tick,) = ticks(world)
    assert tick.eta == NOON + (10 + 7 + 10) * MINUTE


def test_ticks_while_an_invocation_runs_leave_one_trigger_each() -> None:
    """Triggers that arrive while the slot is taken are pending; one invocation then consumes all of them."""
    world, manager = stub_world(HOURLY)
    manager.runs_on = True
    world.tick(3600)
    world.tick(3600)
    world.tick(3600)
    assert len(world.invocations()) == 1
    pending = world.store.pending_triggers(JOB, 10)
    assert [found.value.trigger.id for found in pending] == ["cron:v1:6", "cron:v1:9"]


def test_a_repeated_tick_does_nothing() -> None:
    """The nonce is used up."""
    world, _ = stub_world(HOURLY)
    (tick,) = ticks(world)
    world.tick(3600)
    world.store.counts.clear()
    world.run_task(tick)
    assert world.counted() == "1R/0W/0c"
    assert len(world.invocations()) == 1


def test_early_ticks() -> None:
    """A tick that is a little early is retried.

    A much earlier one (a link of a chain) is scheduled again under a new nonce.
    """
    world, _ = stub_world(HOURLY)
    (tick,) = ticks(world)
    world.clock.move_to(Instant(tick.eta - SECOND // 2))
    with pytest.raises(TransientError):
        world.run_task(tick)
    world, _ = stub_world(HOURLY)
    (tick,) = ticks(world)
    world.run_task(tick)
    assert len(ticks(world)) == 2
    assert not world.invocations()
    world.tick(3600)
    assert len(world.invocations()) == 1


def test_a_tick_ahead_of_its_commit_is_retried_and_finally_dropped() -> None:
    """A tick whose commit never came is dropped after five minutes."""
    world, _ = stub_world(HOURLY)
    now = world.clock.now()
    ahead = QueueTask("cron", {"job": JOB, "nonce": "7", "generation": 99, "created": now}, now)
    with pytest.raises(ComeAgainError):
        world.run_task(ahead)
    world.clock.advance(5 * MINUTE)
    world.run_task(ahead)
    assert not world.invocations()


def test_distant_ticks_are_reached_by_a_chain_of_tasks() -> None:
    """The queue holds no task for longer than 15 days and an hour."""
    world, _ = stub_world(f'job {{ id: "job" schedule: "0 0 10 4 *" {NOOP} }}')  # 40 days ahead
    etas = []
    for _ in range(3):
        (tick,) = ticks(world)
        etas.append(tick.eta)
        world.clock.move_to(tick.eta)
        world.tick()
    assert etas == [NOON + 15 * DAY, NOON + 30 * DAY, parse_rfc3339("2026-04-10T00:00:00Z")]
    assert len(world.invocations()) == 1


def test_the_sweep_enqueues_lost_ticks_again() -> None:
    """The job's document records the due tick; the sweep enqueues it again, and it takes effect once."""
    world, _ = stub_world(HOURLY)
    (lost,) = ticks(world)
    world.queue.purge()
    world.clock.advance(HOUR)
    assert sweep(world.runtime).tasks == 0  # within the grace
    world.clock.advance(3 * MINUTE)
    assert sweep(world.runtime).tasks == 1
    world.tick()
    world.run_task(lost)  # late, but not lost
    assert len(world.invocations()) == 1


def test_pause_and_resume() -> None:
    """A paused job does not tick; a resumed job does. The job records who changed it, when and why."""
    world, _ = stub_world(HOURLY)
    pause_job(world.runtime, JOB, "user:a@b.c", "maintenance", "k1")
    pause_job(world.runtime, JOB, "user:x@y.z", "again", "k2")
    world.tick(3600)
    assert not world.invocations()
    job = world.store.job(JOB)
    assert job is not None
    assert (job.value.changed_by, job.value.change_reason) == ("user:a@b.c", "maintenance")
    assert job.value.triage_due is None, "the triage took place"
    resume_job(world.runtime, JOB, "user:a@b.c", "done", "k3")
    world.tick(3600)
    assert len(world.invocations()) == 1


def test_a_trigger_that_a_paused_job_discarded_may_be_emitted_again() -> None:
    """A paused job visibly discards triggers.

    The same delivery stays discarded, and a new one starts the resumed job.
    """
    world, _ = stub_world(HOURLY)
    pause_job(world.runtime, JOB, "user:a@b.c", "why", "k1")
    accept_triggers(world.runtime, JOB, [made("t1", 5)], "d1")
    resume_job(world.runtime, JOB, "user:a@b.c", "done", "k2")
    accept_triggers(world.runtime, JOB, [made("t1", 5)], "d1")
    assert not world.invocations()
    accept_triggers(world.runtime, JOB, [made("t1", 5)], "d2")
    assert len(world.invocations()) == 1


def test_pausing_discards_pending_triggers() -> None:
    """The pause requests a triage, which visibly discards the pending triggers; several requests share one task."""
    world, manager = stub_world(HOURLY)
    manager.runs_on = True
    world.tick(3600)
    world.tick(3600)
    pause_job(world.runtime, JOB, "user:a@b.c", "why", "k1")
    world.tick(3)
    assert not world.store.pending_triggers(JOB, 10)
    record = world.store.trigger(JOB, "cron:v1:6")
    assert record is not None
    assert record.value.discarded == "the job is paused"
    assert "clearing the pending triggers queue" in world.store.triage_log(JOB)


def test_a_removed_job_stops_and_a_redefined_one_starts_again() -> None:
    """A disabled job has no ticks and no triggers; its running invocations continue."""
    world, _ = stub_world(HOURLY)
    world.sync("")
    world.tick(3600)
    assert not world.invocations()
    world.sync(HOURLY)
    world.tick(3600)
    assert [invocation.status for invocation in world.invocations()] == [Status.SUCCEEDED]


def test_a_changed_schedule_takes_effect_at_once() -> None:
    """The tick of the old schedule is stale."""
    world, _ = stub_world(HOURLY)
    world.sync(HOURLY.replace("0 * * * *", "30 * * * *"))
    world.tick(1800)
    assert len(world.invocations()) == 1
    world.tick(1800)
    assert len(world.invocations()) == 1


def test_an_idle_tick_keeps_no_invocation() -> None:
    """Without work there is one commit of one document, and the next tick; a launch reuses the answers of the check."""
    world, manager = stub_world(INTERVAL)
    manager.is_idle = True
    world.store.counts.clear()
    world.tick(600)
    assert world.counted() == "1R/1W/1c"
    assert not world.invocations()
    (tick,) = ticks(world)
    assert tick.eta == NOON + 20 * MINUTE
    job = world.store.job(JOB)
    assert job is not None
    assert job.value.last_poll == NOON + 10 * MINUTE
    manager.is_idle = False
    manager.asked.clear()
    world.tick(600)
    assert manager.asked == ["looked"]
    assert len(world.invocations()) == 1


def test_a_tick_of_a_deleted_job_does_nothing() -> None:
    """After five minutes it is not retried any more."""
    world, _ = stub_world(HOURLY)
    gone = QueueTask("cron", {"job": JobId("proj/gone"), "nonce": "1", "generation": 1, "created": 0}, NOON)
    world.run_task(gone)
    assert not world.invocations()


def test_an_emitted_trigger_under_the_id_of_a_tick_does_not_stop_the_schedule() -> None:
    """The tick counts as a repetition of the emitted trigger, and later ticks come as usual."""
    world, manager = stub_world(HOURLY)
    manager.runs_on = True
    accept_triggers(world.runtime, JOB, [made("cron:v1:3")], "d1")
    assert len(world.invocations()) == 1
    world.tick(3600)
    world.tick()
    job = world.store.job(JOB)
    assert job is not None
    assert job.value.tick_at == NOON + 2 * HOUR
    assert not world.store.pending_triggers(JOB, 10)
    world.tick(3600)
    assert [found.value.trigger.id for found in world.store.pending_triggers(JOB, 10)] == ["cron:v1:6"]


@pytest.mark.parametrize("schedule", [HOURLY, INTERVAL])
def test_the_schedule_continues_if_the_store_refuses_an_invocation_of_a_tick(schedule: str) -> None:
    """For every reason of the refusal, nothing starts, the log has the reason, and the next tick is awaited."""
    world, _ = stub_world(schedule)

    def refuse(writes: list[object]) -> None:
        if any(isinstance(write, CreateInvocation) for write in writes):
            raise PermanentError("too large after all")

    world.store.before_commit = refuse
    with capture_logs() as logs:
        world.tick(3600)
    assert {line["reason"] for line in logs if line["event"] == "trigger_discarded"} == {
        "what it starts cannot be stored: too large after all"
    }
    assert world.invocations() == []
    world.store.before_commit = None
    world.tick(3700)
    assert len(world.invocations()) == 1


def test_a_tick_does_not_consume_a_pending_trigger_with_its_id_twice() -> None:
    """The tick starts a pending trigger that was emitted under its ID."""
    world, manager = stub_world(HOURLY)
    manager.runs_on = True
    found = world.store.job(JOB)
    assert found is not None
    waiting = TriggerRecord(JOB, made("cron:v1:3", NOON))
    world.store.commit([CreateTrigger(waiting), put_job(replace(found.value, triggers_wait=True), found, "k")])
    world.tick(3600)
    (invocation,) = world.invocations()
    assert [trigger.id for trigger in invocation.incoming_triggers] == ["cron:v1:3"]
    assert not world.store.pending_triggers(JOB, 10)


@pytest.mark.parametrize("schedule", ["continuously", "with 0s interval"])
@pytest.mark.parametrize("is_idle", [True, False])
def test_the_shortest_intervals_are_paced(schedule: str, is_idle: bool) -> None:
    """Ticks are some seconds apart, even without work; a longer run is followed at once."""
    world, manager = stub_world(HOURLY.replace("0 * * * *", schedule))
    manager.is_idle = is_idle
    for _ in range(10):
        for _ in range(20):
            world.tick()  # the clock stands still
        world.clock.advance(MIN_PAUSE)
    assert 9 <= len(manager.asked) <= 10
    manager.is_idle = False
    manager.on_launch = lambda: world.clock.advance(MINUTE)
    world.tick()
    (tick,) = ticks(world)
    assert tick.eta - world.clock.now() <= 1
