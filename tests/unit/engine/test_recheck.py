"""The job's document requests a triage of pending triggers when a slot is free, so no crash strands a trigger."""

from collections.abc import Callable
from typing import Any

import pytest

from luci_scheduler.adapters import documents
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine import outcome
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import (
    CreateInvocation,
    CreateTrigger,
    GitCommit,
    LogPage,
    PutJob,
    UpdateInvocation,
    UpdateTrigger,
)
from tests.unit.engine.stub import trigger_task
from tests.unit.engine.world import JOB, Crash, World, config


def _deliver(world: World, *names: str, job_id: JobId = JOB) -> None:
    now = world.clock.now()
    triggers = [Trigger(name, now, "webui", order_in_batch=place) for place, name in enumerate(names)]
    world.run_task(trigger_task(job_id, triggers, f"delivery {names[0]}", now), names[0])


def _settle(world: World) -> None:
    for _ in range(10):
        sweep(world.runtime)
        world.tick(60)


def _pending(world: World) -> list[str]:
    return [found.value.trigger.id for found in world.store.pending_triggers(JOB, 100)]


def _before_the_end(world: World, act: Callable[[], None]) -> None:
    """Act after the end of an invocation has queried pending triggers, and before its commit."""
    done = []

    def slip_in(writes: list[Any]) -> None:
        if not done and any(isinstance(w, PutJob) and not w.job.active_invocations for w in writes):
            done.append(True)
            act()

    world.store.before_commit = slip_in


def _with_a_cleared_flag() -> World:
    """Return a world whose job's build is about to end, with the flag set and no pending triggers."""
    world = World()
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.finish()
    world.notify("done 1")
    world.finish()
    return world


def test_a_crash_before_the_recheck_loses_nothing() -> None:
    """The process dies after the commit that frees the slot.

    Its delivery is repeated, and finds the invocation ended.
    """
    world = _with_a_cleared_flag()
    _before_the_end(world, lambda: world.commit("c", "m3"))
    commit = world.store.commit

    def die_behind(writes: Any) -> Any:
        versions = commit(writes)
        if any(isinstance(w, PutJob) and not w.job.active_invocations for w in writes):
            raise Crash
        return versions

    world.store.commit = die_behind  # type: ignore[method-assign]
    with pytest.raises(Crash):
        world.notify("done 2")
    world.store.commit = commit  # type: ignore[method-assign]
    world.notify("done 2")
    assert len(_pending(world)) == 1
    _settle(world)
    assert _pending(world) == []
    assert len(world.buildbucket.builds) == 3


def test_a_recheck_that_fails_is_left_to_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the invocation stays recorded; its delivery need not be repeated."""
    world = _with_a_cleared_flag()
    look, looks = world.store.pending_triggers, []

    def fail_the_second_time(*args: Any) -> Any:
        looks.append(args)
        if len(looks) == 2:
            raise TransientError("Firestore: 503")
        return look(*args)

    monkeypatch.setattr(world.store, "pending_triggers", fail_the_second_time)
    world.notify("done 2")
    assert world.invocations()[0].status is Status.SUCCEEDED
    found = world.store.job(JOB)
    assert found is not None
    assert found.value.next_due == world.clock.now()
    _settle(world)
    found = world.store.job(JOB)
    assert found is not None
    assert found.value.next_due is None


def test_a_recheck_that_finds_nothing_leaves_nothing_due() -> None:
    """It costs a query, a read and a write."""
    world = _with_a_cleared_flag()
    world.store.counts.clear()
    world.notify("done 2")
    assert world.store.counts["c"] == 2
    found = world.store.job(JOB)
    assert found is not None
    assert found.value.next_due is None
    assert not found.value.triggers_wait


def test_an_end_that_only_discards_rechecks() -> None:
    """The pending trigger had expired; a commit that arrived in between relied on the end."""
    world = World(config(policy="triggering_policy { kind: NEWEST_FIRST pending_timeout { seconds: 60 } }"))
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.clock.advance(120 * SECOND)
    world.finish()
    _before_the_end(world, lambda: world.commit("c", "m3"))
    world.notify("done 1")
    assert _pending(world) == []
    assert [invocation.status for invocation in world.invocations()] == [Status.RUNNING, Status.SUCCEEDED]


def test_triggers_after_a_refused_start_are_started() -> None:
    """The store never accepts the first batch: it is discarded, and the next batches have their turn."""
    world = World(config(policy="triggering_policy { max_batch_size: 1 }"))
    _deliver(world, "first")
    _deliver(world, "a", "b", "c")

    def refuse(writes: list[Any]) -> None:
        for write in writes:
            if isinstance(write, CreateInvocation) and write.invocation.incoming_triggers[0].id == "a":
                raise PermanentError("too large")

    world.store.before_commit = refuse
    world.finish()
    world.notify("done 1")
    world.tick(2)
    assert _pending(world) == ["c"]
    assert [trigger.id for trigger in world.invocations()[0].incoming_triggers] == ["b"]


class _Gitiles:
    """A repository with one commit; a callback runs while its refs are listed."""

    def __init__(self) -> None:
        self.meanwhile: list[Callable[[], None]] = []

    def refs(self, *_: Any) -> dict[str, str]:
        while self.meanwhile:
            self.meanwhile.pop()()
        return {"refs/heads/main": "1" * 40}

    def log(self, _repo: Any, revision: str, **_: Any) -> LogPage:
        return LogPage((GitCommit(revision, Instant(1)),))


def test_a_poll_that_lost_a_race_decides_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two polls of one job run at once: the later end is not retried with the state that the other has replaced."""
    gitiles, poller = _Gitiles(), JobId("proj/poller")
    two = 'schedule: "triggered" triggering_policy { max_concurrent_invocations: 2 }'
    world = World(config().replace('schedule: "triggered"', two), gitiles=gitiles)  # type: ignore[arg-type]
    gitiles.meanwhile.append(lambda: _deliver(world, "two", job_id=poller))
    tries, attempt = [], outcome.triage_end

    def counted(*args: Any) -> Any:
        tries.append(args)
        return attempt(*args)

    monkeypatch.setattr(outcome, "triage_end", counted)
    _deliver(world, "one", job_id=poller)
    assert [(item.status, item.attempts) for item in world.invocations(poller)] == [(Status.SUCCEEDED, 1)] * 2
    assert len(tries) <= 4


@pytest.mark.parametrize("policy", ["max_batch_size: 1", "kind: NEWEST_FIRST"])
def test_many_invocations_of_a_large_task_are_spread_over_commits(policy: str) -> None:
    """Each invocation has a copy of the task: together they would exceed the ten MiB of a Firestore commit."""
    large = f'bucket: "ci" properties: "p:{"x" * 60_000}"'
    slots = f"triggering_policy {{ max_concurrent_invocations: 500 {policy} }}"
    world = World(config(policy=slots).replace('bucket: "ci"', large))
    sizes: list[int] = []

    def measure(writes: list[Any]) -> None:
        sizes.append(sum(documents.stored_size(_document(write)) for write in writes))

    world.store.before_commit = measure
    _deliver(world, *(f"t{number}" for number in range(200)))
    _settle(world)
    assert max(sizes) < 10 * 1024 * 1024
    assert _pending(world) == []
    assert len(world.buildbucket.builds) == 200


def _document(write: Any) -> dict[str, Any]:
    match write:
        case CreateInvocation():
            return dict(documents.encode_invocation(write.invocation))
        case UpdateInvocation():
            return dict(documents.encode_invocation_state(write.invocation))
        case PutJob() | CreateTrigger() | UpdateTrigger():
            return dict(documents.encode_write(write)[1])
    return {}
