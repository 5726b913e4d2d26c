"""Revisions as people write them: the syntax, the host's answers, and the methods that take them."""

from typing import Any

import pytest

from emulator.memory.gitiles import AnyCommit, MemoryGitiles
from luci_scheduler.api.commit_trigger import WantedCommit, trigger_at_commit
from luci_scheduler.api.errors import ApiError, Code
from luci_scheduler.api.explain import explain_commit
from luci_scheduler.api.revisions import MAX_EXPRESSION, check_expression, resolve_revision
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.ports import GitilesError
from tests.unit.api.support import OWNER, STRANGER, Client, context, world_for
from tests.unit.engine.world import JOB, REPO, World, config

MAIN = "refs/heads/main"
REF = {"project": "proj", "job": "job"}
OPERATOR = "scheduler.Operator"


def _world() -> tuple[World, MemoryGitiles, list[str]]:
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 4)
    gitiles.heads["refs/heads/wip/a-b"] = hashes[1]
    gitiles.tag("refs/tags/v1", hashes[2])
    return world_for(config(), gitiles), gitiles, hashes


def test_names_and_steps() -> None:
    """Branches, tags, full refs and HEAD, and steps along parents: one call to the host."""
    world, gitiles, hashes = _world()
    expected = {
        "main": 3, "HEAD": 3, "refs/heads/main": 3, "wip/a-b": 1, "v1": 2, "refs/tags/v1": 2,
        "HEAD~": 2, "main~2": 1, "main~1^": 1, "main^0": 3, "v1^^": 0, "main~0": 3,
    }  # fmt: skip
    for expression, place in expected.items():
        gitiles.calls.clear()
        assert resolve_revision(context(world), parse_repo_url(REPO), expression) == hashes[place]
        assert gitiles.calls == [f"resolve {expression}"]


def test_the_beginning_of_a_hash() -> None:
    """Seven digits suffice, in upper case too; a full hash needs no call and is not looked up."""
    world, gitiles, hashes = _world()
    repo = parse_repo_url(REPO)
    for text in (hashes[1][:7], hashes[1][:7].upper()):
        assert resolve_revision(context(world), repo, text) == hashes[1]
    gitiles.calls.clear()
    assert (
        resolve_revision(context(world), repo, "e" * 40) == resolve_revision(context(world), repo, "E" * 40) == "e" * 40
    )
    assert gitiles.calls == []


@pytest.mark.parametrize(
    "text",
    [
        "", " main", "main ", "a b", "a..b", "main..", "^main", "~1", "-x", "--all", "main:file", "main@{1}", "@{u}",
        "main^{commit}", "main^!", "a\nb", "a\x00b", "a*b", "a?b", "a[b", "a\\b", "/main", "main/", "a//b", ".a",
        "a/.b", "a.lock", "x.", "main~12345", "a" * (MAX_EXPRESSION + 1), "a+b", "main~x", "\u202emain",
    ],
)  # fmt: skip
def test_bad_expressions(text: str) -> None:
    """The error names the field."""
    with pytest.raises(ApiError, match="to_revision must be a hash, a branch, a tag or HEAD") as raised:
        check_expression(text, "to_revision")
    assert raised.value.code == Code.INVALID_ARGUMENT


def test_a_bad_expression_is_refused_before_any_call() -> None:
    """Neither the store nor the host is asked."""
    world, gitiles, _ = _world()
    world.store.counts.clear()
    for act in (
        lambda: resolve_revision(context(world), parse_repo_url(REPO), "a..b"),
        lambda: explain_commit(context(world), REPO, "a..b"),
        lambda: trigger_at_commit(context(world), JOB, WantedCommit(REPO, MAIN, "a..b"), "k"),
    ):
        with pytest.raises(ApiError, match="revision must be a hash"):
            act()
    assert gitiles.calls == []
    assert world.counted() == "0R/0W/0c"


@pytest.mark.parametrize("text", ["a.b", "feature/x@y", "release-1.2", "ünï", "12", "a~9999", "m100"])
def test_good_names(text: str) -> None:
    """Everything that git allows in a name, apart from the few characters that have another meaning."""
    check_expression(text)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (GitilesError("NOT_FOUND", "HTTP 404", transient=False), Code.NOT_FOUND, "has no commit with this name"),
        (GitilesError("INVALID_ARGUMENT", "HTTP 400", transient=False), Code.INVALID_ARGUMENT, "is ambiguous or"),
        (GitilesError("PERMISSION_DENIED", "x", transient=False), Code.FAILED_PRECONDITION, "could not be resolved in"),
        (GitilesError("UNAVAILABLE", "HTTP 503", transient=True), None, "did not answer .UNAVAILABLE: HTTP 503"),
    ],
)
def test_errors_name_the_repository_and_the_expression(error: GitilesError, kind: Code | None, words: str) -> None:
    """A transient failure can be retried; any other is an answer."""
    world, gitiles, _ = _world()

    def fail(_: str) -> None:
        raise error

    gitiles.before_call = fail
    with pytest.raises((ApiError, TransientError), match=words) as raised:
        resolve_revision(context(world), parse_repo_url(REPO), "abc", "from_revision")
    assert getattr(raised.value, "code", None) == kind
    assert REPO in str(raised.value)
    assert "from_revision 'abc'" in str(raised.value)


def test_the_beginning_of_two_hashes_is_ambiguous() -> None:
    """The host decides, and the answer asks for more digits."""
    world, gitiles, _ = _world()
    hashes = gitiles.push("refs/heads/many", 700)
    beginnings = [item[:4] for item in hashes]
    twice = next(item for item in beginnings if beginnings.count(item) > 1)
    with pytest.raises(ApiError, match="add digits, or name a branch") as raised:
        resolve_revision(context(world), parse_repo_url(REPO), twice)
    assert raised.value.code == Code.INVALID_ARGUMENT


def test_a_commit_is_explained_by_an_expression() -> None:
    """The answer is that of the hash."""
    world, _, hashes = _world()
    on_commit(world.runtime, CommitEvent(REPO, MAIN, hashes[-1]), world.clock.now(), "k")
    for text in (hashes[-1], hashes[-1][:8], "main", "HEAD"):
        (answer,) = explain_commit(context(world), REPO, text).explanations
        assert hashes[-1] in answer.trigger_id
    with pytest.raises(ApiError, match="has no commit with this name: revision 'nope'"):
        explain_commit(context(world), REPO, "nope")


def test_nothing_is_resolved_for_a_caller_without_a_grant() -> None:
    """A stranger learns nothing about a repository, and causes no call to its host."""
    world, gitiles, _ = _world()
    assert explain_commit(context(world, STRANGER), REPO, "main").explanations == ()
    request = {
        "jobs": [REF],
        "repo": REPO,
        "ref": MAIN,
        "fromRevision": "main~1",
        "toRevision": "main",
        "preview": True,
    }
    assert Client(world).post("BackfillCommits", request, STRANGER, OPERATOR).status_code == 404
    assert gitiles.calls == []


def test_a_backfill_names_the_range_that_it_resolved() -> None:
    """The reply has both hashes, so that the caller can repeat the request although the branch moves."""
    world, gitiles, hashes = _world()
    request: dict[str, Any] = {
        "jobs": [REF], "repo": REPO, "ref": MAIN, "fromRevision": "main~2", "toRevision": "HEAD", "requestId": "k"
    }  # fmt: skip
    reply = Client(world).call("BackfillCommits", {**request, "preview": True}, OWNER, OPERATOR)
    assert (reply["fromRevision"], reply["toRevision"]) == (hashes[1], hashes[3])
    assert [item["revision"] for item in reply["commits"]] == hashes[2:]
    gitiles.calls.clear()
    Client(world).call("BackfillCommits", request, OWNER, OPERATOR)
    assert gitiles.calls[:2] == ["resolve main~2", "resolve HEAD"]


def test_a_gitiles_that_knows_every_commit_knows_every_name() -> None:
    """A hash names itself."""
    repo = parse_repo_url(REPO)
    assert AnyCommit().resolve(repo, "a" * 40) == "a" * 40
    assert len(AnyCommit().resolve(repo, "main")) == 40


def test_a_job_is_triggered_for_a_commit() -> None:
    """The same request has one effect; the invocation has the commit's trigger, in the config's spelling."""
    world, _, hashes = _world()
    request = {"jobRef": REF, "requestId": "k", "repo": f"{REPO}.git", "ref": MAIN, "revision": "main~1"}
    for _ in range(2):
        (name,) = Client(world).call("TriggerJob", request, OWNER, OPERATOR)["triggerIds"]
    world.tick(2)
    (invocation,) = world.invocations()
    (trigger,) = invocation.incoming_triggers
    assert (trigger.id, trigger.payload["revision"], trigger.payload["repo"]) == (name, hashes[2], REPO)
    assert trigger.emitted_by_user == f"user:{OWNER}"


@pytest.mark.parametrize("refs", [MAIN, f"regexp:{MAIN}"])
def test_the_config_names_the_repository_and_the_ref(refs: str) -> None:
    """Both may be left out if the jobs that trigger the job watch one repository and one ref by its name."""
    _, gitiles, hashes = _world()
    world = world_for(config().replace(f'"{MAIN}"', f'"{refs}"'), gitiles)
    request = {"jobRef": REF, "requestId": "k", "revision": "HEAD"}
    assert (
        Client(world)
        .call("TriggerJob", request, OWNER, OPERATOR)["triggerIds"][0]
        .startswith(f"{REPO}/+/{MAIN}@{hashes[3]}#trigger:")
    )


def test_the_revision_names_the_branch_if_the_job_watches_a_pattern() -> None:
    """A hash has no branch, so the ref must be given with it."""
    gitiles = MemoryGitiles()
    (main,), (other,) = gitiles.push(MAIN), gitiles.push("refs/heads/x/y")
    world = world_for(config().replace('"refs/heads/main"', '"regexp:refs/heads/.*"'), gitiles)
    for revision, ref, found in (("HEAD", MAIN, main), ("x/y", "refs/heads/x/y", other)):
        request = {"jobRef": REF, "requestId": revision, "revision": revision}
        (name,) = Client(world).call("TriggerJob", request, OWNER, OPERATOR)["triggerIds"]
        assert name.startswith(f"{REPO}/+/{ref}@{found}#trigger:")
    answer = Client(world).post("TriggerJob", {**request, "revision": main[:8]}, OWNER, OPERATOR)
    assert (answer.status_code, "ref must be given" in answer.get_data(as_text=True)) == (400, True)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"revision": ""}, 400, "revision must be a hash"),
        ({"revision": "0" * 40}, 400, "revision is the hash of a deleted ref"),
        ({"repo": "x"}, 400, "repo: "),
        ({"repo": "https://o.googlesource.com/x", "ref": ""}, 400, "ref must be given: the job watches none"),
        ({"ref": "main"}, 400, "ref must be a full ref name"),
        ({"ref": "refs/heads/other"}, 400, "job proj/job does not watch refs/heads/other"),
        ({"revision": "wip/c"}, 400, "is not on refs/heads/main"),
        ({"revision": "nope"}, 404, "has no commit with this name"),
        ({"jobRef": {"project": "proj", "job": "none"}}, 404, "no such job"),
    ],
)
def test_a_job_is_not_triggered_for_every_commit(changes: dict[str, Any], status: int, words: str) -> None:
    """A job runs only commits of the refs that it watches."""
    world, gitiles, hashes = _world()
    gitiles.push("refs/heads/wip/c", parents=[hashes[0]])
    request = {"jobRef": REF, "requestId": "k", "repo": REPO, "ref": MAIN, "revision": "main", **changes}
    answer = Client(world).post("TriggerJob", request, OWNER, OPERATOR)
    assert answer.status_code == status
    assert words in answer.get_data(as_text=True)
    assert world.queue.tasks == []
