"""A commit that landed although the store reported a conflict: no later step waits for the sweep.

The store's client may try a commit again whose answer was lost; the second try then conflicts with the first.
"""

from typing import Any

import pytest

from luci_scheduler.core.errors import StoreConflictError
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.jobs import pause_job, resume_job
from luci_scheduler.ports import CreateInvocation, PutJob
from tests.unit.engine.stub import trigger_task
from tests.unit.engine.world import HOST, JOB, World

NIGHTLY = f'job {{ id: "job" schedule: "0 * * * *" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }} }}'


def _conflict_after_landing(world: World, kind: type) -> list[bool]:
    """Make the store report the first commit with a write of a kind as a conflict, after it landed."""
    commit, done = world.store.commit, []

    def contended(writes: Any) -> Any:
        versions = commit(writes)
        if not done and any(isinstance(write, kind) for write in writes):
            done.append(True)
            raise StoreConflictError("the commit landed; this is the answer to the client's second try")
        return versions

    world.store.commit = contended  # type: ignore[method-assign]
    return done


def _commit(world: World) -> None:
    world.commit("a", "m1")


def _tick(world: World) -> None:
    world.tick(3600)


def _trigger(world: World) -> None:
    now = world.clock.now()
    world.run_task(trigger_task(JOB, [Trigger("t1", now, "webui")], "delivery", now), "t1")


@pytest.mark.parametrize(("text", "act"), [(None, _commit), (NIGHTLY, _tick), (None, _trigger)])
def test_a_new_invocation_is_launched_at_once(text: str | None, act: Any) -> None:
    """The delivery that created the invocation also launches it, and the trigger starts one invocation."""
    world = World(text)
    done = _conflict_after_landing(world, CreateInvocation)
    act(world)
    assert done
    assert [invocation.status for invocation in world.invocations()] == [Status.RUNNING]
    assert len(world.buildbucket.builds) == 1


def _requests_a_triage(world: World) -> bool:
    with world.uncounted():
        found = world.store.job(JOB)
    assert found is not None
    return found.value.triage_due is not None


def _with_a_pending_end() -> World:
    """Return a world whose job has read pending triggers; the next end of a build is followed by a recheck."""
    world = World()
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.finish()
    world.tick(60)
    world.finish()
    return world


@pytest.mark.parametrize("has_landed", [True, False])
@pytest.mark.parametrize("place", [0, 1])
def test_a_request_for_a_triage_is_met_by_a_task(place: int, has_landed: bool) -> None:
    """The end of an invocation, or the recheck after it, reads as a conflict: a task replaces the recheck."""
    world = _with_a_pending_end()
    commit, seen = world.store.commit, []

    def contended(writes: Any) -> Any:
        if any(isinstance(write, PutJob) for write in writes):
            seen.append(True)
            if len(seen) == place + 1:
                if has_landed:
                    commit(writes)
                raise StoreConflictError("Firestore: Too much contention on these documents")
        return commit(writes)

    world.store.commit = contended  # type: ignore[method-assign]
    world.tick(60)
    assert len(seen) > place
    world.tick(3)  # the queue runs one triage of a job in two seconds
    assert not _requests_a_triage(world)
    assert {invocation.status for invocation in world.invocations()} == {Status.SUCCEEDED}


@pytest.mark.parametrize("is_paused_before", [False, True])
def test_a_changed_job_is_triaged_at_once(*, is_paused_before: bool) -> None:
    """The call that pauses or resumes a job learns of its own commit, and enqueues the triage of pending triggers."""
    world = World()
    world.commit("a", "m1")
    if is_paused_before:
        assert pause_job(world.runtime, JOB, "user:a@example.com", "why", "first")
    else:
        world.commit("b", "m2")
    done = _conflict_after_landing(world, PutJob)
    change = resume_job if is_paused_before else pause_job
    assert change(world.runtime, JOB, "user:a@example.com", "why", "second"), "this call changed it"
    assert done
    assert not change(world.runtime, JOB, "user:a@example.com", "why", "third"), "another call changes nothing"
    world.tick(3)  # the queue runs one triage of a job in two seconds
    assert not _requests_a_triage(world)
