"""Commit events: filters, the wait for the commit, and triggers that are visibly discarded."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.commit_event import CommitEvent, parse_commit_events
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.engine import commit as commit_module
from luci_scheduler.engine.commit import on_commit, on_commits
from luci_scheduler.engine.jobs import pause_job, resume_job
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import GitilesError, PutDeferred, PutWatchers
from luci_scheduler.respond import responding
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


def hide(_: str) -> None:
    """Serve no commits."""
    raise GitilesError("NOT_FOUND", "HTTP 404", transient=False)


def fail(_: str) -> None:
    """Fail each call."""
    raise GitilesError("UNAVAILABLE", "HTTP 503", transient=True)


@pytest.fixture
def git() -> MemoryGitiles:
    """A repository."""
    return MemoryGitiles()


def test_refs_and_paths_are_filtered_as_by_polls(git: MemoryGitiles) -> None:
    """Each watcher has its own filters; the host is called for the commit's state and for its paths."""
    world = World(FILTERED, git, commit_wait_seconds=600)
    (docs,) = git.push(MAIN, diff=[("docs/a.c", "docs/a.c"), ("x", "x")])
    deliver(world, docs)
    assert (triggered(world, "job"), triggered(world, "every")) == ([], [docs])
    (code,) = git.push("refs/heads/dev", diff=[("", "a.c")])
    deliver(world, code, "refs/heads/dev", "commit-m2")
    assert (triggered(world, "job"), triggered(world, "every")) == ([code], [docs])
    deliver(world, code, "refs/tags/v1", "commit-m3")
    assert git.calls == [
        f"log {MAIN}..{docs} n=1",
        f"log {docs} n=1 diffs",
        f"log refs/heads/dev..{code} n=1",
        f"log {code} n=1 diffs",
    ]


def test_a_commit_that_passes_no_filter_needs_no_retry(git: MemoryGitiles) -> None:
    """Nothing is written, and one line says so."""
    world = World(FILTERED, git)
    (docs,) = git.push("refs/heads/dev", diff=[("docs/a.c", "docs/a.c")])
    with capture_logs() as logs:
        deliver(world, docs, "refs/heads/dev")
    assert world.counted() == "1R/0W/0c"
    about = {"repo": REPO, "ref": "refs/heads/dev", "revision": docs, "watchers": 1}
    assert [line for line in logs if line["event"] == "commit_filtered"] == [
        {"event": "commit_filtered", "log_level": "info", **about}
    ]


def test_paths_are_read_only_if_a_filter_needs_them(git: MemoryGitiles) -> None:
    """No job filters by path here: one call shows that the commit is served and on its ref."""
    world = World(config(), git)
    (commit,) = git.push(MAIN)
    deliver(world, commit)
    assert git.calls == [f"log {MAIN}..{commit} n=1"]
    assert triggered(world, "job") == [commit]


def test_a_trigger_waits_for_its_commit(git: MemoryGitiles) -> None:
    """The event is acknowledged with one more write and tried again with growing pauses.

    Once served, it is like any other.
    """
    world = World(config(), git)
    (commit,) = git.push(MAIN)
    git.before_call = hide
    published = world.clock.now()
    deliver(world, commit)
    assert world.counted() == "1R/1W/1c"
    pauses = []
    for _ in range(9):
        (work,) = world.works()
        assert (work.kind, work.revision) == ("commit", commit)
        assert "NOT_FOUND: HTTP 404" in work.reason
        pauses.append((work.next_due - world.clock.now()) // SECOND)
        world.counted()
        world.tick(pauses[-1])
        assert world.counted() == "2R/1W/1c"
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    git.before_call = lambda _: None
    world.tick(600)
    assert triggered(world, "job") == [commit]
    assert world.invocations()[0].incoming_triggers[0].created == published
    assert world.works() == []


def test_a_mirror_that_lags_for_hours_loses_no_commit(git: MemoryGitiles) -> None:
    """The mirror first fails and then lacks the commit. The event waits in both cases, without redeliveries."""
    world = World(config(), git)
    (commit,) = git.push(MAIN)
    git.before_call = fail
    deliver(world, commit)
    for hour in range(12):
        world.tick(3600)
        git.before_call = hide if hour > 5 else fail
    assert triggered(world, "job") == []
    git.before_call = lambda _: None
    world.tick(600)
    assert triggered(world, "job") == [commit]


def test_the_same_event_twice_waits_once(git: MemoryGitiles) -> None:
    """A redelivery or a second publication finds the document; a commit that is served by then is launched once."""
    world = World(config(), git)
    (commit,) = git.push(MAIN)
    git.before_call = hide
    for key in ("commit-m1", "commit-m1", "commit-m2"):
        deliver(world, commit, key=key)
    assert len(world.works()) == 1
    git.before_call = lambda _: None
    deliver(world, commit, key="commit-m3")
    assert triggered(world, "job") == [commit]
    world.tick(600)
    assert triggered(world, "job") == [commit]
    assert world.works() == []


def test_a_commit_that_is_not_on_the_named_ref_starts_nothing(git: MemoryGitiles) -> None:
    """A caller who may push to a code review must not get it built as landed code; after it lands, it is built."""
    world = World(config(), git)
    (landed,) = git.push(MAIN)
    (review,) = git.push("refs/changes/01/1/1", parents=[landed])
    deliver(world, review)
    world.tick(3600)
    assert triggered(world, "job") == []
    assert world.works()[0].reason.startswith("the commit is not on the ref that is named with it: refs/heads/main")
    git.push(MAIN, parents=[landed, review])
    world.tick(600)
    assert triggered(world, "job") == [review]


def test_trusted_publishers_need_only_a_served_commit(git: MemoryGitiles) -> None:
    """With the setting, the host is called only to check that it serves the commit."""
    world = World(config(), git, trust_commit_publishers=True)
    (landed,) = git.push(MAIN)
    (review,) = git.push("refs/changes/01/1/1", parents=[landed])
    deliver(world, review)
    assert triggered(world, "job") == [review]
    assert git.calls == [f"log {review} n=1"]


def test_a_commit_that_is_never_served_is_visibly_discarded(
    git: MemoryGitiles, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each watching job has a record with the reason; a repetition changes nothing."""
    world = World(config(("job", "other")), git, commit_wait_seconds=60)
    for _ in range(2):
        deliver(world, MADE_UP, age=60 * SECOND)
        assert world.works() == []
    for name in ("job", "other"):
        found = world.store.trigger(JobId(f"proj/{name}"), f"{REPO}/+/{MAIN}@{MADE_UP}")
        assert found is not None
        assert found.value.discarded.startswith("the repository's host does not serve the commit: NOT_FOUND: HTTP 404")
        assert found.value.resolved == world.clock.now()
        assert found.value.expires == world.runtime.limits.expiry(found.value.resolved)
        assert not found.value.invocation_id
    assert world.invocations() == []
    logged = capsys.readouterr().out
    assert (logged.count("trigger_discarded"), logged.count("commit_discarded")) == (2, 2)


def test_a_commit_that_is_served_late_runs_despite_its_discarded_trigger(git: MemoryGitiles) -> None:
    """The next poll, or another event, delivers it at once; the discarded delivery itself stays discarded."""
    text = config().replace('schedule: "triggered" gitiles', 'schedule: "with 30s interval" gitiles')
    world = World(text, git, commit_wait_seconds=60)
    published = world.clock.now()
    (commit,) = git.push(MAIN)
    head = git.heads.pop(MAIN)
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


def test_a_failing_host_is_timed_from_the_first_attempt(git: MemoryGitiles, capsys: pytest.CaptureFixture[str]) -> None:
    """An event that is older than its wait is still tried for that long; then it visibly ends."""
    world = World(config(), git, commit_wait_seconds=3600)
    git.before_call = fail
    deliver(world, MADE_UP, age=3 * HOUR)
    begun = world.clock.now()
    while world.works():
        world.tick(600)
    assert HOUR <= world.clock.now() - begun <= HOUR + 10 * MINUTE
    found = world.store.trigger(JOB, f"{REPO}/+/{MAIN}@{MADE_UP}")
    assert found is not None
    assert "UNAVAILABLE: HTTP 503" in found.value.discarded
    assert "commit_discarded" in capsys.readouterr().out


def test_without_a_wait_a_failing_host_causes_a_redelivery(git: MemoryGitiles) -> None:
    """A failing host causes a redelivery if a path filter needs the commit."""
    world = World(FILTERED, git, commit_wait_seconds=0)
    git.before_call = fail
    with pytest.raises(TransientError, match="UNAVAILABLE"):
        deliver(world, MADE_UP)
    assert world.works() == []


def test_without_a_wait_the_host_is_not_called(git: MemoryGitiles) -> None:
    """The event is trusted."""
    world = World(config(), git, commit_wait_seconds=0)
    deliver(world, MADE_UP)
    assert git.calls == []
    assert triggered(world, "job") == [MADE_UP]


def test_a_bad_pattern_of_one_project_does_not_stop_another(git: MemoryGitiles) -> None:
    """An earlier version may have stored the pattern."""
    world = World(config(), git)
    (commit,) = git.push(MAIN)
    bad = Watcher(JobId("bad/job"), JobId("bad/poller"), REPO, ("regexp:refs/heads/(?=x)",))
    world.store.commit([PutWatchers(REPO, "bad", (bad,))])
    deliver(world, commit)
    assert triggered(world, "job") == [commit]


def test_one_message_may_name_several_refs(git: MemoryGitiles) -> None:
    """A commit that is not served yet does not block the others; each delivery does the remaining work."""
    refs = f'trigger {{ id: "poller" gitiles {{ repo: "{REPO}" refs: "regexp:refs/heads/.+" }} triggers: "job" }}'
    task = f'buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }}'
    job = f'job {{ id: "job" triggering_policy {{ max_concurrent_invocations: 5 }} {task} }}'
    world = World(f"{refs}\n{job}", git)
    heads = {f"refs/heads/{name}": git.push(f"refs/heads/{name}")[0] for name in "abc"}
    events = [CommitEvent(REPO, ref, head) for ref, head in heads.items()]
    late = heads["refs/heads/a"]

    def hide_one(call: str) -> None:
        if call.endswith(f"{late} n=1"):
            raise GitilesError("NOT_FOUND", "HTTP 404", transient=False)

    git.before_call = hide_one
    on_commits(world.runtime, events, world.clock.now(), "commit-m1")
    assert sorted(triggered(world, "job")) == sorted([heads["refs/heads/b"], heads["refs/heads/c"]])
    assert [work.revision for work in world.works()] == [late]
    git.before_call = lambda _: None
    world.tick(10)
    assert sorted(triggered(world, "job")) == sorted(heads.values())
    assert len(world.invocations(JOB)) == 3


def test_three_thousand_refs_in_one_message(git: MemoryGitiles) -> None:
    """Each commit reaches the job once. The watchers are read once.

    The first refs are handled at once, the others deferred.
    """
    world = World(config().replace(f'refs: "{MAIN}"', 'refs: "regexp:refs/heads/.+"'), git)
    heads = {f"refs/heads/release-{n:04}": git.push(f"refs/heads/release-{n:04}")[0] for n in range(3000)}
    updates = {ref: {"refName": ref, "updateType": "CREATE", "newId": head} for ref, head in heads.items()}
    payload = json.dumps({"url": REPO, "refUpdateEvent": {"refUpdates": updates}}).encode()
    events = parse_commit_events(payload)
    assert len(events) == 3000
    at_once = world.runtime.limits.events_at_once
    on_commits(world.runtime, events, world.clock.now(), "commit-m1")
    assert world.store.counts["R"] == 1 + 1 + 2 * (at_once - 1)
    assert len(world.works()) == 3000 - at_once
    world.counted()
    on_commits(world.runtime, events, world.clock.now(), "commit-m1")  # delivered again: nothing is written
    assert world.store.counts["W"] == 0
    world.queue.purge()
    world.clock.advance(5 * MINUTE)
    sweep(world.runtime)
    world.tick()
    assert world.works() == []
    (invocation,) = world.invocations()
    reached = [item.value.trigger for item in world.store.pending_triggers(JOB, 5000)]
    assert sorted(item.title for item in (*invocation.incoming_triggers, *reached)) == sorted(heads.values())


def test_failing_events_of_a_message_are_deferred() -> None:
    """The message is acknowledged; only an event that cannot be recorded causes a redelivery."""
    world = World(config())
    commit, recorded = world.store.commit, []

    def hiccup(writes: Any) -> Any:
        if isinstance(writes[0], PutDeferred):
            recorded.append(writes[0].record.kind)
            return commit(writes)
        raise TransientError("the store hiccups")

    world.store.commit = hiccup  # type: ignore[method-assign]
    events = [CommitEvent(REPO, MAIN, digit * 40) for digit in "12"]
    on_commits(world.runtime, events, world.clock.now(), "commit-m1")
    assert recorded == ["commit", "commit"]

    def dead(_: Any) -> Any:
        raise TransientError("the store is down")

    world.store.commit = dead  # type: ignore[method-assign]
    with pytest.raises(TransientError, match="is down"):
        on_commits(world.runtime, events, world.clock.now(), "commit-m2")
    world.store.commit = commit  # type: ignore[method-assign]
    for _ in range(3):
        world.tick(5)
    assert triggered(world, "job")[0] == "1" * 40
    assert [found.value.trigger.title for found in world.store.pending_triggers(JOB, 10)] == ["2" * 40]


def test_a_hopeless_event_does_not_block_the_other_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """One event can never be stored: the other event is handled, and the message is acknowledged."""
    world = World()
    outcomes: list[Exception] = [PermanentError("a document would be too large"), TransientError("not now")]

    def refuse(*_: Any) -> None:
        raise outcomes.pop(0)

    monkeypatch.setattr(commit_module, "take_commit", refuse)
    events = [CommitEvent(REPO, MAIN, name * 40) for name in "ab"]
    with responding() as response:
        on_commits(world.runtime, events, world.clock.now(), "commit-m1")
    assert response.code == 200
    assert [work.revision for work in world.works()] == ["b" * 40]


@pytest.mark.parametrize("wait", [0, 600])
def test_an_annotated_tag_stands_for_its_commit(git: MemoryGitiles, wait: int) -> None:
    """An event names the tag object. Its trigger equals a poll's, so both together start one invocation."""
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


def test_a_branch_is_not_a_tag(git: MemoryGitiles) -> None:
    """A log that begins with a commit other than the event's is not an answer for a branch."""
    world = World(config(), git, trust_commit_publishers=True)
    (commit,) = git.push(MAIN)
    deliver(world, git.tag("refs/tags/v1", commit))
    assert triggered(world, "job") == []
    assert "does not begin with it" in world.works()[0].reason


def test_a_paused_trigger_ignores_commits(git: MemoryGitiles, capsys: pytest.CaptureFixture[str]) -> None:
    """A paused trigger costs no additional read. After a resume, its first poll finds the commits in between."""
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


def test_a_poll_after_a_pause_starts_the_commit_that_the_paused_job_discarded(git: MemoryGitiles) -> None:
    """The event came during the pause of the job, whose trigger is not paused. The next poll finds the commit again."""
    world = World(config().replace('schedule: "triggered" gitiles', 'schedule: "with 30s interval" gitiles'), git)
    git.push(MAIN)
    world.tick(31)
    world.tick()
    world.finish()
    world.notify("n1")
    pause_job(world.runtime, JOB, "user:sheriff@b.c", "stop it", "k1")
    (commit,) = git.push(MAIN)
    deliver(world, commit)
    resume_job(world.runtime, JOB, "user:sheriff@b.c", "go on", "k2")
    assert len(world.invocations()) == 1
    for _ in range(3):
        world.tick(31)
    assert [trigger.title for trigger in world.invocations()[0].incoming_triggers] == [commit]


def test_a_job_receives_commits_from_triggers_that_are_not_paused(git: MemoryGitiles) -> None:
    """Each trigger is paused separately."""
    second = f'trigger {{ id: "second" gitiles {{ repo: "{REPO}.git" refs: "{MAIN}" }} triggers: "job" }}'
    world = World(config() + second, git)
    pause_job(world.runtime, JobId("proj/poller"), "user:sheriff@b.c", "stop it", "k1")
    (commit,) = git.push(MAIN)
    deliver(world, commit)
    (invocation,) = world.invocations()
    assert invocation.incoming_triggers[0].payload["repo"] == f"{REPO}.git"
