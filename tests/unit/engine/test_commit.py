"""Commit events: filters, the wait for the commit, and triggers that are visibly discarded."""

from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.errors import ComeAgainError, PermanentError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.engine import commit as commit_module
from luci_scheduler.engine.commit import on_commit, on_commits
from luci_scheduler.engine.jobs import pause_job, resume_job
from luci_scheduler.ports import GitilesError, PutWatchers, Watcher
from luci_scheduler.settle import settle
from tests.unit.engine.world import HOST, JOB, REPO, World, config

MAIN = "refs/heads/main"
MADE_UP = "f" * 40
FILTERED = f"""
trigger {{ id: "code" gitiles {{ repo: "{REPO}" refs: "regexp:refs/heads/.+" path_regexps: ".+\\\\.c"
  path_regexps_exclude: "docs/.+" }} triggers: "job" }}
trigger {{ id: "all" gitiles {{ repo: "{REPO}" refs: "{MAIN}" }} triggers: "every" }}
job {{ id: "job" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "job" }} }}
job {{ id: "every" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "every" }} }}
"""


def deliver(world: World, revision: str, ref: str = MAIN, key: str = "commit-m1", age: int = 0) -> None:
    """Deliver a commit event that was published ``age`` nanoseconds ago."""
    on_commit(world.runtime, CommitEvent(REPO, ref, revision), world.clock.now() - age, key)  # type: ignore[arg-type]


def triggered(world: World, name: str) -> list[str]:
    """Return the commits that led to invocations of a job, oldest first."""
    found = world.invocations(JobId(f"proj/{name}"))
    return [trigger.title for item in reversed(found) for trigger in item.incoming_triggers]


@pytest.fixture
def git() -> MemoryGitiles:
    """A repository."""
    return MemoryGitiles()


def test_refs_and_paths_are_filtered_as_by_polls(git: MemoryGitiles) -> None:
    """Each watcher has its own filters; the commit is asked for once, with its paths."""
    world = World(FILTERED, git, commit_wait_seconds=600)
    (docs,) = git.push(MAIN, diff=[("docs/a.c", "docs/a.c"), ("x", "x")])
    deliver(world, docs)
    assert (triggered(world, "job"), triggered(world, "every")) == ([], [docs])
    (code,) = git.push("refs/heads/dev", diff=[("", "a.c")])
    deliver(world, code, "refs/heads/dev", "commit-m2")
    assert (triggered(world, "job"), triggered(world, "every")) == ([code], [docs])
    deliver(world, code, "refs/tags/v1", "commit-m3")
    assert git.calls == [f"log {docs} n=1 diffs", f"log {code} n=1 diffs"]


def test_a_commit_that_passes_no_filter_is_done_with(git: MemoryGitiles) -> None:
    """Nothing is written."""
    world = World(FILTERED, git)
    (docs,) = git.push("refs/heads/dev", diff=[("docs/a.c", "docs/a.c")])
    deliver(world, docs, "refs/heads/dev")
    assert world.counted() == "1R/0W/0c"


def test_paths_are_asked_for_only_where_they_count(git: MemoryGitiles) -> None:
    """Nobody filters by path here."""
    world = World(config(), git)
    (commit,) = git.push(MAIN)
    deliver(world, commit)
    assert git.calls == [f"log {commit} n=1"]
    assert triggered(world, "job") == [commit]


def test_a_commit_is_waited_for(git: MemoryGitiles) -> None:
    """Until it is served the event comes again; then it is like any other."""
    world = World(config(), git, commit_wait_seconds=60)
    (commit,) = git.push(MAIN)

    def hide(_: str) -> None:
        raise GitilesError("NOT_FOUND", "HTTP 404", transient=False)

    git.before_call = hide
    for age in (0, 59 * SECOND):
        with pytest.raises(ComeAgainError, match="not served yet: NOT_FOUND"):
            deliver(world, commit, age=age)
    assert world.counted() == "2R/0W/0c"
    git.before_call = lambda _: None
    deliver(world, commit, age=59 * SECOND)
    assert triggered(world, "job") == [commit]


def test_a_commit_that_is_never_served_is_visibly_discarded(
    git: MemoryGitiles, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each watching job has a record of it that says why; a repetition changes nothing."""
    world = World(config(("job", "other")), git, commit_wait_seconds=60)
    for _ in range(2):
        deliver(world, MADE_UP, age=60 * SECOND)
    for name in ("job", "other"):
        found = world.store.trigger(JobId(f"proj/{name}"), f"{REPO}/+/{MAIN}@{MADE_UP}")
        assert found is not None
        assert found.value.discarded.startswith("the repository's host does not serve the commit: NOT_FOUND: HTTP 404")
        assert found.value.resolved == world.clock.now()
        assert found.value.expires == world.runtime.limits.expiry(found.value.resolved)
        assert not found.value.invocation_id
    assert world.invocations() == []
    assert capsys.readouterr().out.count("trigger_discarded") == 2


def test_a_commit_that_is_served_after_all_is_not_held_back_by_its_discarded_trigger(git: MemoryGitiles) -> None:
    """The next poll, or another event, brings it at once; the discarded delivery itself stays discarded."""
    text = config().replace('schedule: "triggered" gitiles', 'schedule: "with 30s interval" gitiles')
    world = World(text, git, commit_wait_seconds=60)
    published = world.clock.now()
    (commit,) = git.push(MAIN)
    head = git.heads.pop(MAIN)

    def hide(_: str) -> None:
        raise GitilesError("NOT_FOUND", "HTTP 404", transient=False)

    git.before_call = hide
    world.clock.advance(60 * SECOND)
    event = CommitEvent(REPO, MAIN, commit)
    on_commit(world.runtime, event, published, "commit-m1")
    git.before_call = lambda _: None
    git.heads[MAIN] = head
    on_commit(world.runtime, event, published, "commit-m1")
    assert triggered(world, "job") == []
    for _ in range(3):
        world.tick(31)
    assert triggered(world, "job") == [commit]
    found = world.store.trigger(JOB, f"{REPO}/+/{MAIN}@{commit}")
    assert found is not None
    assert found.value.invocation_id == world.invocations()[0].id


def test_trouble_of_the_host_is_no_reason_to_discard(git: MemoryGitiles) -> None:
    """The event comes again, however old it is."""
    world = World(config(), git)

    def fail(_: str) -> None:
        raise GitilesError("UNAVAILABLE", "HTTP 503", transient=True)

    git.before_call = fail
    with pytest.raises(TransientError, match="UNAVAILABLE"):
        deliver(world, MADE_UP, age=60 * MINUTE)
    assert world.counted() == "1R/0W/0c"


def test_without_a_wait_nobody_is_asked(git: MemoryGitiles) -> None:
    """The event is believed."""
    world = World(config(), git, commit_wait_seconds=0)
    deliver(world, MADE_UP)
    assert git.calls == []
    assert triggered(world, "job") == [MADE_UP]


def test_a_bad_pattern_of_one_project_does_not_stop_another(git: MemoryGitiles) -> None:
    """An earlier version may have stored it."""
    world = World(config(), git)
    (commit,) = git.push(MAIN)
    bad = Watcher(JobId("bad/job"), JobId("bad/poller"), REPO, ("regexp:refs/heads/(?=x)",))
    world.store.commit([PutWatchers(REPO, "bad", (bad,))])
    deliver(world, commit)
    assert triggered(world, "job") == [commit]


def test_one_message_may_tell_of_several_refs(git: MemoryGitiles) -> None:
    """One that is not served yet does not keep the others; each delivery does what is left."""
    refs = f'trigger {{ id: "poller" gitiles {{ repo: "{REPO}" refs: "regexp:refs/heads/.+" }} triggers: "job" }}'
    job = f'job {{ id: "job" triggering_policy {{ max_concurrent_invocations: 5 }} buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }} }}'
    world = World(f"{refs}\n{job}", git)
    heads = {f"refs/heads/{name}": git.push(f"refs/heads/{name}")[0] for name in "abc"}
    events = [CommitEvent(REPO, ref, head) for ref, head in heads.items()]
    late = heads["refs/heads/a"]

    def hide(call: str) -> None:
        if call.startswith(f"log {late}"):
            raise GitilesError("NOT_FOUND", "HTTP 404", transient=False)

    git.before_call = hide
    with pytest.raises(ComeAgainError):
        on_commits(world.runtime, events, world.clock.now(), "commit-m1")
    assert sorted(triggered(world, "job")) == sorted([heads["refs/heads/b"], heads["refs/heads/c"]])
    git.before_call = lambda _: None
    on_commits(world.runtime, events, world.clock.now(), "commit-m1")
    assert sorted(triggered(world, "job")) == sorted(heads.values())
    assert len(world.invocations(JOB)) == 3


def test_of_several_failures_the_worst_is_told() -> None:
    """Trouble weighs more than something that is only late."""
    outcomes: list[Any] = [ComeAgainError("late"), TransientError("trouble")]
    git = MemoryGitiles()
    world = World(config(), git)

    def fail(_: str) -> None:
        error = outcomes.pop(0)
        code = "NOT_FOUND" if isinstance(error, ComeAgainError) else "INTERNAL"
        raise GitilesError(code, "", transient=code == "INTERNAL")

    git.before_call = fail
    events = [CommitEvent(REPO, MAIN, digit * 40) for digit in "12"]
    with pytest.raises(TransientError):
        on_commits(world.runtime, events, world.clock.now(), "commit-m1")


def test_what_is_hopeless_does_not_acknowledge_what_has_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """One event can never be stored, another one's commit is not served yet: the message comes again."""
    world = World()
    outcomes: list[Exception] = [PermanentError("a document would be too large"), ComeAgainError("not served yet")]

    def fail(*_: Any) -> None:
        raise outcomes.pop(0)

    monkeypatch.setattr(commit_module, "on_commit", fail)
    events = [CommitEvent(REPO, f"refs/heads/{name}", "a" * 40) for name in "ab"]
    _, code = settle(lambda: on_commits(world.runtime, events, world.clock.now(), "commit-m1"))
    assert code == 409


@pytest.mark.parametrize("wait", [0, 600])
def test_an_annotated_tag_is_for_the_commit_behind_it(git: MemoryGitiles, wait: int) -> None:
    """An event names the tag object. Its trigger is that of a poll, so both together start one invocation."""
    text = config().replace(f'refs: "{MAIN}"', 'refs: "regexp:refs/tags/.+"')
    world = World(
        text.replace('schedule: "triggered" gitiles', 'schedule: "with 30s interval" gitiles'),
        git,
        commit_wait_seconds=wait,
    )
    old, commit = git.push(MAIN, 2)
    git.tag("refs/tags/v0", old)
    world.tick(31)  # a poll that finds a tag for the first time knows it from then on
    tag = git.tag("refs/tags/v1", commit)
    deliver(world, tag, "refs/tags/v1")
    (invocation,) = world.invocations()
    assert [trigger.id for trigger in invocation.incoming_triggers] == [f"{REPO}/+/refs/tags/v1@{commit}"]
    world.finish()
    world.notify("n1")
    for _ in range(2):
        world.tick(31)
    assert "Emitting a trigger" in world.log(JobId("proj/poller"))
    assert len(world.invocations()) == 1


def test_a_branch_is_no_tag(git: MemoryGitiles) -> None:
    """A log that begins with another commit than the branch's event tells of is no answer."""
    world = World(config(), git)
    (commit,) = git.push(MAIN)
    with pytest.raises(ComeAgainError, match="does not begin with it"):
        deliver(world, git.tag("refs/tags/v1", commit))


def test_a_paused_trigger_lets_no_commits_through(git: MemoryGitiles, capsys: pytest.CaptureFixture[str]) -> None:
    """Not for one read more; resumed, its first poll takes up what landed meanwhile."""
    world = World(config().replace('schedule: "triggered" gitiles', 'schedule: "with 30s interval" gitiles'), git)
    poller = JobId("proj/poller")
    git.push(MAIN)
    world.tick(31)
    world.tick()
    (first,) = world.invocations()
    world.finish()
    world.notify("n1")
    pause_job(world.runtime, poller, "user:sheriff@b.c", "stop it", "k1")
    (commit,) = git.push(MAIN)
    world.counted()
    deliver(world, commit)
    assert world.counted() == "1R/0W/0c"
    assert "commit_watcher_paused" in capsys.readouterr().out
    resume_job(world.runtime, poller, "user:sheriff@b.c", "go on", "k2")
    for _ in range(3):
        world.tick(31)
    second, before = world.invocations()
    assert before.id == first.id
    assert [trigger.title for trigger in second.incoming_triggers] == [commit]
    world.finish()
    world.notify("n2")
    (commit,) = git.push(MAIN)
    deliver(world, commit, key="commit-m2")
    assert triggered(world, "job")[-1] == commit


def test_a_job_gets_commits_by_the_triggers_that_are_not_paused(git: MemoryGitiles) -> None:
    """Each trigger is paused for itself."""
    second = f'trigger {{ id: "second" gitiles {{ repo: "{REPO}.git" refs: "{MAIN}" }} triggers: "job" }}'
    world = World(config() + second, git)
    pause_job(world.runtime, JobId("proj/poller"), "user:sheriff@b.c", "stop it", "k1")
    (commit,) = git.push(MAIN)
    deliver(world, commit)
    (invocation,) = world.invocations()
    assert invocation.incoming_triggers[0].payload["repo"] == f"{REPO}.git"
