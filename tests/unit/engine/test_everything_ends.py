"""Each state that is not final, with each dependency silent for thirty days. Each ends within its documented time.

``pytest -s`` prints when each pair ended. docs/operations/stuck-invocations.md has the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest

from emulator.memory.gitiles import AnyCommit
from luci_scheduler.core.errors import SchedulerError, TransientError
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import DAY, HOUR, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import BuildbucketError, GitilesError, LogPage, PutJob, QueueTask
from tests.unit.engine.buildbucket_model import Model
from tests.unit.engine.stub import made
from tests.unit.engine.world import HOST, JOB, Crash, World, config

pytestmark = pytest.mark.usefixtures("no_log")

POLLER, TICKING = JobId("proj/poller"), JobId("proj/ticking")
BUILD_TAKES = 30 * MINUTE
TEXT = config() + (
    f'job {{ id: "ticking" schedule: "0 * * * *" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "ticking" }} }}'
)


@dataclass
class Outside:
    """The services that the scheduler depends on; each can fall silent."""

    world: World
    model: Model
    silent: set[str] = field(default_factory=set)
    sweeps: int = 0
    head: str = "1" * 40

    def before_call(self, _method: str) -> None:
        """Withhold the answer for a minute if Buildbucket is silent; builds end after half an hour."""
        if "Buildbucket" in self.silent:
            self.world.clock.advance(MINUTE)
            raise BuildbucketError("DEADLINE_EXCEEDED", "no answer", transient=True)
        for build in self.model.builds.values():
            if self.world.clock.now() - build.created >= BUILD_TAKES:
                build.status = "CANCELED" if build.id in self.model.canceled else "SUCCESS"

    def enqueue(self, enqueue: Callable[[QueueTask], None], task: QueueTask) -> None:
        """Refuse after ten seconds if the queue is silent."""
        if "queue" in self.silent:
            self.world.clock.advance(10 * SECOND)
            raise TransientError("the queue does not answer")
        enqueue(task)

    def log(self, *args: Any, **kwargs: Any) -> LogPage:
        """Answer unless Gitiles is silent. It still lists refs: a poll that cannot list them fails at once."""
        if "Gitiles" in self.silent:
            self.world.clock.advance(MINUTE)
            raise GitilesError("DEADLINE_EXCEEDED", "no answer", transient=True)
        return AnyCommit().log(*args, **kwargs)

    def minute(self) -> None:
        """Let a minute pass: the queue delivers the due tasks, and Cloud Scheduler calls the sweep."""
        world = self.world
        world.clock.advance(MINUTE)
        if "deliveries" not in self.silent:
            for task in world.queue.take_due(world.clock.now()):
                self._deliver(task)
        self.sweeps += 1
        self._deliver(QueueTask("sweep", {"created": world.clock.now()}, world.clock.now()), is_again=False)

    def _deliver(self, task: QueueTask, *, is_again: bool = True) -> None:
        world = self.world
        try:
            world.run_task(task, f"{self.sweeps}")
        except SchedulerError:
            if is_again:
                later = Instant(world.clock.now() + 10 * MINUTE)
                world.queue._tasks.append(replace(task, eta=later))  # the queue's own: it needs no enqueueing


def _outside() -> Outside:
    gitiles = AnyCommit()
    world = World(TEXT, gitiles=gitiles)
    outside = Outside(world, Model(world.clock))
    gitiles.refs = lambda *_: {"refs/heads/main": outside.head}  # type: ignore[method-assign]
    gitiles.log = outside.log  # type: ignore[method-assign]
    outside.model.before = outside.before_call
    world.buildbucket.v2 = outside.model.v2  # type: ignore[method-assign]
    world.queue.enqueue = partial(outside.enqueue, world.queue.enqueue)  # type: ignore[method-assign]
    return outside


def _invocation_is_final(job_id: JobId, outside: Outside) -> bool:
    return bool(found := outside.world.invocations(job_id)) and found[0].status.is_final


def _job(outside: Outside, job_id: JobId = JOB) -> Any:
    with outside.world.uncounted():
        found = outside.world.store.job(job_id)
    assert found is not None
    return found


def _starting(outside: Outside, job_id: JobId = JOB) -> None:
    """An invocation was created; its claim and its task were lost."""
    world = outside.world
    fail = iter([False, True])

    def once(_: Any) -> None:
        if next(fail, False):
            raise TransientError("the store is down")

    world.store.before_commit = once
    accept_triggers(world.runtime, job_id, [Trigger("t", world.clock.now(), "webui")], "k")
    world.store.before_commit = None
    world.queue.purge()


def _claimed(outside: Outside) -> None:
    """The process died after its request for a build."""

    def die(method: str, answer: dict[str, Any]) -> dict[str, Any]:
        raise Crash

    outside.model.after = die
    with pytest.raises(Crash):
        outside.world.commit()
    outside.model.after = lambda _, answer: answer


def _retrying(outside: Outside) -> None:
    def lose(method: str, answer: dict[str, Any]) -> dict[str, Any]:
        raise BuildbucketError("UNAVAILABLE", "lost", transient=True)

    outside.model.after = lose
    outside.world.commit()
    outside.model.after = lambda _, answer: answer


def _running(outside: Outside) -> None:
    outside.world.commit()


def _known(outside: Outside) -> None:
    """A poll has seen the repository, and a commit has landed since."""
    accept_triggers(outside.world.runtime, POLLER, [made("first")], "first")
    assert outside.world.invocations(POLLER)[0].status is Status.SUCCEEDED
    outside.head = "2" * 40
    outside.world.clock.advance(SECOND)


def _poll_starting(outside: Outside) -> None:
    _known(outside)
    _starting(outside, POLLER)


def _poll_retrying(outside: Outside) -> None:
    _known(outside)
    outside.silent.add("Gitiles")
    accept_triggers(outside.world.runtime, POLLER, [made("p")], "k")
    outside.silent.discard("Gitiles")
    assert outside.world.invocations(POLLER)[0].status is Status.RETRYING


def _aborted(reach: Callable[[Outside], None], outside: Outside) -> None:
    """The abort was requested and recorded while Buildbucket did not answer."""
    reach(outside)
    world = outside.world
    (invocation,) = world.invocations()
    outside.silent.add("Buildbucket")
    abort_invocation(world.runtime, JOB, invocation.id, "user:a@example.com", "k")
    outside.silent.discard("Buildbucket")
    assert world.invocations()[0].abort_requested_by


def _waiting(outside: Outside) -> None:
    """A trigger waits for the end of an invocation."""
    outside.world.commit("a", "m1")
    outside.world.commit("b", "m2")
    assert _job(outside).value.triggers_wait


def _triage_due(outside: Outside) -> None:
    """The job's document has a due triage whose task was lost."""
    found = _job(outside)
    due = replace(found.value, triage_due=outside.world.clock.now())
    outside.world.store.commit([PutJob(due, found.version)])


def _tick(_: Outside) -> None:
    """A job awaits its next tick."""


def _nothing_waits(outside: Outside) -> bool:
    with outside.world.uncounted():
        return not outside.world.store.pending_triggers(JOB, 10)


STATES: dict[str, tuple[Callable[[Outside], None], Callable[[Outside], bool]]] = {
    "STARTING": (_starting, partial(_invocation_is_final, JOB)),
    "STARTING, claimed": (_claimed, partial(_invocation_is_final, JOB)),
    "RETRYING": (_retrying, partial(_invocation_is_final, JOB)),
    "RUNNING": (_running, partial(_invocation_is_final, JOB)),
    "STARTING, abort": (partial(_aborted, _starting), partial(_invocation_is_final, JOB)),
    "STARTING, claimed, abort": (partial(_aborted, _claimed), partial(_invocation_is_final, JOB)),
    "RETRYING, abort": (partial(_aborted, _retrying), partial(_invocation_is_final, JOB)),
    "RUNNING, abort": (partial(_aborted, _running), partial(_invocation_is_final, JOB)),
    "poll STARTING": (_poll_starting, partial(_invocation_is_final, POLLER)),
    "poll RETRYING": (_poll_retrying, partial(_invocation_is_final, POLLER)),
    "job: trigger waits": (_waiting, _nothing_waits),
    "job: triage due": (_triage_due, lambda outside: _job(outside).value.triage_due is None),
    "job: tick awaited": (_tick, lambda outside: bool(outside.world.invocations(TICKING))),
}

SWEEPS = 10 * MINUTE
"""The end of a claim, the grace of the sweep, and the sweep itself."""


def _bound(dependency: str, state: str) -> int:
    """Return the documented time within which a state ends while one service is silent."""
    match dependency, state:
        case "Buildbucket", "RUNNING" | "job: trigger waits":
            return 6 * DAY + HOUR
        case "Buildbucket", _ if state.endswith("abort"):
            return 30 * MINUTE
        case ("Buildbucket", "STARTING" | "STARTING, claimed" | "RETRYING") | (
            "Gitiles",
            "poll STARTING" | "poll RETRYING",
        ):
            return 12 * HOUR
        case "deliveries", _:
            return 4 * HOUR
    return _without_trouble(state) + SWEEPS


def _without_trouble(state: str) -> int:
    """Return how long a state lasts if every service answers: until the next tick, or the end of a build."""
    if state == "job: tick awaited":
        return HOUR
    needs_a_build = not (state.endswith("abort") or state.startswith("poll") or state == "job: triage due")
    return BUILD_TAKES if needs_a_build else 0


@pytest.mark.parametrize("dependency", ["nothing", "notifications", "Buildbucket", "Gitiles", "queue", "deliveries"])
def test_everything_ends(dependency: str) -> None:
    """It ends within its documented time; notifications are lost in every case."""
    late = []
    for state, (reach, is_over) in STATES.items():
        outside = _outside()
        reach(outside)
        outside.silent.add(dependency)
        begun, now = outside.world.clock.now(), outside.world.clock.now
        while not is_over(outside) and now() - begun < 30 * DAY:
            outside.minute()
        took, bound = now() - begun, _bound(dependency, state)
        shown = format_duration(took) if is_over(outside) else "NEVER"
        print(f"{dependency} silent | {state:25} | ended after {shown:12} | bound {format_duration(bound)}")  # noqa: T201
        if took > bound:
            late.append((state, shown))
    assert late == []


@pytest.mark.parametrize("state", [state for state in STATES if "abort" in state or state == "RETRYING"])
def test_a_build_left_running_is_canceled_when_buildbucket_answers_again(state: str) -> None:
    """A day of silence ends the invocation without its build.

    Soon afterwards none of its builds is alive, and nothing is due.
    """
    outside = _outside()
    STATES[state][0](outside)
    outside.silent.add("Buildbucket")
    begun = outside.world.clock.now()
    while outside.world.clock.now() - begun < DAY:
        outside.minute()
    (invocation,) = outside.world.invocations()
    assert invocation.status is (Status.ABORTED if "abort" in state else Status.FAILED)
    assert invocation.abort_requested_by or state == "RETRYING"
    ours = [build for build in outside.model.builds.values() if build.request["builder"]["builder"] == "job"]
    outside.silent.clear()
    for build in ours:
        build.created = outside.world.clock.now()  # no build has ended yet
    for _ in range(70):
        outside.minute()
    (invocation,) = outside.world.invocations()
    assert set(outside.model.live).isdisjoint(build.id for build in ours)
    assert invocation.cleanup is None
    assert invocation.next_due is None
    assert not ours or "no unwatched build of this invocation is left running" in outside.world.log()
