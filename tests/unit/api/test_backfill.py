"""Backfill: the commits, the jobs, and idempotence."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.instants import HOUR
from luci_scheduler.ports import GitilesError
from tests.unit.api.support import OWNER, Client, world_for
from tests.unit.engine.world import REPO, World, config

MAIN = "refs/heads/main"
REF = {"project": "proj", "job": "job"}
OPERATOR = "scheduler.Operator"
ONE_EACH = "triggering_policy { max_concurrent_invocations: 99 max_batch_size: 1 }"


def _world(commits: int = 6, policy: str = ONE_EACH) -> tuple[World, MemoryGitiles, list[str]]:
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, commits)
    return world_for(config(("job", "b"), policy), gitiles), gitiles, hashes


def _request(hashes: list[str], **changes: Any) -> dict[str, Any]:
    request = {
        "jobs": [REF], "repo": f"{REPO}.git", "ref": MAIN, "requestId": "k",
        "fromRevision": hashes[0], "toRevision": hashes[-1],
    }  # fmt: skip
    return {**request, **changes}


def test_a_preview_lists_the_commits_and_emits_nothing() -> None:
    """Oldest first, without the first revision, and with a note about each job's policy."""
    world, _, hashes = _world(policy="")
    reply = Client(world).call("BackfillCommits", _request(hashes, preview=True, requestId=""), OWNER, OPERATOR)
    assert [item["revision"] for item in reply["commits"]] == hashes[1:]
    assert "GREEDY_BATCHING" in reply["jobs"][0]["note"]
    assert "Up to 1000 commits share an invocation" in reply["jobs"][0]["note"]
    assert "emitted" not in reply
    assert world.queue.tasks == []
    assert world.store.counts["W"] == 0


def test_five_times_at_once_with_one_key_is_one_trigger_for_each_commit() -> None:
    """Oldest first, in the config's spelling of the repository; the same request hours later has no second effect."""
    world, _, hashes = _world()
    client = Client(world)
    with ThreadPoolExecutor(5) as pool:
        for future in [
            pool.submit(client.call, "BackfillCommits", _request(hashes), OWNER, OPERATOR) for _ in range(5)
        ]:
            assert future.result()["emitted"]
    _run(world)
    world.clock.advance(5 * HOUR)
    client.call("BackfillCommits", _request(hashes), OWNER, OPERATOR)
    _run(world)
    triggers = [item.incoming_triggers[0] for item in world.invocations()]
    assert sorted(trigger.payload["revision"] for trigger in triggers) == sorted(hashes[1:])
    assert [
        trigger.payload["revision"] for trigger in sorted(triggers, key=lambda item: item.order_in_batch)
    ] == hashes[1:]
    assert {trigger.payload["repo"] for trigger in triggers} == {REPO}
    assert {trigger.emitted_by_user for trigger in triggers} == {f"user:{OWNER}"}


def test_commits_that_have_run_run_again() -> None:
    """Commits that have run before run again; another key runs them once more."""
    world, _, hashes = _world(2)
    client = Client(world)
    for key in ("k1", "k2"):
        client.call("BackfillCommits", _request(hashes, requestId=key), OWNER, OPERATOR)
        _run(world)
    assert len(world.invocations()) == 2


def _run(world: World) -> None:
    for task in world.queue.take_due(world.clock.now()):
        if task.kind == "deferred":
            world.run_task(task)


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"jobs": []}, 400, "jobs must name 1 to 10 jobs"),
        ({"jobs": [{"project": "proj", "job": f"j{n}"} for n in range(11)]}, 400, "jobs must name 1 to 10 jobs"),
        ({"fromRevision": "main..x"}, 400, "from_revision must be a hash, a branch"),
        ({"toRevision": "0" * 40}, 400, "to_revision is the hash of a deleted ref"),
        ({"toRevision": "nowhere"}, 404, f"{REPO} has no commit with this name: to_revision 'nowhere'"),
        ({"ref": "main"}, 400, "ref must be a full ref name"),
        ({"repo": "https://169.254.169.254/x"}, 400, "repo: only .googlesource.com repos are supported"),
        (
            {"repo": "https://secret.googlesource.com/x"},
            400,
            "job proj/job does not watch refs/heads/main of https://secret",
        ),
        ({"ref": "refs/heads/private"}, 400, "job proj/job does not watch refs/heads/private"),
        ({"jobs": [REF, {"project": "proj", "job": "poller"}]}, 400, "job proj/poller does not watch"),
        ({"ref": "refs/heads/main..x"}, 400, "ref must be a full ref name"),
        ({"ref": "refs/heads/main^"}, 400, "ref must be a full ref name"),
        ({"toRevision": "f" * 40}, 404, "the repository has no commits"),
        ({"requestId": ""}, 400, "request_id must have"),
    ],
)
def test_bad_requests(changes: dict[str, Any], status: int, text: str) -> None:
    """Nothing is emitted, and only repositories that the jobs watch are queried."""
    world, gitiles, hashes = _world()
    gitiles.calls.clear()
    answer = Client(world).post("BackfillCommits", _request(hashes, **changes), OWNER, OPERATOR)
    assert (answer.status_code, answer.get_data(as_text=True)[: len(text)]) == (status, text)
    assert world.queue.tasks == []
    assert bool(gitiles.calls) == (status == 404)


@pytest.mark.parametrize("preview", [True, False])
def test_commits_that_are_not_on_the_ref_are_refused(preview: bool) -> None:
    """A commit in code review has not landed under any name, so even a preview does not list it."""
    world, gitiles, hashes = _world()
    (review,) = gitiles.push("refs/changes/01/1/1", parents=[hashes[-1]])
    client = Client(world)
    answer = client.post("BackfillCommits", _request(hashes, toRevision=review, preview=preview), OWNER, OPERATOR)
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (400, "9")
    assert answer.get_data(as_text=True) == f"to_revision {review} is not on {MAIN} of {REPO}\n"
    assert world.queue.tasks == []
    gitiles.push(MAIN, parents=[hashes[-1], review])  # merged
    reply = client.call("BackfillCommits", _request(hashes, toRevision=review, preview=preview), OWNER, OPERATOR)
    assert [item["revision"] for item in reply["commits"]] == [*hashes[1:], review]


def test_a_range_that_is_too_long_is_refused_as_a_whole() -> None:
    """A cut range would look complete."""
    world, _, hashes = _world(102)
    client = Client(world)
    answer = client.post("BackfillCommits", _request(hashes), OWNER, OPERATOR)
    assert answer.data == b"the range has more than 100 commits: backfill it in parts\n"
    assert len(client.call("BackfillCommits", _request(hashes[1:]), OWNER, OPERATOR)["commits"]) == 100


def test_an_empty_range_emits_nothing() -> None:
    """The range from a commit to itself is empty."""
    world, _, hashes = _world()
    assert "commits" not in Client(world).call("BackfillCommits", _request(hashes[:1]), OWNER, OPERATOR)
    assert world.queue.tasks == []


@pytest.mark.parametrize(("transient", "status"), [(True, 503), (False, 400)])
def test_gitiles_fails(transient: bool, status: int) -> None:
    """A temporary failure is retryable; a permanent failure is reported."""
    world, gitiles, hashes = _world()

    def fail(_: str) -> None:
        raise GitilesError("PERMISSION_DENIED", "no", transient=transient)

    gitiles.before_call = fail
    assert Client(world).post("BackfillCommits", _request(hashes), OWNER, OPERATOR).status_code == status
    assert world.queue.tasks == []


def test_a_paused_job_is_previewed_and_refused() -> None:
    """The preview gives the reason."""
    world, _, hashes = _world()
    client = Client(world)
    client.call("PauseJob", REF)
    reply = client.call("BackfillCommits", _request(hashes, preview=True), OWNER, OPERATOR)
    assert reply["jobs"][0]["note"] == "The job is paused: resume it first."
    answer = client.post("BackfillCommits", _request(hashes), OWNER, OPERATOR)
    assert answer.data == b"Cannot trigger a paused job. Resume it first.\n"


def test_the_cost_of_a_backfill() -> None:
    """One read for each job, one for the watchers, two for the key; two calls to Gitiles; a task for each job."""
    world, gitiles, hashes = _world()
    gitiles.calls.clear()
    world.store.counts.clear()
    Client(world).call(
        "BackfillCommits", _request(hashes, jobs=[REF, {"project": "proj", "job": "b"}]), OWNER, OPERATOR
    )
    assert world.counted() == "5R/2W/2c"
    assert gitiles.calls == [f"log {MAIN}..{hashes[-1]} n=1", f"log {hashes[0]}..{hashes[-1]} n=101"]
    assert len(world.queue.tasks) == 2
