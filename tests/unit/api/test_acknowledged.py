"""Acknowledged work does not depend on the queue: the queue loses everything, and the sweep completes the work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.commit import on_commit, on_commits
from luci_scheduler.engine.dispatch import on_dispatch
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import CreateTrigger
from tests.unit.api.support import OWNER, Client, world_for
from tests.unit.engine.stub import made, stub_world
from tests.unit.engine.world import JOB, REPO, Crash, World, config

MAIN = "refs/heads/main"
OTHER = JobId("proj/other")
JOB_REF, OTHER_REF = ({"project": "proj", "job": name} for name in ("job", "other"))
OPERATOR = "scheduler.Operator"


def _hiccup(world: World, job_id: JobId) -> None:
    """Let the next commit that would give a job a trigger fail."""
    commit, left = world.store.commit, [1]

    def once(writes: Any) -> Any:
        if left[0] and any(isinstance(write, CreateTrigger) and write.record.job_id == job_id for write in writes):
            left[0] = 0
            raise TransientError("the store hiccups")
        return commit(writes)

    world.store.commit = once  # type: ignore[method-assign]


def _one_job_fails(world: World, _: MemoryGitiles, hashes: list[str]) -> dict[JobId, int]:
    _hiccup(world, OTHER)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, hashes[-1]), world.clock.now(), "commit-m1")
    return {JOB: 1, OTHER: 1}


def _not_served_yet(world: World, git: MemoryGitiles, hashes: list[str]) -> dict[JobId, int]:
    head = git.heads.pop(MAIN)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, hashes[-1]), world.clock.now(), "commit-m1")
    git.heads[MAIN] = head
    return {JOB: 1, OTHER: 1}


def _many_refs(world: World, _: MemoryGitiles, hashes: list[str]) -> dict[JobId, int]:
    events = [CommitEvent(REPO, MAIN, revision) for revision in hashes]
    on_commits(world.runtime, events, world.clock.now(), "commit-m1")
    return {JOB: len(hashes), OTHER: len(hashes)}


def _emit(world: World, _: MemoryGitiles, hashes: list[str]) -> dict[JobId, int]:
    commit = {"repo": REPO, "ref": MAIN, "revision": hashes[-1]}
    batches = [
        {"trigger": {"id": "n", "noop": {}}, "jobs": [JOB_REF, OTHER_REF]},
        {"trigger": {"id": "c", "gitiles": commit}, "jobs": [JOB_REF]},
    ]
    Client(world).call("EmitTriggers", {"batches": batches})
    return {JOB: 2, OTHER: 1}


def _trigger(world: World, _: MemoryGitiles, __: list[str]) -> dict[JobId, int]:
    Client(world).call("TriggerJob", {"jobRef": JOB_REF, "requestId": "r"}, OWNER, OPERATOR)
    return {JOB: 1}


def _rerun(world: World, _: MemoryGitiles, hashes: list[str]) -> dict[JobId, int]:
    on_commit(world.runtime, CommitEvent(REPO, MAIN, hashes[-1]), world.clock.now(), "commit-m1")
    ref = {"jobRef": JOB_REF, "invocationId": str(world.invocations()[0].id)}
    Client(world).call("RerunInvocation", {"invocationRef": ref, "requestId": "r"}, OWNER, OPERATOR)
    return {JOB: 2, OTHER: 1}


def _backfill(world: World, _: MemoryGitiles, hashes: list[str]) -> dict[JobId, int]:
    request = {"repo": REPO, "ref": MAIN, "fromRevision": hashes[0], "toRevision": hashes[-1], "requestId": "r"}
    Client(world).call("BackfillCommits", {**request, "jobs": [JOB_REF, OTHER_REF]}, OWNER, OPERATOR)
    return {JOB: len(hashes) - 1, OTHER: len(hashes) - 1}


PATHS: dict[str, Callable[[World, MemoryGitiles, list[str]], dict[JobId, int]]] = {
    "a commit, one of whose jobs fails": _one_job_fails,
    "a commit that is not served yet": _not_served_yet,
    "a message with many refs": _many_refs,
    "emitted triggers": _emit,
    "the button that triggers a job": _trigger,
    "a rerun": _rerun,
    "a backfill": _backfill,
}
"""Path → a function that makes an acknowledged request and returns the number of triggers that each job must get."""


def _world() -> tuple[World, MemoryGitiles, list[str]]:
    git = MemoryGitiles()
    hashes = git.push(MAIN, 20)
    return world_for(config(("job", "other"), "triggering_policy { max_concurrent_invocations: 99 }"), git), git, hashes


def _sweep_for(world: World, minutes: int, *, doubled: bool = False) -> None:
    """Sweep each minute and run the due tasks; ``doubled`` delivers each task twice."""
    for _ in range(minutes):
        world.clock.advance(60 * SECOND)
        sweep(world.runtime)
        for task in world.tick():
            if doubled:
                with contextlib.suppress(TransientError):
                    world.run_task(task, "again")


def _reached(world: World, job_id: JobId) -> list[str]:
    taken = [trigger.id for item in world.invocations(job_id) for trigger in item.incoming_triggers]
    return taken + [found.value.trigger.id for found in world.store.pending_triggers(job_id, 1000)]


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_acknowledged_work_survives_a_purged_queue(path: str, doubled: bool) -> None:
    """Each trigger reaches its job once, regardless of how often its tasks are delivered."""
    world, git, hashes = _world()
    expected = PATHS[path](world, git, hashes)
    assert world.works() != []
    world.queue.purge()
    _sweep_for(world, 15, doubled=doubled)
    for job_id, count in expected.items():
        found = _reached(world, job_id)
        assert (len(found), len(set(found))) == (count, count)
    assert world.works() == []


@pytest.mark.parametrize("path", PATHS)
def test_a_crash_between_document_and_task_loses_nothing(path: str) -> None:
    """The caller gets no answer and repeats the request; even without that, the documents complete the work."""
    for is_repeated in (False, True):
        world, git, hashes = _world()
        enqueue = world.queue.enqueue

        def die(task: Any, enqueue: Callable[[Any], None] = enqueue) -> None:
            if task.kind == "deferred":
                raise Crash
            enqueue(task)

        world.queue.enqueue = die  # type: ignore[method-assign]
        with contextlib.suppress(Crash):
            PATHS[path](world, git, hashes)
        git.heads[MAIN] = hashes[-1]
        world.queue.enqueue = enqueue  # type: ignore[method-assign]
        recorded = len(world.works())
        assert recorded >= 1
        if is_repeated and path != "a rerun":
            expected = PATHS[path](world, git, hashes)
        _sweep_for(world, 15)
        assert world.works() == []
        assert sum(len(_reached(world, job_id)) for job_id in (JOB, OTHER)) >= recorded
        for job_id in (JOB, OTHER):
            found = _reached(world, job_id)
            assert len(found) == len(set(found))
            if is_repeated and path != "a rerun":
                assert len(found) == expected.get(job_id, 0)


@pytest.mark.parametrize("method", ["AbortInvocation", "AbortJob"])
def test_an_abort_survives_a_purged_queue(method: str) -> None:
    """The work is recorded before it is acknowledged."""
    world, _, hashes = _world()
    on_commit(world.runtime, CommitEvent(REPO, MAIN, hashes[-1]), world.clock.now(), "commit-m1")
    (invocation,) = world.invocations()
    ref = {"jobRef": JOB_REF, "invocationId": str(invocation.id)} if method == "AbortInvocation" else JOB_REF
    Client(world).call(method, ref)
    world.queue.purge()
    _sweep_for(world, 5, doubled=True)
    (invocation,) = world.invocations()
    assert (invocation.status, invocation.abort_requested_by) == (Status.ABORTED, f"user:{OWNER}")
    assert world.works() == []


def test_a_dispatch_survives_a_purged_queue() -> None:
    """The invocation that emitted the triggers is the outbox: it has work until every job has its triggers."""
    noop = "noop { sleep_ms: 1 }"
    text = f'job {{ id: "from" {noop} }} job {{ id: "job" {noop} }} job {{ id: "other" {noop} }}'
    world, _ = stub_world(f'{text} trigger {{ id: "t" {noop} triggers: "job" triggers: "other" }}')
    manager = world.runtime.managers["noop"]
    manager.emits = [made("emitted")]  # type: ignore[attr-defined]
    accept_triggers(world.runtime, JobId("proj/t"), [made("start")], "k")
    manager.emits = []  # type: ignore[attr-defined]
    (emitter,) = world.invocations(JobId("proj/t"))
    assert emitter.has_undispatched
    _hiccup(world, OTHER)
    on_dispatch(world.runtime, JobId("proj/t"), emitter.id, 0, world.clock.now(), "k2")
    assert [task.kind for task in world.queue.tasks].count("dispatch-to") == 1
    world.queue.purge()
    _sweep_for(world, 5, doubled=True)
    assert [_reached(world, job_id) for job_id in (JOB, OTHER)] == [["emitted"], ["emitted"]]
