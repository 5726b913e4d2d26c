"""Triggers that are large, numerous or badly timed: no job is blocked, and none runs twice or is forgotten."""

import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.adapters import documents
from luci_scheduler.config import task_rules
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.discards import too_many
from luci_scheduler.core.errors import ComeAgainError, PermanentError, TransientError
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.job import MAX_PENDING
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.commit import on_commit, on_commits
from luci_scheduler.engine.jobs import pause_job
from luci_scheduler.engine.outbox import abort_task
from luci_scheduler.engine.tasks import on_task
from luci_scheduler.engine.triage import PENDING_READ
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import CreateInvocation, UpdateInvocation, UpdateTrigger
from tests.unit.engine.stub import trigger_task
from tests.unit.engine.world import JOB, REPO, World, config


def _noop(identifier: str, created: int, size: int = 0) -> Trigger:
    return Trigger(identifier, Instant(created), "noop", {"data": "x" * size})


def _bring(world: World, triggers: list[Trigger], key: str = "api-1") -> None:
    accept_triggers(world.runtime, JOB, triggers, key)


def _task_of(size: int) -> str:
    """Return a config whose task has a property of the given size in bytes."""
    return config().replace('builder: "job" }', f'builder: "job" properties: "p:{"x" * size}" }}')


def _large_task(size: int, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world with a task above the current limit, as an older config may have activated it."""
    monkeypatch.setattr(task_rules, "MAX_TASK_BYTES", 1_000_000)
    world = World(_task_of(size))
    with world.uncounted():
        project = world.store.project("proj")
    assert project is not None
    assert project.value.problems == ()
    return world


def _waiting(world: World, count: int, size: int) -> None:
    """Add pending triggers whose properties have the given size in bytes each."""
    for number in range(count):
        payload = {"properties": {"p": "y" * size}}
        _bring(world, [Trigger(f"t{number}", world.clock.now(), "buildbucket", payload)], f"api-{number}")


def _end(world: World, name: str) -> None:
    """End the latest build and deliver its end."""
    world.finish()
    world.notify(name)


def test_triggers_whose_data_builds_never_see_count_for_the_size_of_an_invocation() -> None:
    """Twelve triggers of 90 kB are pending: each end starts as many as one document can hold, and none fails."""
    world = World()
    world.commit("a", "m1")
    for number in range(12):
        _bring(world, [_noop(f"t{number}", world.clock.now() + number, 90_000)], f"api-{number}")
    for number in range(15):
        if world.invocations()[0].status.is_final:
            break
        _end(world, f"n{number}")
    assert all(i.status is Status.SUCCEEDED for i in world.invocations())
    assert sum(len(i.incoming_triggers) for i in world.invocations()) == 13


@pytest.mark.parametrize("is_busy", [True, False])
def test_a_trigger_too_large_for_any_invocation_is_visibly_discarded(*, is_busy: bool) -> None:
    """Its properties are stored twice, in the trigger and in the request: half a document exceeds the limit."""
    world = World()
    if is_busy:
        world.commit("a", "m1")
    payload = {"properties": {"x": "y" * 550_000}}
    _bring(world, [Trigger("big", world.clock.now(), "buildbucket", payload)])
    if is_busy:
        _end(world, "done")
    with world.uncounted():
        found = world.store.trigger(JOB, "big")
    assert found is not None
    assert "bytes" in found.value.discarded
    assert [i.status for i in world.invocations()] == [Status.SUCCEEDED] * is_busy
    with world.uncounted():
        assert world.store.job(JOB).value.active_invocations == ()  # type: ignore[union-attr]


def test_newest_first_takes_the_newest_of_any_number_of_pending_triggers() -> None:
    """More triggers than fit into one invocation do not cause an old commit to run.

    Each invocation runs one trigger.
    """
    world = World(config(policy="triggering_policy { kind: NEWEST_FIRST }"))
    world.commit("a", "m1")
    for number in range(20):
        _bring(world, [_noop(f"t{number}", world.clock.now() + number, 90_000)], f"api-{number}")
    _end(world, "done")
    assert [t.id for t in world.invocations()[0].incoming_triggers] == ["t19"]


def _discarded(world: World, count: int) -> list[str]:
    """Return the triggers t0, t1... that were discarded as surplus."""
    with world.uncounted():
        found = [world.store.trigger(JOB, f"t{number}") for number in range(count)]
    return [marker.value.trigger.id for marker in found if marker and marker.value.discarded == too_many(MAX_PENDING)]


@pytest.mark.parametrize("count", [1000, 1100, 1200, 1500, 2700])
def test_the_newest_thousand_of_any_number_of_pending_triggers_count(count: int) -> None:
    """Older triggers are discarded first, over several deliveries if necessary; each reads no more than any triage."""
    world = World()
    world.commit("a", "m0")
    _bring(world, [_noop(f"t{number}", world.clock.now() + number) for number in range(count)])
    world.counted()
    _end(world, "n1")
    for _ in range(15):
        assert world.store.counts["R"] <= PENDING_READ + 10
        world.counted()
        world.tick(2)
    invocation = world.invocations()[0]
    assert [trigger.id for trigger in invocation.incoming_triggers] == [f"t{n}" for n in range(count - 1000, count)]
    assert _discarded(world, count) == [f"t{number}" for number in range(count - 1000)]


@pytest.mark.parametrize("count", [1150, 1250])
def test_too_many_large_triggers_are_discarded_in_commits_of_bounded_size(count: int) -> None:
    """A commit may have ten mebibytes; then the oldest of the remaining triggers go first, as many as fit."""
    world = World()
    world.commit("a", "m0")
    for start in range(0, count, 50):
        new = [_noop(f"t{number}", world.clock.now() + number, 20_000) for number in range(start, start + 50)]
        _bring(world, new, f"api-{start}")
    sizes = []

    def measure(writes: list[object]) -> None:
        sizes.append(
            sum(
                documents.stored_size(documents.encode_trigger(w.record))
                for w in writes
                if isinstance(w, UpdateTrigger)
            )
        )

    world.store.before_commit = measure
    _end(world, "n1")
    for _ in range(10):
        world.tick(2)
    assert max(sizes) < 3_300_000
    assert _discarded(world, count) == [f"t{number}" for number in range(count - 1000)]
    assert [trigger.id for trigger in world.invocations()[0].incoming_triggers] == [
        f"t{n}" for n in range(count - 1000, count - 972)
    ]


def test_a_waiting_trigger_that_is_delivered_again_when_a_slot_is_free_runs_once() -> None:
    """The config has just allowed another invocation, and its triage has not run yet."""
    policy = "triggering_policy {{ kind: NEWEST_FIRST max_concurrent_invocations: {} }}"
    world = World(config(policy=policy.format(1)))
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.sync(config(policy=policy.format(3)))
    world.commit("b", "m2")
    world.tick(5)
    consumed = [trigger.title for i in world.invocations() for trigger in i.incoming_triggers]
    assert sorted(consumed) == ["a" * 40, "b" * 40]
    assert len(world.buildbucket.builds) == 2


def test_pausing_discards_all_pending_triggers() -> None:
    """One triage has a limit; the next triage discards the others, before the job is resumed."""
    world = World()
    world.commit("a", "m1")
    _bring(world, [_noop(f"t{number}", world.clock.now() + number) for number in range(1500)])
    pause_job(world.runtime, JOB, "user:x", "", "p")
    for _ in range(5):
        world.tick(3)
    with world.uncounted():
        assert world.store.pending_triggers(JOB, 10) == []
    _end(world, "done")
    assert [i.status for i in world.invocations()] == [Status.SUCCEEDED]


def test_a_slot_left_free_for_lack_of_space_is_used_later() -> None:
    """Another triage starts the triggers that did not fit into the first batch, without an end or a new trigger."""
    world = World(config(policy="triggering_policy { max_concurrent_invocations: 3 }"))
    _bring(world, [_noop(f"t{number}", world.clock.now() + number, 100_000) for number in range(10)])
    for _ in range(5):
        world.tick(3)
    assert sorted(len(i.incoming_triggers) for i in world.invocations()) == [2, 4, 4]


def test_a_fault_in_a_sweep_step_does_not_fail_its_task() -> None:
    """A malformed task is dropped, so an error inside a step must not look like a malformed payload."""
    world = World()
    task = trigger_task(JOB, [_noop("t", world.clock.now())], "api-1", world.clock.now())

    def stumble(_: object) -> None:
        raise ValueError("a document that this version cannot read")

    world.store.job = stumble  # type: ignore[method-assign,assignment]
    with pytest.raises(ValueError, match="cannot read"):
        on_task(world.runtime, task.kind, task.payload, "k")


def test_an_abort_whose_mark_never_arrives_is_finally_dropped() -> None:
    """Its handler died before the commit, and the caller got an error: the task is not retried forever."""
    world = World()
    world.commit("a", "m1")
    task = abort_task(world.invocations()[0], world.clock.now())
    with pytest.raises(ComeAgainError):
        world.run_task(task)
    world.clock.advance(301 * SECOND)
    world.run_task(task)
    assert world.invocations()[0].status is Status.RUNNING


def test_a_poll_long_after_the_event_requests_no_new_build() -> None:
    """Commits come by events, and a slow poll is the safety net: each commit is built once."""
    git = MemoryGitiles()
    git.push("refs/heads/main")
    hourly = config().replace('schedule: "triggered" gitiles', 'schedule: "with 2h interval" gitiles')
    world = World(hourly, git)
    world.tick(7201)
    while world.tick():
        pass
    _end(world, "n0")
    builds = len(world.buildbucket.builds)
    (revision,) = git.push("refs/heads/main")
    on_commit(world.runtime, CommitEvent(REPO, "refs/heads/main", revision), world.clock.now(), "commit-1")
    _end(world, "n1")
    for _ in range(3):
        world.tick(3600)
        while world.tick():
            pass
    assert len(world.buildbucket.builds) == builds + 1


def test_an_event_long_after_the_poll_requests_no_new_build() -> None:
    """The time of publication counts, and not the time of delivery."""
    git = MemoryGitiles()
    git.push("refs/heads/main")
    world = World(config().replace('schedule: "triggered" gitiles', 'schedule: "with 30s interval" gitiles'), git)
    world.tick(31)
    while world.tick():
        pass
    _end(world, "n0")
    (revision,) = git.push("refs/heads/main")
    published = world.clock.now()
    world.tick(31)
    while world.tick():
        pass
    _end(world, "n1")
    builds = len(world.buildbucket.builds)
    world.clock.advance(3600 * SECOND)
    on_commit(world.runtime, CommitEvent(REPO, "refs/heads/main", revision), published, "commit-1")
    assert len(world.buildbucket.builds) == builds


def test_launches_that_a_delivery_has_no_time_for_get_tasks() -> None:
    """Twenty slots are freed at once while a server answers slowly: the message is answered in time."""
    world = World(config(policy="triggering_policy { kind: NEWEST_FIRST max_concurrent_invocations: 20 }"))
    world.buildbucket.on_schedule = lambda: world.clock.advance(20 * SECOND)
    begun = world.clock.now()
    _bring(world, [_noop(f"t{number}", begun + number) for number in range(20)])
    assert world.clock.now() - begun < 60 * SECOND
    for _ in range(30):
        world.tick(1)
    assert len(world.buildbucket.builds) == 20
    assert {i.status for i in world.invocations()} == {Status.RUNNING}


def test_a_launch_interrupted_after_its_claim_resumes_when_the_claim_expires() -> None:
    """A task waits for that moment, so that the sweep need not find it minutes later."""
    world = World()

    def fail(writes: list[object]) -> None:
        if any(isinstance(write, UpdateInvocation) and write.invocation.status is Status.RUNNING for write in writes):
            world.store.before_commit = None
            raise TransientError("no answer")

    world.store.before_commit = fail
    world.commit("a", "m1")
    world.tick(76)
    assert world.invocations()[0].status is Status.RUNNING
    assert len(world.buildbucket.builds) == 1


def test_a_message_of_many_events_is_returned_before_its_deadline() -> None:
    """Jobs that were not reached in time are deferred; finished jobs are not repeated."""
    world = World(config(policy="triggering_policy { kind: NEWEST_FIRST max_concurrent_invocations: 10 }"))
    world.buildbucket.on_schedule = lambda: world.clock.advance(100 * SECOND)
    events = [CommitEvent(REPO, "refs/heads/main", letter * 40) for letter in "abcdef"]
    begun = world.clock.now()
    on_commits(world.runtime, events, begun, "commit-1")
    assert world.clock.now() - begun < 300 * SECOND
    assert (len(world.buildbucket.builds), len(world.works())) == (2, 4)
    world.tick()
    assert (len(world.buildbucket.builds), len(world.works())) == (6, 0)


def test_documents_of_a_newer_version_are_read() -> None:
    """During a deployment old and new functions run in parallel: unknown members are ignored."""
    world = World()
    world.commit("a", "m1")
    path = next(path for path in world.store._documents if "invocations" in path)
    stored = world.store._documents[path]
    state, definition = json.loads(stored.document["state"]), json.loads(stored.document["definition"])
    state["pending_timers"][0]["novel"] = 1
    definition["task"]["novel"] = 1
    document = {**stored.document, "state": json.dumps(state), "definition": json.dumps(definition)}
    world.store._documents[path] = replace(stored, document=document)
    _end(world, "done")
    assert world.invocations()[0].status is Status.SUCCEEDED


def test_an_interval_whose_trigger_starts_nothing_continues() -> None:
    """A policy that discards a tick's trigger at once must not stop the schedule."""
    text = config(
        policy='schedule: "with 30s interval" triggering_policy { kind: NEWEST_FIRST pending_timeout { nanos: 1 } }'
    )
    world = World(text)
    advance_by_reading = world.clock.now

    def now() -> Instant:
        world.clock.advance(1000)
        return advance_by_reading()

    world.clock.now = now  # type: ignore[method-assign]
    world.tick(31)
    with world.uncounted():
        job = world.store.job(JOB)
    assert job is not None
    assert job.value.tick_at is not None


def test_a_config_with_a_task_too_large_for_an_invocation_is_not_activated() -> None:
    """Each of its commits would be acknowledged without any effect."""
    world = World(_task_of(999_000))
    with world.uncounted():
        project = world.store.project("proj")
    assert project is not None
    (problem,) = project.value.problems
    assert "at most 150000 are allowed" in problem


@pytest.mark.parametrize("size", [149_000, 420_000])
def test_the_end_of_an_invocation_does_not_depend_on_its_successor(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Task and batch share a document: triggers that do not fit wait for the next invocation."""
    world = _large_task(size, monkeypatch)
    world.commit("a", "m1")
    _waiting(world, 30, 19_000)
    for number in range(10):
        if world.invocations()[0].status.is_final:
            break
        _end(world, f"n{number}")
    assert {i.status for i in world.invocations()} == {Status.SUCCEEDED}
    assert sum(len(i.incoming_triggers) for i in world.invocations()) == 31
    assert len(world.invocations()) <= 5


@pytest.mark.parametrize("size", [800_000, 999_000])
def test_a_commit_is_not_acknowledged_and_lost(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task from before the limit leaves no room for an invocation: the trigger's marker and the log say so."""
    world = _large_task(size, monkeypatch)
    with capture_logs() as logs:
        world.commit("a", "m1")
    with world.uncounted():
        found = world.store.trigger(JOB, f"{REPO}/+/refs/heads/main@{'a' * 40}")
    assert found is not None
    assert "cannot be stored" in found.value.discarded
    assert {line["event"] for line in logs if line["log_level"] == "warning"} == {"trigger_discarded"}
    assert world.invocations() == []


@pytest.mark.parametrize("asked_for", [False, True])
def test_refused_invocations_are_discarded_and_the_invocation_ends(*, asked_for: bool) -> None:
    """For every reason of the refusal: at the end of a build, and at a requested triage."""
    world = World(config(policy="triggering_policy { max_concurrent_invocations: 1 }"))
    world.commit("a", "m1")
    _waiting(world, 2, 10)

    def refuse(writes: list[object]) -> None:
        if any(isinstance(write, CreateInvocation) for write in writes):
            raise PermanentError("too large after all")

    world.store.before_commit = refuse
    if asked_for:
        world.sync(config(policy="triggering_policy { max_concurrent_invocations: 2 }"))
        world.tick(5)
    else:
        _end(world, "n1")
        assert world.invocations()[0].status is Status.SUCCEEDED
    with world.uncounted():
        markers = [world.store.trigger(JOB, f"t{number}") for number in range(2)]
        job = world.store.job(JOB)
    assert all(marker and "too large after all" in marker.value.discarded for marker in markers)
    assert job is not None
    assert len(job.value.active_invocations) == asked_for
