"""The branches that configs watch, as the start page offers them."""

from emulator.branches import WatchedRepo, watched_repos
from luci_scheduler.config.reader import read_config

REPO = "https://h.googlesource.com/r"


def _watched(*refs: str, existing: tuple[str, ...] = ()) -> list[WatchedRepo]:
    listed = " ".join(f'refs: "{ref}"' for ref in refs)
    text = f'job {{ id: "j" noop {{}} }} trigger {{ id: "t" gitiles {{ repo: "{REPO}" {listed} }} triggers: "j" }}'
    return watched_repos([read_config("p", text)], lambda _: existing)


def test_a_pattern_of_one_branch_is_that_branch() -> None:
    """The pattern may have escapes, as lucicfg writes it, or none."""
    (found,) = _watched("refs/heads/old", "regexp:refs/heads/main", r"regexp:refs/heads/v1\\.2", r"regexp:refs/tags/v1")
    assert found.branches == ["refs/heads/main", "refs/heads/old", "refs/heads/v1.2"]
    assert not found.takes_more
    assert found.watches("refs/heads/main")
    assert not found.watches("refs/heads/v1x2")


def test_a_pattern_matches_existing_and_future_branches() -> None:
    """The page lists the matching branches of the repository, and accepts any other matching name."""
    there = ("refs/heads/release/1", "refs/heads/other", "refs/heads/main")
    (found,) = _watched(r"regexp:refs/heads/release/\\d+", "regexp:refs/heads/(main|next)", existing=there)
    assert found.branches == ["refs/heads/main", "refs/heads/release/1"]
    assert found.takes_more
    assert [found.watches(f"refs/heads/{name}") for name in ("release/2", "next", "release/x")] == [True, True, False]


def test_a_repository_without_watched_branches_is_left_out() -> None:
    """This one has tags only. A pattern of all branches needs no existing branch."""
    assert _watched("refs/tags/v1", "regexp:refs/tags/v.*", existing=("refs/heads/main",)) == []
    assert _watched("regexp:refs/heads/.*")[0].takes_more


def test_watchers_of_all_projects_count() -> None:
    """Two projects watch different branches of one repository."""
    configs = [
        read_config(
            project,
            'job { id: "j" noop {} } '
            f'trigger {{ id: "t" gitiles {{ repo: "{REPO}" refs: "refs/heads/{project}" }} triggers: "j" }}',
        )
        for project in ("a", "b")
    ]
    (found,) = watched_repos(configs)
    assert found.branches == ["refs/heads/a", "refs/heads/b"]
