"""Gitiles jobs in the whole engine: the cost of a poll, and the common commit of its state and its triggers."""

import json
from hashlib import sha256

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.adapters.gitiles import GitilesClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import GitilesError, PutPoller, UpdateInvocation
from tests.answering import Answer, answering
from tests.unit.engine.world import JOB, REPO, World, config

MAIN = "refs/heads/main"
POLLER = JobId("proj/poller")
CONFIG = config().replace('schedule: "triggered" gitiles', 'schedule: "with 30s interval" gitiles')


@pytest.fixture
def git() -> MemoryGitiles:
    """Return a repository with a commit."""
    git = MemoryGitiles()
    git.push(MAIN)
    return git


@pytest.fixture
def world(git: MemoryGitiles) -> World:
    """Return a world in which the poller has polled once, and the build has ended."""
    world = World(CONFIG, git)
    polled(world)
    world.finish()
    world.notify("n0")
    world.counted()
    git.calls.clear()
    return world


def polled(world: World, seconds: int = 31) -> None:
    """Let time pass, and deliver due tasks until none is left."""
    world.tick(seconds)
    while world.tick():
        pass


def _hash(number: int) -> str:
    """Return 40 digits that do not compress, like a commit's."""
    return sha256(str(number).encode()).hexdigest()[:40]


def known(world: World) -> str:
    """Return the poller's recorded revision of the branch."""
    with world.uncounted():
        found = world.store.poller(POLLER)
    assert found is not None
    return found.value.known[MAIN]


def test_an_unchanged_poll(world: World, git: MemoryGitiles) -> None:
    """Two reads, one commit of one document, one task, one listing; no invocation."""
    before = world.invocations(POLLER)
    world.tick(31)
    assert world.counted() == "2R/1W/1c"
    assert git.calls == ["refs refs/heads"]
    assert [task.kind for task in world.queue.tasks if task.kind == "cron"] == ["cron"]
    assert world.invocations(POLLER) == before


def test_a_poll_with_news(world: World, git: MemoryGitiles) -> None:
    """All commits of a poll start one invocation of the target.

    Refs are listed once, although the idle check came first.
    """
    old, hashes = git.heads[MAIN], git.push(MAIN, 7)
    world.tick(31)
    assert world.counted() == "4R/6W/3c"
    assert git.calls == ["refs refs/heads", f"log {old}..{hashes[-1]} n=50"]
    assert known(world) == hashes[-1]
    while world.tick():
        pass
    newest = world.invocations()[0]
    assert [trigger.title for trigger in newest.incoming_triggers] == hashes
    (poll, _) = world.invocations(POLLER)
    assert {trigger.invocation_id for trigger in newest.incoming_triggers} == {poll.id}
    log = world.log(POLLER)
    assert log.index("All 1 changed refs processed") < log.index("Dispatching triggers (7 of them)")
    assert log.index("  proj/job\n") < log.index("Saved 1 known refs\n") < log.index("Invocation finished in")


def test_state_is_never_ahead_of_triggers(world: World, git: MemoryGitiles) -> None:
    """A crash in the commit that ends the poll leaves neither; the next attempt records both."""
    old, (new,) = git.heads[MAIN], git.push(MAIN)
    crashes = [True]

    def crash(writes: list[object]) -> None:
        if crashes and any(isinstance(write, PutPoller) for write in writes):
            crashes.pop()
            raise TransientError("the store is away")

    world.store.before_commit = crash
    world.tick(31)
    assert not crashes
    assert known(world) == old
    (poll, _) = world.invocations(POLLER)
    assert (poll.status, poll.outgoing_triggers) == (Status.STARTING, ())
    world.clock.advance(300 * 10**9)
    sweep(world.runtime)
    polled(world, 0)
    assert known(world) == new
    assert [trigger.title for trigger in world.invocations()[0].incoming_triggers] == [new]


def test_transient_errors_are_retried_with_the_lines_of_each_attempt(world: World, git: MemoryGitiles) -> None:
    """The invocation is RETRYING meanwhile."""
    (new,) = git.push(MAIN)

    def fail(call: str) -> None:
        if call.startswith("log"):
            raise GitilesError("UNAVAILABLE", "HTTP 503", transient=True)

    git.before_call = fail
    world.tick(31)
    assert world.invocations(POLLER)[0].status is Status.RETRYING
    git.before_call = lambda _: None
    polled(world, 6)
    assert world.invocations(POLLER)[0].status is Status.SUCCEEDED
    log = world.log(POLLER)
    assert "no progress made due to UNAVAILABLE: HTTP 503\n" in log
    assert log.count(f"Repo: {REPO}, Refs: [{MAIN}]") == 2
    assert world.invocations(JOB)[0].incoming_triggers[0].title == new


def test_a_poll_and_an_event_for_the_same_commit_start_one_build(world: World, git: MemoryGitiles) -> None:
    """Their triggers have the same ID."""
    (new,) = git.push(MAIN)
    builds = len(world.buildbucket.builds)

    on_commit(world.runtime, CommitEvent(REPO, MAIN, new), world.clock.now(), "commit-m1")
    world.finish()
    world.notify("n1")
    polled(world)
    assert len(world.buildbucket.builds) == builds + 1


def test_a_poll_that_can_never_be_stored_fails_with_its_reason(git: MemoryGitiles, world: World) -> None:
    """A document cannot hold the refs.

    One line says so, the slot is freed, nothing of the poll is kept, and the next poll runs.
    """
    before = known(world)
    git.push(MAIN)
    git.heads |= {f"refs/tags/{_hash(n)}": _hash(-n) for n in range(1, 32_000)}
    world.sync(CONFIG.replace('refs: "refs/heads/main"', 'refs: "refs/heads/main" refs: "regexp:refs/tags/.*"'))
    builds = len(world.buildbucket.builds)
    for number in (1, 2):
        polled(world)
        assert world.invocations(POLLER)[0].status is Status.FAILED
        assert len(world.invocations(POLLER)) == number + 1
    (line,) = (line for line in world.log(POLLER).splitlines() if "cannot be stored" in line)
    assert "a document can hold 1000000" in line
    assert world.invocations(POLLER)[0].attempts == 1
    assert world.invocations(POLLER)[0].outgoing_triggers == ()
    assert known(world) == before
    assert len(world.buildbucket.builds) == builds
    with world.uncounted():
        job = world.store.job(POLLER)
    assert job is not None
    assert job.value.active_invocations == ()


def test_a_build_whose_start_can_never_be_stored_is_canceled() -> None:
    """The build would run unwatched."""
    world = World()

    def refuse(writes: list[object]) -> None:
        if any(isinstance(write, UpdateInvocation) and write.invocation.status is Status.RUNNING for write in writes):
            raise PermanentError("too large after all")

    world.store.before_commit = refuse
    world.commit()
    (invocation,) = world.invocations()
    assert invocation.status is Status.FAILED
    assert "the outcome cannot be stored - too large after all" in world.log()
    assert world.buildbucket.canceled == list(world.buildbucket.builds)


def test_one_bad_byte_does_not_stop_a_poller() -> None:
    """With the real client, the range always holds the commit with that byte, and polls continue after it."""
    heads = ["1" * 40]

    def answer(path: str, _: object) -> Answer:
        document: dict[str, object] = {"main": {"value": heads[0]}}
        if "/+log/" in path:
            entry = {
                "commit": heads[0],
                "author": {"name": "M?ller"},
                "committer": {"time": "Sun Mar 01 12:00:00 2026"},
            }
            document = {"log": [entry]}
        return Answer(200, b")]}'\n" + json.dumps(document).encode().replace(b"?", b"\xfc"))

    with answering() as server:
        server.otherwise = answer
        git = GitilesClient(
            lambda _: server.url, sessions(authenticated=False), 30 * SECOND, authenticated=False, clock=SystemClock()
        )
        world = World(CONFIG, git)
        polled(world)
        for digit in "23":
            heads[0] = digit * 40
            polled(world)
            assert world.invocations(POLLER)[0].status is Status.SUCCEEDED
            assert known(world) == heads[0]
