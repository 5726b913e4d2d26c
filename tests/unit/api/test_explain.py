"""Why a commit did or did not run: each reason is produced, and its sentence is checked."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.api.errors import ApiError
from luci_scheduler.api.explain import MAX_REQUESTED, MAX_TRIGGERS, explain_commit
from luci_scheduler.api.explanation import Explanation, Origin, Reason
from luci_scheduler.core import commit_filters
from luci_scheduler.core.commit_event import CommitEvent, gitiles_trigger
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import DAY, HOUR, SECOND
from luci_scheduler.core.job import Job
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.engine.jobs import pause_job, resume_job
from luci_scheduler.ports import CreateTrigger, GitilesError, PutWatchers
from tests.unit.api.support import OWNER, READER, STRANGER, Client, context, put_job, world_for
from tests.unit.engine.world import HOST, JOB, REPO, World, config

MAIN = "refs/heads/main"
JOB_REF = {"project": "proj", "job": "job"}
NEWEST_FIRST = "triggering_policy { kind: NEWEST_FIRST pending_timeout { seconds: 60 } }"
THREE = "triggering_policy { max_concurrent_invocations: 3 max_batch_size: 1 }"


def explanations(*args: Any, **named: Any) -> list[Explanation]:
    """Return the explanations of a commit without the commit itself."""
    return list(explain_commit(*args, **named).explanations)


def _explain(world: World, revision: str = "a", ref: str = MAIN, **more: Any) -> Explanation:
    (answer,) = explanations(context(world, READER), REPO, revision * (40 // len(revision)), ref, **more)
    return answer


def _answers(world: World, revision: str, jobs: Sequence[JobId]) -> list[Explanation]:
    """Return the explanations of a commit on the main branch, one for each job."""
    answers = explanations(context(world, READER), REPO, revision, MAIN)
    assert sorted(answer.job_id for answer in answers) == sorted(jobs)
    return answers


def _run(world: World) -> None:
    for task in world.queue.take_due(world.clock.now()):
        if task.kind == "deferred":
            world.run_task(task)


def _expect(answer: Explanation, reason: Reason, *words: str) -> None:
    assert answer.reason is reason, answer
    assert answer.sentence.endswith(".")
    for word in words:
        assert word in answer.sentence, answer.sentence


def test_it_runs_in_an_invocation() -> None:
    """The sentence names the invocation and its status; without a ref, the literally watched refs are tried."""
    world = world_for()
    world.commit("a")
    (invocation,) = world.invocations()
    for ref in (MAIN, ""):
        answer = _explain(world, ref=ref)
        _expect(answer, Reason.INVOCATION, str(invocation.id), "RUNNING")
        assert (answer.invocation_id, answer.status, answer.ref) == (invocation.id, "RUNNING", MAIN)
        assert answer.trigger_id == f"{REPO}/+/{MAIN}@{'a' * 40}"
    world.finish()
    world.notify("n1")
    _expect(_explain(world), Reason.INVOCATION, "SUCCEEDED")


def test_it_was_batched_into_an_invocation() -> None:
    """The sentence names the invocation and the commit that it runs; the newest commit counts the older ones."""
    world = world_for()
    for number, revision in enumerate("abc"):
        world.commit(revision, f"m{number}")
    world.finish()
    world.notify("n1")
    newest = world.invocations()[0]
    answer = _explain(world, "b")
    _expect(answer, Reason.BATCHED, f"batched into invocation {newest.id}", "c" * 40, "2 triggers")
    assert (answer.invocation_id, answer.status) == (newest.id, "RUNNING")
    _expect(_explain(world, "c"), Reason.INVOCATION, "together with 1 older trigger")


def test_it_waits_for_a_running_invocation() -> None:
    """The sentence names the invocation and the time."""
    world = world_for()
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.clock.advance(90 * SECOND)
    answer = _explain(world, "b")
    (running,) = world.invocations()
    _expect(answer, Reason.WAITING_FOR_INVOCATION, str(running.id), "since 2026-03-01T12:00:02Z (1m30s)")
    assert answer.waiting_for == (running.id,)
    assert answer.since == world.clock.now() - 90 * SECOND


def test_the_slot_limit_is_reached() -> None:
    """The sentence has the limit and the running invocations."""
    world = world_for(config(policy=THREE))
    for number, revision in enumerate("abcd"):
        world.commit(revision, f"m{number}")
    answer = _explain(world, "d")
    _expect(answer, Reason.SLOT_LIMIT, "the policy allows 3 concurrent invocations")
    assert set(answer.waiting_for) == {item.id for item in world.invocations()}
    assert len(answer.waiting_for) == 3


def test_it_is_pending_although_a_slot_is_free() -> None:
    """The next triage decides: under logarithmic batching, or when one is due."""
    world = world_for()
    trigger = gitiles_trigger(REPO, MAIN, "a" * 40, world.clock.now())
    world.store.commit([CreateTrigger(TriggerRecord(JOB, trigger))])
    _expect(_explain(world), Reason.PENDING, "pending since 2026-03-01T12:00:00Z", "next triage")


def test_the_policy_discarded_it_by_its_age() -> None:
    """The sentence has the policy and the time."""
    world = world_for(config(policy=NEWEST_FIRST))
    world.commit("a", "m1")
    world.commit("b", "m2")
    world.clock.advance(2 * HOUR)
    world.finish()
    world.notify("n1")
    _expect(_explain(world, "b"), Reason.DISCARDED_BY_AGE, "NEWEST_FIRST", "1m0s")


def test_it_was_discarded_as_surplus() -> None:
    """More than a thousand triggers were pending; the oldest are dropped."""
    world = world_for()
    world.commit("a", "m0")
    names = [f"{n:040x}" for n in range(1005)]
    for number, revision in enumerate(names):
        event = CommitEvent(REPO, MAIN, revision)
        world.clock.advance(SECOND)
        on_commit(world.runtime, event, world.clock.now(), f"commit-x{number}")
    world.finish()
    world.notify("n1")
    _expect(_explain(world, names[0]), Reason.DISCARDED_AS_SURPLUS, "more than 1000 triggers were pending")
    assert _explain(world, names[10]).reason in (Reason.BATCHED, Reason.INVOCATION)


def test_the_job_was_paused() -> None:
    """The sentence has the author and the reason while the job is paused."""
    world = world_for()
    pause_job(world.runtime, JOB, f"user:{OWNER}", "too red", "k")
    world.commit("a")
    _expect(_explain(world), Reason.JOB_PAUSED, "the job was paused", f"by {OWNER} (too red)")


def test_an_unrelated_pause_is_not_named_as_the_cause() -> None:
    """Nothing is stored about earlier pauses, so neither a later pause's author nor its reason is shown."""
    world = world_for()
    pause_job(world.runtime, JOB, f"user:{OWNER}", "too red", "k1")
    world.commit("a")
    world.clock.advance(HOUR)
    resume_job(world.runtime, JOB, f"user:{OWNER}", "green", "k2")
    _expect(_explain(world), Reason.JOB_PAUSED, "because the job was paused.")
    world.clock.advance(HOUR)
    pause_job(world.runtime, JOB, "user:another@example.com", "maintenance", "k3")
    _expect(_explain(world), Reason.JOB_PAUSED, "because the job was paused.")
    world.commit("b")
    _expect(_explain(world, "b"), Reason.JOB_PAUSED, "by another@example.com (maintenance)")


def test_a_trigger_pending_at_the_pause() -> None:
    """The pause that discards the trigger is named."""
    world = world_for()
    world.commit("a", "m1")
    world.commit("b", "m2")
    pause_job(world.runtime, JOB, f"user:{OWNER}", "too red", "k")
    world.tick(10)
    _expect(_explain(world, "b"), Reason.JOB_PAUSED, f"by {OWNER} (too red)")


def test_the_job_is_disabled() -> None:
    """The job was removed before the commit arrived, or after."""
    world = world_for()
    world.commit("a", "m1")
    world.commit("b", "m2")
    put_job(world, replace(_job(world), enabled=False))
    world.commit("c", "m3")
    _expect(_explain(world, "c"), Reason.JOB_DISABLED, "removed or disabled")
    _expect(_explain(world, "d"), Reason.JOB_DISABLED, "removed or disabled")
    _expect(_explain(world, "a"), Reason.INVOCATION)


def _job(world: World) -> Job:
    found = world.store.job(JOB)
    assert found is not None
    return found.value


def test_no_path_passes_the_filter() -> None:
    """Gitiles is asked twice for any number of jobs: for the commit, and whether it is on the ref."""
    gitiles = MemoryGitiles()
    (interesting,) = gitiles.push(MAIN, diff=[("", "src/x")])
    (boring,) = gitiles.push(MAIN, diff=[("docs/x", "docs/y")])
    filters = 'refs: "refs/heads/main" path_regexps: "src/.*"'
    world = world_for(config(("job", "b")).replace('refs: "refs/heads/main"', filters), gitiles)
    gitiles.calls.clear()
    jobs = (JOB, JobId("proj/b"))
    for answer in _answers(world, boring, jobs):
        _expect(answer, Reason.PATH_FILTERED, "No file that it changed passes")
    assert len(gitiles.calls) == 2
    for answer in _answers(world, interesting, jobs):
        _expect(answer, Reason.NEVER_ARRIVED)
    for answer in _answers(world, "e" * 40, jobs):
        _expect(answer, Reason.NOT_SERVED, "does not serve the commit", "NOT_FOUND")

    def busy(_: str) -> None:
        raise GitilesError("UNAVAILABLE", "busy", transient=True)

    gitiles.before_call = busy
    for answer in _answers(world, boring, jobs):
        _expect(answer, Reason.NEVER_ARRIVED, "could not be queried: UNAVAILABLE")

    def refuse(_: str) -> None:
        raise GitilesError("PERMISSION_DENIED", "no right", transient=False)

    gitiles.before_call = refuse
    for answer in _answers(world, boring, jobs):
        _expect(answer, Reason.NEVER_ARRIVED, "host refuses the scheduler's account: PERMISSION_DENIED: no right.")


@pytest.mark.parametrize("what", ["path_regexps", "refs"])
def test_the_projects_patterns_cost_too_much(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The event arrived and was discarded, or never arrived: nothing is evaluated beyond the budget."""
    monkeypatch.setattr(commit_filters, "QUICK_UNITS", 200_000)
    monkeypatch.setattr(commit_filters, "PATH_UNITS", 1_000_000)
    monkeypatch.setattr(commit_filters, "REF_UNITS", 60_000)
    gitiles = MemoryGitiles()
    first, second = (gitiles.push(MAIN, diff=[("", "b" * 100)] * 10)[0] for _ in range(2))
    costly = 'refs: "regexp:refs/heads/(a?){900}(a){900}x"' if what == "refs" else 'path_regexps: "(a?){900}(a){900}x"'
    world = world_for(config().replace(f'refs: "{MAIN}"', f'refs: "{MAIN}" {costly}'), gitiles)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, first), world.clock.now(), "k")
    discarded, absent = (explanations(context(world, READER), REPO, item, MAIN)[0] for item in (first, second))
    _expect(discarded, Reason.PATTERNS_TOO_COSTLY, "It was discarded because the project's patterns", "simplify them")
    _expect(absent, Reason.PATTERNS_TOO_COSTLY, "No trigger for it has reached the job", "simplify them")


def test_the_host_never_served_it() -> None:
    """The job waited for the commit; then its trigger was discarded with the host's error."""
    world = world_for(gitiles=MemoryGitiles(), commit_wait_seconds=60)
    event = CommitEvent(REPO, MAIN, "a" * 40)
    published = world.clock.now()
    on_commit(world.runtime, event, published, "k")
    since = (
        "since 2026-03-01T12:00:00Z for the repository to serve the commit. "
        "Next attempt: 2026-03-01T12:00:10Z. The scheduler gives up at 2026-03-01T12:01:00Z."
    )
    waits = _explain(world)
    _expect(waits, Reason.WAITING_FOR_COMMIT, "It has been waiting", since, "NOT_FOUND")
    assert (waits.ref, waits.since) == (MAIN, published)
    assert _explain(world, ref="").reason is Reason.WAITING_FOR_COMMIT
    world.tick(3600)
    _expect(_explain(world), Reason.NOT_SERVED, "does not serve the commit", "NOT_FOUND")


def test_the_commit_is_not_on_the_ref() -> None:
    """The commit waits as if it were not served, and is discarded with its own reason."""
    gitiles = MemoryGitiles()
    (landed,) = gitiles.push(MAIN)
    (review,) = gitiles.push("refs/changes/01/1/1", parents=[landed])
    world = world_for(gitiles=gitiles, commit_wait_seconds=60)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, review), world.clock.now(), "k")
    _expect(_explain(world, review), Reason.WAITING_FOR_COMMIT, f"{MAIN} does not lead to {review}")
    world.tick(3600)
    _expect(_explain(world, review), Reason.NOT_ON_REF, "is not on the ref", f"{MAIN} does not lead to {review}")


def test_the_trigger_is_on_its_way() -> None:
    """One job's part failed, and only that job's explanation reports it."""
    world = world_for(config(("job", "b")))
    commit = world.store.commit

    def fail(writes: Any) -> Any:
        if any(isinstance(write, CreateTrigger) and write.record.job_id == JOB for write in writes):
            raise TransientError("the store hiccups")
        return commit(writes)

    world.store.commit = fail  # type: ignore[method-assign]
    world.commit()
    by_job = {item.job_id: item for item in explanations(context(world, READER), REPO, "a" * 40, MAIN)}
    _expect(by_job[JobId("proj/b")], Reason.INVOCATION)
    _expect(by_job[JOB], Reason.WAITING_FOR_COMMIT, "has been on its way to the job since 2026-03-01T12:00:01Z")


def test_the_ref_is_not_watched() -> None:
    """The sentence names the ref."""
    world = world_for()
    _expect(_explain(world, ref="refs/heads/other"), Reason.REF_NOT_WATCHED, "does not watch refs/heads/other")


def test_the_trigger_was_paused() -> None:
    """Callers who may see the gitiles job read who paused it and why."""
    grants = [
        {"project": "proj", "role": "READER", "realm": "ci", "to": [f"user:{READER}"]},
        {"project": "proj", "role": "OWNER", "to": [f"user:{OWNER}"]},
    ]
    world = world_for(access=json.dumps({"version": 1, "grants": grants}))
    job, poller = _job(world), JobId("proj/poller")
    put_job(world, replace(job, definition=replace(job.definition, realm="ci")))
    world.commit("a", "m1")
    pause_job(world.runtime, poller, f"user:{OWNER}", "too many", "k1")
    world.commit("b", "m2")
    (explanation,) = explanations(context(world, OWNER), REPO, "b" * 40, MAIN)
    _expect(explanation, Reason.TRIGGER_PAUSED, "is paused", f"{poller} was paused by {OWNER} (too many)")
    untold = _explain(world, "b")
    _expect(untold, Reason.TRIGGER_PAUSED, "is paused")
    assert "too many" not in untold.sentence
    assert poller not in untold.sentence
    _expect(_explain(world, "a"), Reason.INVOCATION)
    resume_job(world.runtime, poller, f"user:{OWNER}", "go on", "k2")
    _expect(_explain(world, "b"), Reason.NEVER_ARRIVED)


def test_it_never_arrived() -> None:
    """Nothing is stored about the commit."""
    world = world_for()
    _expect(_explain(world), Reason.NEVER_ARRIVED, "not announced", "90 days")
    _expect(_explain(world, ref=""), Reason.NEVER_ARRIVED)


def test_another_recorded_reason() -> None:
    """Any other reason is shown as it was recorded."""
    world = world_for()
    trigger = gitiles_trigger(REPO, MAIN, "a" * 40, world.clock.now())
    record = TriggerRecord(JOB, trigger, discarded="bad tag", resolved=world.clock.now())
    world.store.commit([CreateTrigger(record)])
    _expect(_explain(world), Reason.DISCARDED, "discarded: bad tag")


def test_the_invocation_is_no_longer_stored() -> None:
    """The trigger's marker may outlive the invocation by some hours."""
    world = world_for()
    world.commit("a")
    path = ("jobs", JOB, "invocations", f"{world.invocations()[0].id:019d}")
    del world.store._documents[path]
    answer = _explain(world)
    _expect(answer, Reason.INVOCATION, "no longer stored")
    assert answer.status == ""


def test_reruns_and_backfills_are_explained() -> None:
    """Reruns and backfills have author and origin, next to the commit's own outcome, even if it never arrived."""
    gitiles = MemoryGitiles()
    first, second = gitiles.push(MAIN, 2)
    world = world_for(config(), gitiles)
    client = Client(world)
    request = {"jobs": [JOB_REF], "repo": REPO, "ref": MAIN, "fromRevision": first, "toRevision": second}
    client.call("BackfillCommits", {**request, "requestId": "k"}, OWNER, "scheduler.Operator")
    _run(world)
    never, filled = explanations(context(world, READER), REPO, second)
    _expect(never, Reason.NEVER_ARRIVED)
    assert (never.origin, never.asked_by) == (Origin.COMMIT, "")
    (invocation,) = world.invocations()
    _expect(filled, Reason.INVOCATION, f"Backfilled by {OWNER}: it runs in invocation {invocation.id}")
    assert (filled.origin, filled.asked_by) == (Origin.BACKFILL, f"user:{OWNER}")
    world.finish()
    world.notify("n1")
    rerun = {"jobRef": JOB_REF, "invocationId": str(invocation.id)}
    client.call("RerunInvocation", {"invocationRef": rerun, "requestId": "r"}, OWNER, "scheduler.Operator")
    event = CommitEvent(REPO, MAIN, second)
    on_commit(world.runtime, event, world.clock.now(), "late")
    _run(world)
    found = explanations(context(world, READER), REPO, second, MAIN)
    assert [item.origin for item in found] == [Origin.COMMIT, Origin.BACKFILL, Origin.RERUN]
    _expect(found[0], Reason.INVOCATION)
    _expect(found[2], Reason.WAITING_FOR_INVOCATION, f"Run again by {OWNER}: it has been pending since")
    assert explanations(context(world, READER), REPO, second, "refs/heads/other")[0].reason is Reason.REF_NOT_WATCHED


def test_triggers_with_arbitrary_content() -> None:
    """Triggers with other IDs are found; those of other repositories, or with an invalid URL, are not."""
    world = world_for()

    def emit(name: str, repo: str) -> None:
        payload = {"repo": repo, "ref": MAIN, "revision": "a" * 40}
        trigger = Trigger(name, world.clock.now(), "gitiles", payload, emitted_by_user=f"user:{OWNER}")
        world.store.commit([CreateTrigger(TriggerRecord(JOB, trigger))])

    emit("mine", f"{REPO}.git")
    emit("mirror", "https://other.googlesource.com/x")
    emit("nonsense", "not a URL")
    never, mine = explanations(context(world, READER), REPO, "a" * 40)
    assert never.reason is Reason.NEVER_ARRIVED
    _expect(mine, Reason.PENDING, f"Emitted by {OWNER}: it has been pending")
    assert mine.origin is Origin.EMITTED
    for number in range(MAX_REQUESTED + 5):
        world.clock.advance(SECOND)
        emit(f"more{number}", REPO)
    answers = explanations(context(world, READER), REPO, "a" * 40)
    assert [item.trigger_id for item in answers[1:]] == [f"more{n}" for n in range(5, MAX_REQUESTED + 5)]


def _crowd(world: World, revision: str) -> None:
    """Emit so many triggers of a commit to other users' job that a search finds nothing else."""
    crowded = JobId("crowd/job")  # before the job in the order of names, in which a search is cut
    put_job(world, Job(crowded, _job(world).definition))
    payload = {"repo": REPO, "ref": MAIN, "revision": revision}
    records = [
        TriggerRecord(crowded, Trigger(f"t{number}", world.clock.now(), "gitiles", payload))
        for number in range(MAX_TRIGGERS)
    ]
    world.store.commit([CreateTrigger(record) for record in records])


def test_many_triggers_do_not_hide_a_commits_own() -> None:
    """No number of triggers elsewhere hides the commit's own; the sentence says that reruns may be missing."""
    world = world_for()
    _crowd(world, "a" * 40)
    world.commit("a")
    for ref in (MAIN, ""):
        answer = _explain(world, ref=ref)
        assert answer.reason is Reason.INVOCATION
        assert (
            "not all of them were searched; reruns, backfills and emitted triggers of it may be missing"
            in answer.sentence
        )


def test_a_trigger_under_a_pattern_of_refs_may_be_missing() -> None:
    """If the ref is named, the commit's trigger on it is looked up."""
    world = world_for(config().replace(f'refs: "{MAIN}"', 'refs: "regexp:refs/heads/.*"'))
    _crowd(world, "a" * 40)
    world.commit("a")
    _expect(
        _explain(world, ref=""), Reason.NEVER_ARRIVED, "the commit's own trigger may be among the others: name the ref"
    )
    assert _explain(world, ref=MAIN).reason is Reason.INVOCATION
    assert "not all were searched" not in _explain(world, "b", ref="").sentence


def test_hidden_jobs_take_up_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut applies to jobs that the caller may see."""
    monkeypatch.setattr("luci_scheduler.api.explain.MAX_JOBS", 1)
    world = world_for()
    found = world.store.watchers(REPO)
    hidden = JobId("a/job")
    put_job(world, Job(hidden, _job(world).definition))
    world.store.commit([PutWatchers(REPO, "a", (replace(found[0], job_id=hidden),))])
    (answer,) = explanations(context(world, READER), REPO, "a" * 40)
    assert answer.job_id == JOB


def test_the_cost_for_a_caller_who_sees_nothing() -> None:
    """No job is read for these callers."""
    grants = [{"project": "other", "role": "READER", "to": [f"user:{READER}"]}]
    world = world_for(access=json.dumps({"version": 1, "grants": grants}))
    for who, cost in ((STRANGER, "0R/0W/0c"), (READER, "1R/0W/0c")):
        assert explanations(context(world, who), REPO, "a" * 40) == []
        assert world.counted() == cost


def test_every_reason_is_in_this_file() -> None:
    """A new reason needs a test."""
    from pathlib import Path

    text = Path(__file__).read_text(encoding="utf-8")
    assert [reason for reason in Reason if f"Reason.{reason.name}" not in text] == []


def test_spellings_of_a_repository_and_invisible_jobs() -> None:
    """Any spelling works; jobs that the caller may not see are left out."""
    world = world_for()
    world.commit("a")
    (answer,) = explanations(context(world, READER), f"{REPO}.git", "a" * 40)
    assert answer.reason is Reason.INVOCATION
    assert explanations(context(world, STRANGER), REPO, "a" * 40) == []
    assert explanations(context(world, READER), "https://other.googlesource.com/x", "a" * 40) == []


@pytest.mark.parametrize(
    ("repo", "revision", "ref"),
    [(REPO, "main^!", ""), (REPO, "a" * 40, "main"), ("https://evil.example.com/x", "a" * 40, "")],
)
def test_bad_explain_requests(repo: str, revision: str, ref: str) -> None:
    """Bad arguments are refused before any read."""
    world = world_for()
    with pytest.raises(ApiError):
        explanations(context(world), repo, revision, ref)
    assert world.counted() == "0R/0W/0c"


def test_the_cost_does_not_grow_with_the_history() -> None:
    """One read for the watchers; for each job one each for itself, its ref, its trigger and its invocation."""
    for commits in (1, 40):
        world = world_for(config(("job", "b", "c")))
        for number in range(commits):
            world.commit("a" if number == 0 else "b", f"m{number}")
            world.clock.advance(DAY)
        world.counted()
        explanations(context(world), REPO, "a" * 40)
        assert world.counted() == "13R/0W/0c"


_POLLED = f"""
trigger {{
  id: "poller" schedule: "with 10m interval" gitiles {{ repo: "{REPO}" %s }} triggers: "job" triggers: "b"
}}
job {{ id: "job" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "job" }} }}
job {{ id: "b" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }} }}
"""
_POLLER = JobId("proj/poller")


def _polled(gitiles: MemoryGitiles, refs: str = 'refs: "refs/heads/main"', **more: Any) -> World:
    """Return a world whose poller has polled once."""
    world = world_for(_POLLED % refs, gitiles, **more)
    world.tick(601)
    world.tick(1)
    return world


def _of(world: World, revision: str, ref: str = "", job: JobId = JOB, who: str = READER) -> Explanation:
    (answer,) = [item for item in explanations(context(world, who), REPO, revision, ref) if item.job_id == job]
    return answer


@pytest.mark.parametrize("ref", ["", MAIN])
@pytest.mark.parametrize("refs", ['refs: "refs/heads/main"', 'refs: "regexp:refs/heads/main"'])
def test_it_was_not_polled_yet(ref: str, refs: str) -> None:
    """The sentence has the time of the next poll, which then finds the commit. A generated config has a pattern."""
    gitiles = MemoryGitiles()
    gitiles.push(MAIN)
    world = _polled(gitiles, refs)
    (revision,) = gitiles.push(MAIN)
    world.clock.advance(60 * SECOND)
    answer = _of(world, revision, ref)
    _expect(answer, Reason.NOT_POLLED, f"{_POLLER} has not polled since the commit landed on {MAIN}", "(in 8m59s)")
    found = world.store.job(_POLLER)
    assert found is not None
    assert (answer.poll_job, answer.next_poll) == (_POLLER, found.value.cron.last_tick_when)
    world.tick(600)
    for _ in range(3):
        world.tick(1)
    _expect(_of(world, revision, ref), Reason.WAITING_FOR_INVOCATION)


def test_the_last_poll_failed() -> None:
    """The sentence has the reason of the failure, and the answer names the poll's invocation."""
    gitiles = MemoryGitiles()
    gitiles.push(MAIN)
    world = _polled(gitiles)
    (revision,) = gitiles.push(MAIN)

    def busy(call: str) -> None:
        if call.startswith("refs"):
            raise GitilesError("UNAVAILABLE", "HTTP 503: busy", transient=True)

    gitiles.before_call = busy
    for _ in range(2):
        world.tick(601)
        world.tick(1)
    (failed,) = list(world.store.invocations(_POLLER, 1))
    answer = _of(world, revision)
    _expect(answer, Reason.POLL_FAILED, f"The last poll of {_POLLER} failed at", "UNAVAILABLE: HTTP 503: busy", "next")
    assert (answer.poll_job, answer.poll_invocation) == (_POLLER, failed.id)
    found = world.store.job(_POLLER)
    assert found is not None
    put_job(world, replace(found.value, failed_polls=22))
    assert ", as did the 21 polls before it: " in _of(world, revision).sentence


def test_it_landed_before_the_first_poll() -> None:
    """The poll knows the ref beyond the commit, but emitted no trigger for it."""
    gitiles = MemoryGitiles()
    old, _ = gitiles.push(MAIN, 2)
    world = _polled(gitiles)
    _expect(_of(world, old), Reason.NEVER_ARRIVED, f"{_POLLER} knows {MAIN} beyond this commit", "90 days")


def test_the_tag_existed() -> None:
    """A poll that first matches a tag gives it no trigger."""
    gitiles = MemoryGitiles()
    (revision,) = gitiles.push("refs/tags/v1")
    world = _polled(gitiles, 'refs: "regexp:refs/tags/v.*"')
    _expect(_of(world, revision, "refs/tags/v1"), Reason.TAG_EXISTED, "gets no trigger", "backfill")


def test_it_is_on_a_ref_that_the_pattern_does_not_cover() -> None:
    """The trigger of the other job has the ref, so the question needs none."""
    gitiles = MemoryGitiles()
    (revision,) = gitiles.push(MAIN)
    text = f"""
    trigger {{ id: "a" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "{MAIN}" }} triggers: "job" }}
    trigger {{
      id: "b" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "regexp:refs/heads/release-.*" }} triggers: "other"
    }}
    job {{ id: "job" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "job" }} }}
    job {{ id: "other" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "other" }} }}
    """
    world = world_for(text, gitiles)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, revision), world.clock.now(), "k")
    answer = _of(world, revision, job=JobId("proj/other"))
    _expect(answer, Reason.REF_NOT_WATCHED, f"The commit is on {MAIN}", "only regexp:refs/heads/release-.*")
    (unannounced,) = gitiles.push(MAIN)
    answer = _of(world, unannounced, job=JobId("proj/other"))
    _expect(answer, Reason.REF_NOT_WATCHED, f"The commit is on {MAIN}")


def test_it_is_on_none_of_the_jobs_refs() -> None:
    """A commit under review, or of another branch. Its subject and its files are not shown."""
    gitiles = MemoryGitiles()
    gitiles.push(MAIN)
    (review,) = gitiles.push("refs/changes/01/1/1", diff=[("", "secret/file")])
    world = _polled(gitiles, f'refs: "{MAIN}" path_regexps: "src/.*"')
    for ref in ("", MAIN):
        _expect(_of(world, review, ref), Reason.NOT_ON_REF, f"The commit is not on {MAIN}, which the job watches")
    facts = explain_commit(context(world), REPO, review).facts
    assert (facts.revision, facts.commit) == (review, None)


def test_an_unknown_commit_gets_one_answer() -> None:
    """Jobs with and without path filters say the same."""
    gitiles = MemoryGitiles()
    gitiles.push(MAIN)
    text = (
        _POLLED % f'refs: "{MAIN}"'
        + f"""
    trigger {{
      id: "docs" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "{MAIN}" path_regexps: "docs/.*" }} triggers: "c"
    }}
    job {{ id: "c" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "c" }} }}
    """
    )
    world = world_for(text, gitiles)
    answers = explanations(context(world), REPO, "0" * 40)
    assert len(answers) == 3
    assert {(item.reason, item.sentence) for item in answers} == {(Reason.NOT_SERVED, answers[0].sentence)}


def test_files_and_patterns_of_a_path_filter() -> None:
    """The sentence names the files and the pattern that decided, if the caller may see the gitiles job."""
    gitiles = MemoryGitiles()
    gitiles.push(MAIN)
    world = _polled(gitiles, f'refs: "{MAIN}" path_regexps: "src/.*" path_regexps_exclude: "src/gen/.*"')
    files = [("docs/a.md", "docs/a.md"), ("", "src/gen/x.cc"), *[("", f"t/{number}") for number in range(4)]]
    (revision,) = gitiles.push(MAIN, diff=files)
    _expect(
        _of(world, revision),
        Reason.PATH_FILTERED,
        "docs/a.md, t/0, t/1 and 2 more match no path_regexps (src/.*); "
        "src/gen/x.cc matches path_regexps_exclude (src/gen/.*).",
    )
    (merge,) = gitiles.push(MAIN, diff=[])
    _expect(_of(world, merge), Reason.PATH_FILTERED, "Like most merges, it changed no files itself")
    grants = [{"project": "proj", "role": "READER", "realm": "ci", "to": [f"user:{READER}"]}]
    world = _polled(
        gitiles, f'refs: "{MAIN}" path_regexps: "lib/.*"', access=json.dumps({"version": 1, "grants": grants})
    )
    put_job(world, replace(_job(world), definition=replace(_job(world).definition, realm="ci")))
    assert _of(world, revision).sentence == "No file that it changed passes the job's path filter."


def test_the_host_is_asked_few_questions() -> None:
    """For any number of jobs and refs; a host that fails is not asked again."""
    gitiles = MemoryGitiles()
    for number in range(12):
        gitiles.push(f"refs/heads/b{number}")
    world = _polled(gitiles, " ".join(f'refs: "refs/heads/b{number}"' for number in range(12)))
    (revision,) = gitiles.push("refs/heads/b1", diff=[("", "x")])
    gitiles.calls.clear()
    answer = explain_commit(context(world), REPO, revision)
    assert len(gitiles.calls) == 1 + 4 + 1
    assert answer.facts.commit is not None
    assert (answer.facts.commit.subject, answer.facts.commit.diff) == ("Change 12", (("", "x"),))

    def down(_: str) -> None:
        raise GitilesError("UNAVAILABLE", "down", transient=True)

    gitiles.calls.clear()
    gitiles.before_call = down
    answer = explain_commit(context(world), REPO, revision)
    assert len(gitiles.calls) == 1
    assert answer.facts.problem == "UNAVAILABLE: down"
    assert len(answer.explanations) == 2

    def soon_down(call: str) -> None:
        if ".." in call:
            down(call)

    gitiles.calls.clear()
    gitiles.before_call = soon_down
    answer = explain_commit(context(world), REPO, revision)
    assert len(gitiles.calls) == 2
    assert {item.reason for item in answer.explanations} == {Reason.NEVER_ARRIVED}


def test_over_the_api() -> None:
    """The message has the same values."""
    world = world_for()
    world.commit("a", "m1")
    world.commit("b", "m2")
    request = {"repo": REPO, "revision": "b" * 40, "ref": MAIN}
    reply = Client(world).call("ExplainCommit", request, READER, "scheduler.Operator")
    (item,) = reply["explanations"]
    assert reply["commit"]["revision"] == "b" * 40
    assert item["reason"] == "WAITING_FOR_INVOCATION"
    assert item["waitingFor"] == [str(world.invocations()[0].id)]
    assert item["jobRef"] == {"project": "proj", "job": "job"}


def test_a_job_that_several_triggers_lead_to_is_explained_once() -> None:
    """The trigger that got furthest decides."""
    text = f"""
    trigger {{ id: "a" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "{MAIN}" }} triggers: "job" }}
    trigger {{ id: "b" schedule: "triggered" gitiles {{ repo: "{REPO}.git" refs: "refs/heads/x" }} triggers: "job" }}
    job {{ id: "job" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "job" }} }}
    """
    world = world_for(text)
    on_commit(world.runtime, CommitEvent(REPO, "refs/heads/x", "a" * 40), world.clock.now(), "k1")
    on_commit(world.runtime, CommitEvent(REPO, MAIN, "a" * 40), world.clock.now(), "k2")
    (answer,) = explanations(context(world), REPO, "a" * 40)
    assert (answer.reason, answer.ref) == (Reason.INVOCATION, "refs/heads/x")
    (answer,) = explanations(context(world), REPO, "a" * 40, MAIN)
    assert answer.reason is Reason.WAITING_FOR_INVOCATION
