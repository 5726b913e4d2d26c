"""Gitiles in memory: histories of commits, tags and forgotten commits, in pages."""

from __future__ import annotations

import pytest

from emulator.memory.gitiles import AnyCommit, MemoryGitiles
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.ports import GitilesError

REPO = parse_repo_url("https://r.googlesource.com/repo")
MAIN = "refs/heads/main"


def _ids(gitiles: MemoryGitiles, revision: str, **arguments: object) -> list[str]:
    page = gitiles.log(REPO, revision, **{"limit": 100, **arguments})  # type: ignore[arg-type]
    return [commit.id for commit in page.commits]


def test_a_push_moves_the_ref_and_its_log() -> None:
    """Commits are a second apart, newest first in the log."""
    gitiles = MemoryGitiles()
    first, second, third = gitiles.push(MAIN, 3)
    assert gitiles.refs(REPO, "refs/heads") == {MAIN: third}
    assert _ids(gitiles, third) == [third, second, first]
    commits = gitiles.log(REPO, third, limit=2).commits
    assert commits[0].committed - commits[1].committed == SECOND


def test_a_commit_can_have_a_time_and_paths() -> None:
    """Paths are listed only on request."""
    gitiles = MemoryGitiles()
    (commit,) = gitiles.push(MAIN, diff=[("", "new.txt")], at=7 * SECOND)
    (plain,) = gitiles.log(REPO, commit, limit=1).commits
    (full,) = gitiles.log(REPO, commit, limit=1, diffs=True).commits
    assert (plain.committed, plain.diff) == (7 * SECOND, ())
    assert full.diff == (("", "new.txt"),)


def test_pages_of_a_log() -> None:
    """Each page names the first commit of the next one; the last page names none."""
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 5)[::-1]
    page = gitiles.log(REPO, hashes[0], limit=2)
    assert (page.commits[0].id, page.next) == (hashes[0], hashes[2])
    last = gitiles.log(REPO, hashes[0], limit=3, start=page.next)
    assert [commit.id for commit in last.commits] == hashes[2:]
    assert last.next == ""
    with pytest.raises(GitilesError, match="NOT_FOUND"):
        gitiles.log(REPO, hashes[0], limit=3, start="f" * 40)


def test_excluded_commits_are_left_out_with_their_ancestors() -> None:
    """A ref can be excluded as well as a hash."""
    gitiles = MemoryGitiles()
    old, *_, new = gitiles.push(MAIN, 4)
    assert old not in _ids(gitiles, new, exclude=old)
    assert len(_ids(gitiles, new, exclude=old)) == 3
    gitiles.heads["refs/heads/release"] = old
    assert len(_ids(gitiles, new, exclude="refs/heads/release")) == 3


def test_a_merge_has_the_history_of_both_parents() -> None:
    """Each commit is listed once."""
    gitiles = MemoryGitiles()
    (base,) = gitiles.push(MAIN)
    (left,) = gitiles.push("refs/heads/left", parents=[base])
    (right,) = gitiles.push("refs/heads/right", parents=[base])
    (merge,) = gitiles.push(MAIN, parents=[left, right])
    assert _ids(gitiles, merge) == [merge, right, left, base]


def test_a_tag_points_to_an_object_whose_log_is_its_commit_s() -> None:
    """A tag names its object and its commit, as an annotated tag does."""
    gitiles = MemoryGitiles()
    (commit,) = gitiles.push(MAIN)
    tag = gitiles.tag("refs/tags/v1", commit)
    assert gitiles.refs(REPO, "refs/tags") == {"refs/tags/v1": tag}
    assert tag != commit
    assert _ids(gitiles, tag) == [commit]


def test_a_forgotten_commit_is_not_found() -> None:
    """A forgotten commit and an unknown hash are not found; the error is final."""
    gitiles = MemoryGitiles()
    (commit,) = gitiles.push(MAIN)
    gitiles.forget(commit)
    for revision in (commit, "0" * 40):
        with pytest.raises(GitilesError, match="NOT_FOUND") as raised:
            gitiles.log(REPO, revision, limit=1)
        assert not raised.value.transient


def test_calls_are_recorded_and_can_fail() -> None:
    """The hook sees each call and may raise."""
    gitiles = MemoryGitiles()
    (commit,) = gitiles.push(MAIN)
    gitiles.refs(REPO, "refs/heads")
    gitiles.log(REPO, commit, limit=1, start=commit, diffs=True)
    assert gitiles.calls == ["refs refs/heads", f"log {commit} n=1 s={commit} diffs"]

    def fail(_: str) -> None:
        raise GitilesError("UNAVAILABLE", "down", transient=True)

    gitiles.before_call = fail
    with pytest.raises(GitilesError, match="down"):
        gitiles.refs(REPO, "refs/heads")


def test_any_commit_is_on_every_ref() -> None:
    """A log without a ref has the one commit; a log after the only ref is empty."""
    gitiles = AnyCommit()
    assert gitiles.refs(REPO, "refs/heads") == {}
    assert [commit.id for commit in gitiles.log(REPO, "a" * 40, limit=5).commits] == ["a" * 40]
    assert gitiles.log(REPO, "a" * 40, limit=5, exclude=MAIN).commits == ()


def test_a_log_follows_the_times_of_commits() -> None:
    """As in git, the newest commit comes first whose child was listed. A merge lists no paths."""
    gitiles = MemoryGitiles()
    (root,) = gitiles.push(MAIN, at=1 * SECOND)
    (left,) = gitiles.push("refs/heads/left", parents=[root], at=9 * SECOND)
    (right,) = gitiles.push("refs/heads/right", parents=[root], at=5 * SECOND)
    (older,) = gitiles.push("refs/heads/left", at=3 * SECOND)
    (merge,) = gitiles.push(MAIN, parents=[right, older], at=10 * SECOND)
    assert _ids(gitiles, MAIN) == [merge, right, older, left, root]
    assert gitiles.log(REPO, MAIN, limit=1, diffs=True).commits[0].diff == ()


def test_a_tag_hides_the_branch_of_its_name() -> None:
    """The hash of an annotated tag names the tagged commit."""
    gitiles = MemoryGitiles()
    old, new = gitiles.push("refs/heads/v1", 2)
    tag = gitiles.tag("refs/tags/v1", old)
    assert [gitiles.resolve(REPO, name) for name in ("v1", "tags/v1", tag, "heads/v1")] == [old, old, old, new]


def test_unreachable_commits_and_tags_can_be_collected() -> None:
    """All others stay."""
    gitiles = MemoryGitiles()
    first, second = gitiles.push(MAIN, 2)
    tag = gitiles.tag("refs/tags/v1", second)
    gitiles.heads[MAIN] = first
    gitiles.collect()
    assert gitiles.resolve(REPO, tag) == second
    del gitiles.heads["refs/tags/v1"]
    gitiles.collect()
    assert gitiles.resolve(REPO, MAIN) == first
    for gone in (second, tag):
        with pytest.raises(GitilesError, match="NOT_FOUND"):
            gitiles.resolve(REPO, gone)
