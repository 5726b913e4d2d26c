"""The design's paths, with exact counts of their reads, writes and commits."""

from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import BuildbucketError
from tests.unit.engine.world import JOB, World


def test_commit_to_running_build_on_an_idle_job() -> None:
    """Two reads, five writes in three commits, one task."""
    world = World()
    world.commit()
    assert world.counted() == "2R/5W/3c"
    assert len(world.queue.tasks) == 1
    assert world.buildbucket.calls == ["ScheduleBuild"]
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.mutations) == (Status.RUNNING, 3)
    assert invocation.pending_timers[0].id.endswith(":2:0")


def test_duplicate_commit() -> None:
    """A duplicate reads at most four documents and writes none."""
    world = World()
    world.commit()
    world.counted()
    world.commit()
    assert world.counted() == "4R/0W/0c"
    world.finish()
    world.notify("n1")
    world.counted()
    world.commit(message="other publish")
    assert world.counted() == "4R/0W/0c"
    assert len(world.buildbucket.builds) == 1


def test_commit_while_the_slot_is_taken() -> None:
    """The first pending commit sets the job's flag; the next ones write only their own document."""
    world = World()
    world.commit("a", "m1")
    world.counted()
    world.commit("b", "m2")
    assert world.counted() == "3R/2W/1c"
    world.commit("c", "m3")
    assert world.counted() == "3R/1W/1c"
    world.commit("c", "m3")
    assert world.counted() == "4R/0W/0c"


def test_status_check() -> None:
    """One read, one write, one task."""
    world = World()
    world.commit()
    world.counted()
    (task,) = world.tick(60)
    assert world.counted() == "1R/1W/1c"
    assert len(world.queue.tasks) == 1
    world.run_task(task)
    assert world.counted() == "1R/0W/0c"


def test_notification_of_a_running_build() -> None:
    """One read, one write; a repetition of the message writes nothing, however late."""
    world = World()
    world.commit()
    world.counted()
    world.notify("n1")
    assert world.counted() == "1R/1W/1c"
    world.tick(60)
    world.counted()
    world.notify("n1")
    assert world.counted() == "1R/0W/0c"


def test_completion_with_nothing_waiting() -> None:
    """Two reads and two writes in one commit; a duplicate reads once."""
    world = World()
    world.commit()
    world.finish()
    world.counted()
    world.notify("n2")
    assert world.counted() == "2R/2W/1c"
    world.notify("n2")
    assert world.counted() == "1R/0W/0c"
    assert world.invocations()[0].status is Status.SUCCEEDED


def test_completion_with_commits_waiting() -> None:
    """K pending commits cost k more reads and k more writes, and one invocation takes them to its running build."""
    for k in (1, 2, 7):
        world = World()
        world.commit("a", "m0")
        for i in range(k):
            world.commit("bcdef0123"[i], f"m{i + 1}")
        world.finish()
        world.counted()
        world.notify("done")
        assert world.counted() == f"{2 + k}R/{5 + k}W/3c"
        newest, oldest = world.invocations()
        assert (newest.status, oldest.status) == (Status.RUNNING, Status.SUCCEEDED)
        assert len(newest.incoming_triggers) == k


def test_launch_that_fails_transiently() -> None:
    """A retry costs one read, two writes and one task, counted from its task."""
    world = World()
    world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "", transient=True)] * 2
    world.commit()
    world.counted()
    world.tick(5)
    assert world.counted() == "1R/2W/2c"
    assert world.invocations()[0].status is Status.RETRYING
    assert [task.kind for task in world.queue.tasks] == ["launch"]


def test_abort_of_a_running_invocation() -> None:
    """Two reads and two writes in one commit; the build is canceled."""
    world = World()
    world.commit()
    (invocation,) = world.invocations()
    world.counted()
    abort_invocation(world.runtime, JOB, invocation.id, "user:a@example.com", "k")
    assert world.counted() == "2R/2W/1c"
    assert world.buildbucket.canceled == ["9000"]
    assert world.invocations()[0].status is Status.ABORTED


def test_abort_while_starting() -> None:
    """One read, one write, one task; the launch keeps its build's ID, cancels it and ends ABORTED."""
    world = World()
    seen: list[str] = []

    def abort() -> None:
        world.counted()
        (invocation,) = world.invocations()
        abort_invocation(world.runtime, JOB, invocation.id, "user:a@example.com", "k")
        seen.append(world.counted())

    world.buildbucket.on_schedule = abort
    world.commit()
    assert seen == ["1R/1W/1c"]
    (invocation,) = world.invocations()
    assert invocation.status is Status.ABORTED
    assert world.buildbucket.canceled == list(world.buildbucket.builds)
    assert "Invocation was manually aborted by user:a@example.com" in world.log()


def test_sweep_with_nothing_due() -> None:
    """Three queries."""
    world = World()
    sweep(world.runtime)
    assert world.counted() == "3R/0W/0c"
