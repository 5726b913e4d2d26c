"""The order of the outbox: a task is on the queue before the commit that makes it due.

The tests drive every path of the engine that records something due. An observer sees each task that is enqueued and
each commit. For each commit it works out the tasks that the written documents rely on, and checks that the queue had
them before. It leaves out tasks of triages: such a task follows its commit, because the queue takes its name only
once. Deferred tasks are the exception: their document comes first, because the task only names it. The observer also
checks that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from emulator.memory.topic import MemoryTopic
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.deferral import defer, trigger_work
from luci_scheduler.engine.jobs import pause_job, resume_job
from luci_scheduler.engine.outbox import deferred_task
from luci_scheduler.ports import PutJob, QueueTask, UpdateInvocation
from tests.unit.engine.ends import DOWN, WHO, abort, check, notify
from tests.unit.engine.stub import NOOP, made, stub_world
from tests.unit.engine.world import HOST, JOB, World, config

INTERVAL = f'job {{ id: "job" schedule: "with 10m interval" {NOOP} }}'
BUILD = f'buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }}'
TARGET = f'job {{ id: "target" {BUILD} }}'
EMITTER = f'trigger {{ id: "job" schedule: "with 10m interval" {NOOP} triggers: "target" }} {TARGET}'
POLLED = config().replace('schedule: "triggered" gitiles', 'schedule: "with 30s interval" gitiles')

Wanted = tuple[str, dict[str, Any]]
"""A kind of task, and the members of its payload that name the thing it is for."""


class Observer:
    """Sees a world's tasks and commits in their order."""

    def __init__(self, world: World) -> None:
        self.too_early: list[Wanted] = []
        """Tasks enqueued after the commit that relies on them, and deferred tasks enqueued before their documents."""
        self.in_order: Counter[str] = Counter()
        """Kinds of tasks that were enqueued in the right order."""
        self._world = world
        self._tasks: list[QueueTask] = []
        self._enqueue, self._commit = world.queue.enqueue, world.store.commit
        world.queue.enqueue = self.enqueue  # type: ignore[method-assign]
        world.store.commit = self.commit  # type: ignore[method-assign]

    def enqueue(self, task: QueueTask) -> None:
        """Note a task; a deferred task must find its document."""
        self._tasks.append(task)
        if task.kind == "deferred":
            found = self._world.store.deferred(task.payload["deferred"])
            if found is not None and found.value.tries == task.payload["tries"]:
                self.in_order["deferred"] += 1
            else:
                self.too_early.append(("deferred", dict(task.payload)))
        self._enqueue(task)

    def commit(self, writes: Any) -> Any:
        """Check a commit, and make it."""
        wanted = [item for write in writes for item in self._relied_on(write)]
        judged = [(self._is_on_the_queue(*item), item) for item in wanted]
        versions = self._commit(writes)
        for is_in_order, (kind, members) in judged:
            if is_in_order:
                self.in_order[kind] += 1
            else:
                self.too_early.append((kind, members))
        return versions

    def _is_on_the_queue(self, kind: str, members: dict[str, Any]) -> bool:
        return any(task.kind == kind and members.items() <= task.payload.items() for task in self._tasks)

    def _relied_on(self, write: Any) -> Iterator[Wanted]:
        if isinstance(write, UpdateInvocation):
            found = self._world.store.invocation(write.invocation.job_id, write.invocation.id)
            assert found is not None
            yield from _of_invocation(found.value, write.invocation)
        elif isinstance(write, PutJob):
            job = self._world.store.job(write.job.id)
            yield from _of_job(job.value if job else None, write.job)


def _of_invocation(before: Invocation, after: Invocation) -> Iterator[Wanted]:
    about = {"job": after.job_id, "invocation": str(after.id)}
    for timer_id in {timer.id for timer in after.pending_timers} - {timer.id for timer in before.pending_timers}:
        yield "timer", {**about, "timer": timer_id}
    if after.status.is_initial and before.claim_until is not None and after.claim_until is None:
        yield "launch", {**about, "attempts": after.attempts}
    if after.abort_requested_by and not before.abort_requested_by and not after.status.is_final:
        yield "abort", about
    if after.cleanup is not None and after.cleanup != before.cleanup:
        yield "cleanup", {**about, "attempts": after.cleanup.attempts}
    if after.has_undispatched and after.outgoing_triggers != before.outgoing_triggers:
        yield "dispatch", {**about, "mutation": after.mutations}


def _of_job(before: Job | None, after: Job) -> Iterator[Wanted]:
    nonce = after.cron.last_tick_nonce
    if after.tick_at is not None and (before is None or before.cron.last_tick_nonce != nonce):
        yield "cron", {"job": after.id, "nonce": str(nonce), "generation": after.cron.generation}


def _launch() -> Observer:
    world = World()
    observer = Observer(world)
    world.commit()
    return observer


def _refused_launch() -> Observer:
    world = World()
    world.buildbucket.faults = [DOWN] * 2
    observer = Observer(world)
    world.commit()
    world.tick(10)
    return observer


def _status_check() -> Observer:
    world = World()
    world.commit()
    observer = Observer(world)
    world.tick(60)
    return observer


def _abort_during_a_launch() -> Observer:
    world = World()
    observer = Observer(world)
    world.buildbucket.on_schedule = lambda: abort_invocation(world.runtime, JOB, world.invocations()[0].id, WHO, "k")
    world.commit()
    assert world.invocations()[0].status.is_final
    return observer


def _abort_during_an_outage() -> Observer:
    world = World()
    world.commit()
    world.buildbucket.faults = [DOWN]
    observer = Observer(world)
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, WHO, "k")
    assert not world.invocations()[0].status.is_final
    return observer


def _end_with_a_successor(end: Callable[[World], None]) -> Observer:
    world = World()
    world.commit("a", "m1")
    world.commit("b", "m2")
    observer = Observer(world)
    end(world)
    return observer


def _cron_tick() -> Observer:
    world, _ = stub_world(f'job {{ id: "job" schedule: "0 * * * *" {BUILD} }}')
    observer = Observer(world)
    world.tick(3600)
    return observer


def _end_of_an_interval() -> Observer:
    world, manager = stub_world(INTERVAL)
    manager.is_idle = True
    observer = Observer(world)
    world.tick(600)
    return observer


def _end_of_an_interval_job() -> Observer:
    world, _ = stub_world(INTERVAL)
    observer = Observer(world)
    world.tick(600)
    assert len(world.invocations()) == 1
    return observer


def _triage_that_starts_nothing() -> Observer:
    policy = 'schedule: "with 30s interval" triggering_policy { kind: NEWEST_FIRST pending_timeout { nanos: 1 } }'
    world = World(config(policy=policy))
    read = world.clock.now

    def now() -> Instant:
        world.clock.advance(1000)  # the tick's trigger is too old as soon as it is made
        return read()

    world.clock.now = now  # type: ignore[method-assign]
    observer = Observer(world)
    world.tick(31)
    assert world.invocations() == []
    return observer


def _config() -> Observer:
    world, _ = stub_world("")
    observer = Observer(world)
    world.sync(INTERVAL)
    return observer


def _changed_schedule() -> Observer:
    world, _ = stub_world(INTERVAL)
    observer = Observer(world)
    world.sync(INTERVAL.replace("10m", "5m"))
    return observer


def _resume() -> Observer:
    world, _ = stub_world(INTERVAL)
    pause_job(world.runtime, JOB, WHO, "", "k1")
    observer = Observer(world)
    resume_job(world.runtime, JOB, WHO, "", "k2")
    return observer


def _emission() -> Observer:
    world, manager = stub_world(EMITTER)
    manager.emits = [made("t1"), made("t2")]
    observer = Observer(world)
    world.tick(600)
    world.tick()
    assert len(world.invocations(JobId("proj/target"))) == 1
    return observer


def _poll() -> Observer:
    git = MemoryGitiles()
    git.push("refs/heads/main")
    world = World(POLLED, git)
    world.tick(31)
    git.push("refs/heads/main")
    observer = Observer(world)
    world.tick(31)
    world.tick()
    assert len(world.invocations()) == 1
    return observer


def _abort_before_the_build_is_known() -> Observer:
    world = World()
    world.buildbucket.lose_reply = True
    world.commit()
    observer = Observer(world)
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, WHO, "k")
    world.buildbucket.faults = [DOWN] * 2
    world.tick()
    world.tick(10)
    assert (cleanup := world.invocations()[0].cleanup) is not None
    assert cleanup.attempts == 1
    return observer


def _deferred_work() -> Observer:
    world = World()
    observer = Observer(world)
    now = world.clock.now()
    defer(world.runtime, trigger_work(JOB, [made("t1")], "d", now, now))
    world.tick()
    assert len(world.invocations()) == 1
    return observer


def _announcements() -> Observer:
    world = World(topic=MemoryTopic())
    observer = Observer(world)
    world.commit()
    notify(world)
    assert len(world.works()) == 2
    return observer


def _waiting_commit() -> Observer:
    git = MemoryGitiles()
    git.push("refs/heads/main")
    world = World(gitiles=git)
    observer = Observer(world)
    world.commit()
    world.tick(10)
    assert [work.tries for work in world.works()] == [1]
    return observer


PATHS: dict[str, tuple[Callable[[], Observer], set[str]]] = {
    "a launch": (_launch, {"timer"}),
    "a launch that is refused for now": (_refused_launch, {"launch"}),
    "a status check": (_status_check, {"timer"}),
    "an abort during a launch": (_abort_during_a_launch, {"abort"}),
    "an abort during an outage": (_abort_during_an_outage, {"abort"}),
    "a notification of the end": (lambda: _end_with_a_successor(notify), {"timer"}),
    "a status check that finds the end": (lambda: _end_with_a_successor(check), {"timer"}),
    "an abort of a running invocation": (lambda: _end_with_a_successor(abort), {"timer"}),
    "a cron tick": (_cron_tick, {"cron", "timer"}),
    "a tick that finds nothing to do": (_end_of_an_interval, {"cron"}),
    "the end of an invocation of a job with an interval": (_end_of_an_interval_job, {"cron"}),
    "a triage that starts nothing": (_triage_that_starts_nothing, {"cron"}),
    "a config with a new schedule": (_config, {"cron"}),
    "a config with a changed schedule": (_changed_schedule, {"cron"}),
    "a resumption": (_resume, {"cron"}),
    "an emission of triggers": (_emission, {"dispatch", "cron", "timer"}),
    "a poll that finds a commit": (_poll, {"dispatch", "cron", "timer"}),
    "an abort of a build that is not found": (_abort_before_the_build_is_known, {"abort", "cleanup"}),
    "a trigger that is deferred": (_deferred_work, {"deferred", "timer"}),
    "a start and an end that are announced": (_announcements, {"deferred", "timer"}),
    "a commit that waits": (_waiting_commit, {"deferred"}),
}
"""A path of the engine, and the kinds of tasks that its commits rely on."""


@pytest.mark.parametrize("path", PATHS)
def test_a_task_is_enqueued_before_the_commit_that_relies_on_it(path: str) -> None:
    """A crash between the steps leaves a task without a document, and never a document without a task."""
    run, kinds = PATHS[path]
    observer = run()
    assert observer.too_early == []
    assert kinds <= set(observer.in_order)


def test_the_observer_reports_a_task_that_is_too_late() -> None:
    """The control of the test above: it reports a queue that accepts a timer only after its commit."""
    world = World()
    late: list[QueueTask] = []
    observer = Observer(world)
    enqueue = world.queue.enqueue
    world.queue.enqueue = late.append  # type: ignore[method-assign]
    world.commit()
    for task in late:
        enqueue(task)
    assert [kind for kind, _ in observer.too_early] == ["timer"]


def test_the_observer_reports_a_deferred_task_that_is_too_early() -> None:
    """The control for deferred tasks: it reports a task whose document is not written yet."""
    world = World()
    observer = Observer(world)
    now = world.clock.now()
    world.queue.enqueue(deferred_task(trigger_work(JOB, [made("t1")], "d", now, now), now))
    assert [kind for kind, _ in observer.too_early] == ["deferred"]
