"""The client of GitHub repositories: refs, first-parent lines, changes, names."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from emulator.clock import SteppedClock
from luci_scheduler.adapters import github as github_module
from luci_scheduler.adapters import github_api
from luci_scheduler.adapters.github import GitHubClient
from luci_scheduler.core.instants import Instant, parse_rfc3339
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import GitilesError
from tests.scripted_github import Exchange, ScriptedGitHub

SAMPLES = Path(__file__).parents[2] / "samples" / "github"
REPO = RepoUrl("github.com", "example-org/widget")
ROOT = "/repos/example-org/widget"
HEADS = f"GET {ROOT}/git/matching-refs/heads"
TREATED = {
    "app-installation-token", "commit-status", "error-429", "error-bad-credentials", "error-forbidden",
    "error-html-503", "error-legal", "error-not-found", "error-primary-rate-limit", "error-secondary-rate-limit",
}  # fmt: skip
"""The samples that the tests of the REST client and of the credentials treat."""
HERE = {
    "commit", "commit-many-files", "commit-merge", "commit-unknown", "commits-list", "compare-ahead",
    "compare-base-gone", "compare-behind", "compare-diverged", "compare-identical", "compare-merge",
    "compare-no-common-ancestor", "compare-pages", "empty-repository", "error-server-502", "matching-refs-heads",
    "matching-refs-none", "matching-refs-not-modified", "matching-refs-prefix", "matching-refs-tags",
    "redirect-renamed", "tag-annotated",
}  # fmt: skip
"""The samples that the tests of this module treat."""


def test_every_sample_has_a_test() -> None:
    """Samples of webhooks have theirs elsewhere."""
    names = {path.name.removesuffix(".http.json") for path in SAMPLES.glob("*.http.json")}
    assert {name for name in names if not name.startswith("webhook-")} == TREATED | HERE


def sample(name: str, place: int = 0) -> Exchange:
    """Return an exchange of a sample."""
    document = json.loads((SAMPLES / f"{name}.http.json").read_text(encoding="utf-8"))
    return Exchange.of_sample(document["exchanges"][place] if "exchanges" in document else document)


def client(*exchanges: Exchange, limit: float = 60.0) -> tuple[ScriptedGitHub, GitHubClient]:
    """Return a client and its server, which expects these requests."""
    github = ScriptedGitHub(*exchanges)
    return github, GitHubClient(github.api(SteppedClock(parse_rfc3339("2026-03-17T14:00:00Z"))), limit)


def sha(name: str) -> str:
    """Return a hash that belongs to a name."""
    return (name.encode().hex() + "0" * 40)[:40]


def commit(name: str, *parents: str, **members: Any) -> dict[str, Any]:
    """Return a commit as the API describes it."""
    record = {"committer": {"date": "2026-03-17T09:00:00Z"}}
    return {"sha": sha(name), "parents": [{"sha": sha(parent)} for parent in parents], "commit": record, **members}


def compare(base: str, head: str, commits: Sequence[Any], total: int | None = None, page: int = 1) -> Exchange:
    """Return a comparison, the oldest commit first."""
    body = {"total_commits": len(commits) if total is None else total, "commits": list(commits)}
    return Exchange(f"GET {ROOT}/compare/{sha(base)}...{sha(head)}?per_page=100&page={page}", 200, body)


def listed(head: str, commits: Sequence[Any], page: int = 1) -> Exchange:
    """Return a page of the list of commits."""
    return Exchange(f"GET {ROOT}/commits?sha={sha(head)}&per_page=100&page={page}", 200, list(commits))


def one(name: str, body: Any, size: int = 1, page: int = 1, status: int = 200) -> Exchange:
    """Return the answer about one commit, by its hash or name."""
    return Exchange(f"GET {ROOT}/commits/{name}?per_page={size}&page={page}", status, body)


def ref(name: str, target: str, kind: str = "commit") -> dict[str, Any]:
    """Return a ref as the API lists it."""
    return {"ref": name, "object": {"sha": sha(target), "type": kind}}


def names(client: GitHubClient, revision: str, **options: Any) -> list[str]:
    """Return the commits of a log, by the beginning of their hashes."""
    return [commit.id for commit in client.log(REPO, revision, **{"limit": 50, **options}).commits]


class TestRefs:
    """Listings of refs."""

    def test_all_branches(self) -> None:
        """The whole names with their hashes."""
        _, git = client(sample("matching-refs-heads"))
        found = git.refs(REPO, "refs/heads")
        assert all(name.startswith("refs/heads/") for name in found)
        assert dict(found) == {item["ref"]: item["object"]["sha"] for item in sample("matching-refs-heads").body}

    def test_a_folder_without_the_refs_that_only_begin_alike(self) -> None:
        """GitHub matches the beginning of the text."""
        _, git = client(sample("matching-refs-prefix"))
        listed_names = [item["ref"] for item in sample("matching-refs-prefix").body]
        assert "refs/heads/release-notes" in listed_names
        assert set(git.refs(REPO, "refs/heads/release")) == set(listed_names) - {"refs/heads/release-notes"}

    def test_tags(self) -> None:
        """An annotated tag has the hash of its object, as on Gitiles."""
        _, git = client(sample("matching-refs-tags"))
        assert dict(git.refs(REPO, "refs/tags")) == {
            item["ref"]: item["object"]["sha"] for item in sample("matching-refs-tags").body
        }

    @pytest.mark.parametrize("name", ["matching-refs-none", "empty-repository"])
    def test_no_refs(self, name: str) -> None:
        """Neither an empty list nor an empty repository is an error."""
        exchange = sample(name)
        _, git = client(exchange)
        prefix = exchange.request.partition("matching-refs/")[2]
        assert git.refs(REPO, f"refs/{prefix}") == {}

    def test_an_unchanged_folder_costs_nothing(self) -> None:
        """The last answer's ETag is sent, and a 304 means the refs of that answer."""
        etag = 'W/"6f1d0c2b"'
        first = Exchange(HEADS, 200, [ref("refs/heads/main", "a")], {"ETag": etag})
        github, git = client(first, sample("matching-refs-not-modified"), first)
        before = git.refs(REPO, "refs/heads")
        assert git.refs(REPO, "refs/heads") == before == {"refs/heads/main": sha("a")}
        assert [item["headers"].get("If-None-Match") for item in github.sent] == [None, etag]
        assert git.refs(REPO, "refs/heads") == before

    def test_no_host_says_forever_that_nothing_has_changed(self) -> None:
        """If that is wrong, the commits are late and not lost."""
        first = Exchange(HEADS, 200, [ref("refs/heads/main", "a")], {"ETag": '"1"'})
        second = replace(first, body=[ref("refs/heads/main", "b")])
        github, git = client(first, *[Exchange(HEADS, 304)] * 1000, second, Exchange(HEADS, 304))
        found = [git.refs(REPO, "refs/heads")["refs/heads/main"] for _ in range(1003)]
        assert found == [sha("a")] * 1001 + [sha("b")] * 2
        assert [place for place, item in enumerate(github.sent) if "If-None-Match" not in item["headers"]] == [0, 1001]

    def test_a_changed_folder_replaces_the_kept_one(self) -> None:
        """The next request sends the new ETag."""
        steps = [Exchange(HEADS, 200, [ref("refs/heads/main", name)], {"ETag": name}) for name in "ab"]
        github, git = client(*steps, Exchange(HEADS, 304))
        assert [git.refs(REPO, "refs/heads")["refs/heads/main"] for _ in range(3)] == [sha("a"), sha("b"), sha("b")]
        assert [item["headers"].get("If-None-Match") for item in github.sent] == [None, "a", "b"]

    def test_folders_and_repositories_are_kept_apart(self) -> None:
        """An ETag belongs to one address."""
        other = RepoUrl("github.com", "example-org/other")
        github, git = client(
            Exchange(HEADS, 200, [], {"ETag": "a"}),
            Exchange(f"GET {ROOT}/git/matching-refs/tags", 200, []),
            Exchange("GET /repos/example-org/other/git/matching-refs/heads", 200, []),
        )
        git.refs(REPO, "refs/heads")
        git.refs(REPO, "refs/tags")
        git.refs(other, "refs/heads")
        assert [item["headers"].get("If-None-Match") for item in github.sent] == [None, None, None]

    def test_pages_are_followed_and_then_have_no_etag(self) -> None:
        """The ETag of the first page says nothing about the others."""
        link = {"Link": '<https://api.github.com/repositories/7/x?page=2>; rel="next"', "ETag": "a"}
        steps = [
            Exchange(HEADS, 200, [ref("refs/heads/a", "a")], link),
            Exchange("GET /repositories/7/x?page=2", 200, [ref("refs/heads/b", "b")]),
        ]
        github, git = client(*steps, *steps)
        for _ in range(2):
            assert set(git.refs(REPO, "refs/heads")) == {"refs/heads/a", "refs/heads/b"}
        assert [item["headers"].get("If-None-Match") for item in github.sent] == [None] * 4

    def test_endless_pages_are_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A part of the refs would be taken for all of them."""
        monkeypatch.setattr(github_module, "_MAX_REF_PAGES", 2)
        link = {"Link": '<https://api.github.com/x>; rel="next"'}
        _, git = client(Exchange(HEADS, 200, [], link), *[Exchange("GET /x", 200, [], link)] * 2)
        with pytest.raises(GitilesError, match="INTERNAL: the list of refs does not end"):
            git.refs(REPO, "refs/heads")

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"message": "hello"},
            "x",
            7,
            None,
            [7],
            [{}],
            [{"ref": "refs/heads/a"}],
            [{"ref": 7, "object": {}}],
            [{"ref": "refs/heads/a", "object": {"sha": "short", "type": "commit"}}],
        ],
    )
    def test_another_shape_is_never_a_repository_without_refs(self, body: Any) -> None:
        """Known branches would be taken for deleted."""
        content = b"null" if body is None else body
        _, git = client(Exchange(HEADS, 200, content))
        with pytest.raises(GitilesError) as raised:
            git.refs(REPO, "refs/heads")
        assert (raised.value.code, raised.value.transient) == ("INTERNAL", True)

    @pytest.mark.parametrize("prefix", ["refs/../../../other/private/git/matching-refs", "refs/./heads", "refs//x"])
    def test_a_folder_that_git_cannot_have_is_empty(self, prefix: str) -> None:
        """Its address would be that of another object, perhaps in another repository."""
        github, git = client()
        assert git.refs(REPO, prefix) == {}
        with pytest.raises(GitilesError, match="NOT_FOUND"):
            git.log(REPO, f"{prefix}/main", limit=1)
        assert github.sent == []

    def test_long_names_count_for_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Their owner could fill the memory of a function with them."""
        monkeypatch.setattr(github_module, "_KEPT_REFS", 10)
        for name, kept in (("main", '"1"'), ("x" * 4000, None)):
            listed = Exchange(HEADS, 200, [ref(f"refs/heads/{name}", "a")], {"ETag": '"1"'})
            github, git = client(listed, listed)
            for _ in range(2):
                assert len(git.refs(REPO, "refs/heads")) == 1
            assert github.sent[1]["headers"].get("If-None-Match") == kept

    def test_an_empty_answer_is_not_an_unchanged_one(self) -> None:
        """Only the status says so. Otherwise the poller would miss all later commits."""
        _, git = client(Exchange(HEADS, 200, [ref("refs/heads/main", "a")]), Exchange(HEADS, 200, b"null"))
        git.refs(REPO, "refs/heads")
        with pytest.raises(GitilesError, match="INTERNAL: the answer is not a list of refs"):
            git.refs(REPO, "refs/heads")

    def test_refs_to_trees_and_names_with_control_characters_are_left_out(self) -> None:
        """A line break in a name would forge a line of the log."""
        body = [ref("refs/heads/a\nb", "a"), ref("refs/heads/tree", "b", "tree"), ref("refs/heads/c", "c")]
        _, git = client(Exchange(HEADS, 200, body))
        assert git.refs(REPO, "refs/heads") == {"refs/heads/c": sha("c")}

    def test_all_refs_are_branches_and_tags(self) -> None:
        """The API has no listing of everything."""
        tags = Exchange(f"GET {ROOT}/git/matching-refs/tags", 200, [ref("refs/tags/v1", "b")])
        _, git = client(Exchange(HEADS, 200, [ref("refs/heads/main", "a")]), tags)
        assert dict(git.refs(REPO, "refs")) == {"refs/heads/main": sha("a"), "refs/tags/v1": sha("b")}

    def test_a_renamed_repository(self) -> None:
        """The redirect is followed, and the new name is logged."""
        moved = RepoUrl("github.com", "example-org/gadget")
        target = "/repositories/710001/git/matching-refs/heads"
        _, git = client(sample("redirect-renamed"), Exchange(f"GET {target}", 200, [ref("refs/heads/main", "a")]))
        with capture_logs() as logs:
            assert git.refs(moved, "refs/heads") == {"refs/heads/main": sha("a")}
        assert [(entry["event"], entry["repo"]) for entry in logs] == [
            ("repository_moved", "https://github.com/example-org/gadget")
        ]


def _ends(exchange: Exchange) -> tuple[str, str]:
    base, _, head = exchange.request.partition("?")[0].rpartition("/")[2].partition("...")
    return base, head


class TestRanges:
    """Logs between two commits."""

    @pytest.mark.parametrize(
        ("name", "taken"),
        [("compare-ahead", [1, 0]), ("compare-behind", []), ("compare-identical", []), ("compare-diverged", None)],
    )
    def test_comparisons_of_the_samples(self, name: str, taken: list[int] | None) -> None:
        """The newest commit comes first."""
        exchange = sample(name)
        base, head = _ends(exchange)
        github, git = client(exchange)
        commits = [item["sha"] for item in exchange.body["commits"]]
        wanted = commits[::-1] if taken is None else [commits[place] for place in taken]
        assert names(git, head, exclude=base) == wanted
        assert len(github.sent) == (0 if base == head else 1)

    def test_a_merged_pull_request_is_one_commit(self) -> None:
        """Its inner commits were never the head of the branch."""
        exchange = sample("compare-merge")
        base, head = _ends(exchange)
        assert len(exchange.body["commits"]) == 3
        _, git = client(exchange)
        assert names(git, head, exclude=base) == [head]

    def test_two_pages(self) -> None:
        """Page 1 has the number, and the newest commits are on the last page. The pages are kept."""
        first, second = sample("compare-pages"), sample("compare-pages", 1)
        base, head = _ends(first)
        total, newest = first.body["total_commits"], second.body["commits"]
        older = [commit(f"c{n:03}", f"c{n - 1:03}") for n in range(total - len(newest))]  # the sample is abridged
        older[-1]["sha"] = newest[0]["parents"][0]["sha"]
        older[0]["parents"] = [{"sha": base}]
        first = replace(first, body={**first.body, "commits": older})
        github, git = client(first, second)
        line = [item["sha"] for item in (*older, *newest)][::-1]
        assert len(line) == total == 102
        assert names(git, head, exclude=base, limit=200) == line
        page = git.log(REPO, head, limit=2, exclude=base)
        assert ([item.id for item in page.commits], page.next) == (line[:2], line[2])
        page = git.log(REPO, head, limit=200, exclude=base, start=line[2])
        assert ([item.id for item in page.commits], page.next) == (line[2:], "")
        assert names(git, head, exclude=base, start=line[-1]) == line[-1:]
        assert names(git, head, exclude=base, start=sha("elsewhere")) == []
        assert len(github.sent) == 2

    def test_the_base_is_gone(self) -> None:
        """The error is that of the comparison; the poll finds out which end is missing."""
        exchange = sample("compare-base-gone")
        base, head = _ends(exchange)
        _, git = client(exchange, Exchange(f"GET {ROOT}/git/tags/{base}", 404, {"message": "Not Found"}))
        with pytest.raises(GitilesError, match="NOT_FOUND: HTTP 404: Not Found"):
            git.log(REPO, head, limit=50, exclude=base)

    def test_unrelated_histories(self) -> None:
        """All of the new line is new."""
        exchange = sample("compare-no-common-ancestor")
        base, head = _ends(exchange)
        commits = [commit("b", "a"), commit("a")]
        commits[0]["sha"] = head
        _, git = client(exchange, Exchange(f"GET {ROOT}/commits?sha={head}&per_page=100&page=1", 200, commits))
        assert names(git, head, exclude=base) == [head, sha("a")]

    def test_a_moved_annotated_tag_after_a_restart(self) -> None:
        """The process does not know the old tag object. It looks it up and compares with its commit."""
        gone = Exchange(
            f"GET {ROOT}/compare/{sha('old')}...{sha('b')}?per_page=100&page=1", 404, {"message": "Not Found"}
        )
        tag = Exchange(f"GET {ROOT}/git/tags/{sha('old')}", 200, {"object": {"sha": sha("a"), "type": "commit"}})
        github, git = client(gone, tag, compare("a", "b", [commit("b", "a")]))
        assert names(git, sha("b"), exclude=sha("old")) == [sha("b")]
        assert names(git, sha("b"), exclude=sha("old")) == [sha("b")]
        assert len(github.sent) == 3

    def test_a_failed_look_up_of_a_tag_is_the_error(self) -> None:
        """Otherwise an outage would look like a force push."""
        gone = Exchange(
            f"GET {ROOT}/compare/{sha('a')}...{sha('b')}?per_page=100&page=1", 404, {"message": "Not Found"}
        )
        _, git = client(gone, Exchange(f"GET {ROOT}/git/tags/{sha('a')}", 502, {}))
        with pytest.raises(GitilesError, match="UNAVAILABLE: HTTP 502"):
            git.log(REPO, sha("b"), limit=50, exclude=sha("a"))

    def test_pages_are_read_from_the_newest_as_they_are_needed(self) -> None:
        """A short log of a long range takes the first page and the last."""
        line = [commit(f"c{n:03}", f"c{n - 1:03}" if n else "base") for n in range(350)]
        pages = {n: compare("base", "c349", line[100 * (n - 1) : 100 * n], 350, n) for n in (1, 2, 3, 4)}
        github, git = client(pages[1], pages[4])
        assert len(names(git, sha("c349"), exclude=sha("base"), limit=40)) == 40
        github.expect([pages[3], pages[2]])
        everything = names(git, sha("c349"), exclude=sha("base"), limit=1000)
        assert everything == [item["sha"] for item in reversed(line)]
        assert github.expected == []

    def test_a_line_that_leaves_the_range_ends_there(self) -> None:
        """The last first parent is older than the base, and no page holds it."""
        head = commit("m", "elsewhere", "topic")
        _, git = client(compare("base", "m", [commit("topic", "base"), head]))
        page = git.log(REPO, sha("m"), limit=50, exclude=sha("base"))
        assert ([item.id for item in page.commits], page.next) == ([sha("m")], "")

    def test_a_comparison_that_lacks_commits_is_an_error(self) -> None:
        """The line would seem to end, and the commits before would get no triggers."""
        line = [commit(f"c{n:03}", f"c{n - 1:03}" if n else "base") for n in range(150)]
        pages = [compare("base", "c149", line[:60], 150, 1), compare("base", "c149", line[100:], 150, 2)]
        _, git = client(*pages)
        assert len(names(git, sha("c149"), exclude=sha("base"), limit=40)) == 40
        with pytest.raises(GitilesError, match="INTERNAL: the comparison lacks 40 of its 150 commits"):
            git.log(REPO, sha("c149"), limit=100, exclude=sha("base"))

    @pytest.mark.parametrize("parent", ["c", "b"])
    def test_a_commit_that_leads_to_itself_is_an_error(self, parent: str) -> None:
        """The line would have no end."""
        circle = [commit("b", parent), commit("c", "b")]
        _, git = client(compare("a", "c", circle), listed("c", circle))
        for options in ({"exclude": sha("a")}, {"exclude": sha("a"), "start": sha("elsewhere")}, {}):
            with pytest.raises(GitilesError, match="INTERNAL: a commit of the answer leads to itself"):
                git.log(REPO, sha("c"), limit=50, **options)

    def test_a_range_of_very_many_pages_is_read_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """``next`` is the first commit that was not read. The next call goes on from the kept pages."""
        monkeypatch.setattr(github_module, "_MAX_PAGES", 2)
        monkeypatch.setattr(github_module, "_PAGE", 2)
        line = [commit(f"c{n}", f"c{n - 1}" if n else "base") for n in range(8)]

        def page(number: int) -> Exchange:
            part = {"total_commits": 8, "commits": line[2 * (number - 1) : 2 * number]}
            return Exchange(f"GET {ROOT}/compare/{sha('base')}...{sha('c7')}?per_page=2&page={number}", 200, part)

        github, git = client(page(1), page(4))
        first = git.log(REPO, sha("c7"), limit=50, exclude=sha("base"))
        assert ([item.id for item in first.commits], first.next) == ([sha("c7"), sha("c6")], sha("c5"))
        github.expect([page(3)])
        second = git.log(REPO, sha("c7"), limit=50, exclude=sha("base"), start=first.next)
        assert ([item.id for item in second.commits], second.next) == ([sha("c5"), sha("c4")], sha("c3"))
        github.expect([page(2)])
        third = git.log(REPO, sha("c7"), limit=50, exclude=sha("base"), start=second.next)
        assert ([item.id for item in third.commits], third.next) == ([sha(f"c{n}") for n in (3, 2, 1, 0)], "")

    @pytest.mark.parametrize(
        "body",
        [
            [],
            {"commits": []},
            {"total_commits": -1, "commits": []},
            {"total_commits": 1},
            {"total_commits": 1, "commits": []},
            {"total_commits": 1, "commits": [{}]},
            {"total_commits": 1, "commits": [{"sha": "x", "parents": []}]},
            {"total_commits": 1, "commits": [commit("elsewhere")]},
            {"total_commits": 1, "commits": [{**commit("b"), "parents": [7]}]},
        ],
    )
    def test_a_broken_comparison_is_not_an_empty_one(self, body: Any) -> None:
        """The poll would go on without the commits."""
        exchange = Exchange(f"GET {ROOT}/compare/{sha('a')}...{sha('b')}?per_page=100&page=1", 200, body)
        _, git = client(exchange)
        with pytest.raises(GitilesError) as raised:
            git.log(REPO, sha("b"), limit=50, exclude=sha("a"))
        assert (raised.value.code, raised.value.transient) == ("INTERNAL", True)


class TestExpensiveRanges:
    """Ranges that GitHub cannot compare."""

    def test_the_list_of_commits_stands_in(self) -> None:
        """The line is kept, so the expensive request is not repeated."""
        exchange = sample("error-server-502")
        base, head = _ends(exchange)
        newest, middle = commit("n", "m"), commit("m")
        newest["sha"] = head
        middle["parents"] = [{"sha": base}]
        github, git = client(
            exchange, Exchange(f"GET {ROOT}/commits?sha={head}&per_page=100&page=1", 200, [newest, middle, commit("x")])
        )
        for _ in range(2):
            assert names(git, head, exclude=base) == [head, sha("m")]
        page = git.log(REPO, head, limit=1, exclude=base)
        assert ([item.id for item in page.commits], page.next) == ([head], sha("m"))
        assert len(github.sent) == 2

    def test_the_list_stands_in_for_a_comparison_that_is_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Patches of many files would exceed the memory of a function, and the same comparison would come again."""
        monkeypatch.setattr(github_api, "MAX_BODY_BYTES", 1000)
        patch = {"total_commits": 1, "commits": [], "files": [{"patch": "x" * 1000}]}
        compared = Exchange(f"GET {ROOT}/compare/{sha('a')}...{sha('c')}?per_page=100&page=1", 200, patch)
        _, git = client(compared, listed("c", [commit("c", "b"), commit("b", "a")]))
        assert names(git, sha("c"), exclude=sha("a")) == [sha("c"), sha("b")]

    @pytest.mark.parametrize("status", [500, 503, 504])
    def test_a_base_that_does_not_come_is_an_error(self, status: int) -> None:
        """Commits of another line must not get triggers."""
        failed = Exchange(f"GET {ROOT}/compare/{sha('a')}...{sha('c')}?per_page=100&page=1", status, {})
        _, git = client(failed, listed("c", [commit("c", "b"), commit("b")]))
        with pytest.raises(GitilesError, match=f"UNAVAILABLE: HTTP {status}"):
            git.log(REPO, sha("c"), limit=1, exclude=sha("a"))

    def test_ten_pages_are_read_at_most(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A longer line is left to the next poll."""
        monkeypatch.setattr(github_module, "_PAGE", 1)
        failed = Exchange(f"GET {ROOT}/compare/{sha('base')}...{sha('c99')}?per_page=1&page=1", 502, {})
        pages = [
            Exchange(
                f"GET {ROOT}/commits?sha={sha('c99')}&per_page=1&page={n}", 200, [commit(f"c{100 - n}", f"c{99 - n}")]
            )
            for n in range(1, 11)
        ]
        github, git = client(failed, *pages)
        with pytest.raises(GitilesError, match="UNAVAILABLE: HTTP 502"):
            git.log(REPO, sha("c99"), limit=1, exclude=sha("base"))
        assert github.expected == []


class TestLines:
    """Logs without a base."""

    def test_the_list_of_commits(self) -> None:
        """Its order is not promised, so the parents decide."""
        exchange = sample("commits-list")
        by_id = {item["sha"]: item for item in exchange.body}
        head = exchange.request.partition("sha=")[2].partition("&")[0]
        line, place = [], head
        while place in by_id:
            line.append(place)
            parents = by_id[place]["parents"]
            place = parents[0]["sha"] if parents else ""
        _, git = client(Exchange(exchange.request, 200, sorted(exchange.body, key=lambda item: str(item["sha"]))))
        assert len(line) > 1
        assert names(git, head) == line

    def test_the_line_goes_on_over_pages(self) -> None:
        """A merge's other commits fill the pages."""
        filler = [commit(f"x{n}") for n in range(99)]
        pages = [listed("b", [commit("b", "a", "x0"), *filler]), listed("b", [commit("a", "z")], 2)]
        github, git = client(*pages)
        page = git.log(REPO, sha("b"), limit=2)
        assert ([item.id for item in page.commits], page.next) == ([sha("b"), sha("a")], "")
        assert github.expected == []

    def test_next_and_start(self) -> None:
        """The next page begins at its first commit."""
        _, git = client(listed("c", [commit("c", "b"), commit("b", "a"), commit("a")]), listed("a", [commit("a")]))
        page = git.log(REPO, sha("c"), limit=2)
        assert ([item.id for item in page.commits], page.next) == ([sha("c"), sha("b")], sha("a"))
        assert names(git, sha("c"), start=page.next) == [sha("a")]

    def test_one_commit(self) -> None:
        """The commit has its author, its subject and the committer's time."""
        exchange = sample("commit")
        name = exchange.body["sha"]
        _, git = client(one(name, exchange.body))
        (found,) = git.log(REPO, name, limit=1).commits
        record = exchange.body["commit"]
        assert found.committed == parse_rfc3339(record["committer"]["date"])
        assert (found.author, found.subject) == (record["author"]["name"], record["message"].splitlines()[0])
        assert (found.diff, found.diff_cut) == ((), False)

    def test_an_unknown_commit(self) -> None:
        """GitHub's 422 means that it is not there."""
        exchange = sample("commit-unknown")
        name = exchange.request.partition("/commits/")[2].partition("?")[0]
        _, git = client(one(name, exchange.body, status=422))
        with pytest.raises(GitilesError, match="NOT_FOUND: HTTP 422: No commit found for SHA"):
            git.log(REPO, name, limit=1)

    def test_an_unreadable_time_is_not_an_error(self) -> None:
        """The trigger gets the time of the delivery. Anyone chooses the time, and the store has 64 bits for it."""
        dates = ("yesterday", 7, "1969-12-31T23:59:59Z", "2300-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00")
        odd = [*({"committer": {"date": date}} for date in dates), {"committer": None}, {}, "x"]
        steps = [one(sha("a"), {**commit("a"), "commit": record}) for record in odd]
        _, git = client(*steps)
        with capture_logs() as logs:
            found = [git.log(REPO, sha("a"), limit=1).commits[0] for _ in odd]
        assert {item.committed for item in found} == {Instant(0)}
        assert [entry["event"] for entry in logs] == ["commit_unreadable"] * len(odd)

    def test_a_hash_of_sha_256(self) -> None:
        """GitHub has none today, but other hosts with this API have."""
        name = "b" * 64
        _, git = client(one(name, {**commit("a"), "sha": name}))
        assert names(git, name, limit=1) == [name]


class TestTags:
    """Annotated tags."""

    TAGS = f"GET {ROOT}/git/matching-refs/tags"

    def _known(self, *steps: Exchange) -> tuple[ScriptedGitHub, GitHubClient]:
        github, git = client(Exchange(self.TAGS, 200, [ref("refs/tags/v1", "tag", "tag")]), *steps)
        git.refs(REPO, "refs/tags")
        return github, git

    def test_the_sample_leads_to_its_commit(self) -> None:
        """The look-up is kept."""
        exchange = sample("tag-annotated")
        tag, target = exchange.body["sha"], exchange.body["object"]["sha"]
        entry = {"ref": "refs/tags/v1.0", "object": {"sha": tag, "type": "tag"}}
        steps = [one(target, {**commit("a"), "sha": target})] * 2
        github, git = client(Exchange(self.TAGS, 200, [entry]), exchange, *steps)
        git.refs(REPO, "refs/tags")
        for _ in range(2):
            assert names(git, tag, limit=1) == [target]
        assert github.expected == []

    def test_a_tag_of_a_tag(self) -> None:
        """Each tag object is looked up, until one names a commit."""
        steps = [
            Exchange(f"GET {ROOT}/git/tags/{sha(name)}", 200, {"object": {"sha": sha(after), "type": kind}})
            for name, after, kind in (("tag", "inner", "tag"), ("inner", "a", "commit"))
        ]
        _, git = self._known(*steps, one(sha("a"), commit("a")))
        assert names(git, sha("tag"), limit=1) == [sha("a")]

    def test_a_chain_of_tags_without_end(self) -> None:
        """It counts as a tag of no commit."""
        loop = Exchange(f"GET {ROOT}/git/tags/{sha('tag')}", 200, {"object": {"sha": sha("tag"), "type": "tag"}})
        github, git = self._known(*[loop] * 5)
        assert names(git, sha("tag"), limit=1) == []
        assert github.expected == []

    def test_a_tag_of_a_tree_has_an_empty_log(self) -> None:
        """It must not block the other refs of a poll."""
        tree = Exchange(f"GET {ROOT}/git/tags/{sha('tag')}", 200, {"object": {"sha": sha("t"), "type": "tree"}})
        github, git = self._known(tree, listed("b", [commit("b")]))
        assert names(git, sha("tag"), limit=1) == names(git, sha("tag")) == []
        assert names(git, sha("b"), exclude=sha("tag")) == [sha("b")]
        assert github.expected == []


class TestNamedRefs:
    """Logs that name a ref in place of a hash."""

    def test_the_ref_is_looked_up(self) -> None:
        """The check whether a commit has landed excludes a ref. Its head needs no comparison."""
        main = f"{HEADS}/main"
        entry = [ref("refs/heads/main", "b"), ref("refs/heads/main2", "x")]
        github, git = client(
            Exchange(main, 200, entry, {"ETag": "1"}), Exchange(main, 304), compare("b", "a", []), Exchange(main, 304)
        )
        assert names(git, sha("b"), exclude="refs/heads/main", limit=1) == []
        assert names(git, sha("a"), exclude="refs/heads/main", limit=1) == []
        github.expect([compare("b", "c", [commit("c", "b")])])
        assert names(git, sha("c"), exclude="refs/heads/main", limit=1) == [sha("c")]

    def test_a_ref_that_does_not_exist(self) -> None:
        """A ref whose name only begins alike does not count."""
        _, git = client(Exchange(f"{HEADS}/main", 200, [ref("refs/heads/main2", "x")]))
        with pytest.raises(GitilesError, match="NOT_FOUND: the repository has no ref refs/heads/main"):
            git.log(REPO, sha("a"), limit=1, exclude="refs/heads/main")


class TestChanges:
    """The paths that commits change."""

    def test_every_kind_of_change(self) -> None:
        """A moved file counts by both names."""
        exchange = sample("commit")
        files = exchange.body["files"]
        _, git = client(one(exchange.body["sha"], exchange.body, 100))
        (found,) = git.log(REPO, exchange.body["sha"], limit=1, diffs=True).commits
        expected = {
            "added": lambda file: ("", file["filename"]),
            "removed": lambda file: (file["filename"], ""),
            "renamed": lambda file: (file["previous_filename"], file["filename"]),
            "copied": lambda file: (file["previous_filename"], file["filename"]),
        }
        same: Callable[[Mapping[str, Any]], tuple[str, str]] = lambda file: (file["filename"], file["filename"])  # noqa: E731
        assert found.diff == tuple(expected.get(file["status"], same)(file) for file in files)
        assert {file["status"] for file in files} >= {"added", "removed", "renamed", "copied", "modified"}

    def test_a_merge_has_the_difference_to_its_first_parent(self) -> None:
        """A merge carries all its changes."""
        exchange = sample("commit-merge")
        assert len(exchange.body["parents"]) == 2
        _, git = client(one(exchange.body["sha"], exchange.body, 100))
        (found,) = git.log(REPO, exchange.body["sha"], limit=1, diffs=True).commits
        assert len(found.diff) == len(exchange.body["files"]) > 0

    def test_more_pages_of_files(self) -> None:
        """They are followed as the ``Link`` header says."""
        exchange = sample("commit-many-files")
        name = exchange.body["sha"]
        files = [{"filename": f"f{n}", "status": "modified"} for n in range(100)]  # the sample is abridged
        exchange = replace(exchange, body={**exchange.body, "files": files})
        second = one(name, {**commit("a"), "sha": name, "files": [{"filename": "last", "status": "added"}]}, 100, 2)
        _, git = client(exchange, second)
        (found,) = git.log(REPO, name, limit=1, diffs=True).commits
        assert len(found.diff) == 101
        assert (found.diff[-1], found.diff_cut) == (("", "last"), False)
        assert found.known_diff == found.diff

    def test_a_commit_with_too_many_files_is_cut(self) -> None:
        """GitHub lists 3,000, so any other path may be among the changes."""
        files = [{"filename": f"f{n}", "status": "modified"} for n in range(100)]
        github, git = client(*[one(sha("a"), {**commit("a"), "files": files}, 100, n) for n in range(1, 31)])
        (found,) = git.log(REPO, sha("a"), limit=1, diffs=True).commits
        assert (len(found.diff), found.diff_cut, found.known_diff) == (3000, True, None)
        assert github.expected == []

    def test_a_commit_with_very_long_paths_is_cut(self) -> None:
        """Anyone who may push can make some, and they would fill the memory of a function."""
        files = [{"filename": "x" * 4000 + str(n), "status": "modified"} for n in range(100)]
        _, git = client(one(sha("a"), {**commit("a"), "files": files}, 100))
        (found,) = git.log(REPO, sha("a"), limit=1, diffs=True).commits
        assert (len(found.diff), found.diff_cut) == (100, True)

    def test_a_commit_that_is_too_large_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """GitHub cannot list its files, or no function can read the list. An outage is still an error."""
        small = one(sha("a"), commit("a"))
        for failure in (one(sha("a"), {}, 100, status=503), one(sha("a"), {"patch": "x" * 2000}, 100)):
            monkeypatch.setattr(github_api, "MAX_BODY_BYTES", 1000)
            github, git = client(failure, small)
            for _ in range(2):
                (found,) = git.log(REPO, sha("a"), limit=1, diffs=True).commits
                assert (found.diff, found.diff_cut, found.id) == ((), True, sha("a"))
            assert github.expected == []
        _, git = client(one(sha("a"), {}, 100, status=503), one(sha("a"), {}, status=503))
        with pytest.raises(GitilesError, match="UNAVAILABLE: HTTP 503"):
            git.log(REPO, sha("a"), limit=1, diffs=True)

    def test_each_commit_of_a_page_is_asked_for_once(self) -> None:
        """A failed poll does not ask again for what the process has."""
        range_of = compare("a", "c", [commit("b", "a"), commit("c", "b")])
        details = [
            one(sha(name), {**commit(name, before), "files": [{"filename": name}]}, 100)
            for name, before in ("cb", "ba")
        ]
        github, git = client(range_of, *details)
        for _ in range(2):
            page = git.log(REPO, sha("c"), limit=50, exclude=sha("a"), diffs=True)
            assert [item.diff for item in page.commits] == [(("c", "c"),), (("b", "b"),)]
        assert len(github.sent) == 3

    def test_unreadable_files_are_logged(self) -> None:
        """The others count."""
        files = [7, {"status": "added"}, {"filename": "a", "status": "renamed", "previous_filename": 7}]
        _, git = client(one(sha("a"), {**commit("a"), "files": files}, 100))
        with capture_logs() as logs:
            (found,) = git.log(REPO, sha("a"), limit=1, diffs=True).commits
        assert found.diff == (("", "a"),)
        assert [(entry["event"], entry["part"]) for entry in logs] == [("commit_unreadable", "paths")]


class TestNames:
    """Revisions as people write them."""

    @pytest.mark.parametrize(
        ("expression", "asked"),
        [
            ("abc123", "abc123"),
            ("main", "main"),
            ("HEAD", "HEAD"),
            ("v1.0", "v1.0"),
            ("feature/x#1", "feature/x%231"),
            ("refs/heads/main", "heads/main"),
            ("refs/tags/v1", "tags/v1"),
        ],
    )
    def test_a_name_is_one_request(self, expression: str, asked: str) -> None:
        """GitHub resolves short hashes, branches and tags."""
        _, git = client(one(asked, commit("a")))
        assert git.resolve(REPO, expression) == sha("a")

    def test_steps_along_the_parents(self) -> None:
        """As git reads them: ``~N`` follows first parents, ``^N`` takes one parent."""
        merge = commit("m", "b", "t")
        line = listed("m", [merge, commit("t", "b"), commit("b", "a"), commit("a")])
        cases: list[tuple[str, list[Exchange], str]] = [
            ("main^", [one(sha("b"), commit("b", "a"))], "b"),
            ("main^2", [one(sha("t"), commit("t", "b"))], "t"),
            ("main^0", [], "m"),
            ("main~0", [line], "m"),
            ("main~", [line], "b"),
            ("main~2", [line], "a"),
            ("main^2~1", [one(sha("t"), commit("t", "b")), listed("t", [commit("t", "b"), commit("b", "a")])], "b"),
        ]
        for expression, steps, expected in cases:
            github, git = client(one("main", merge), *steps)
            assert git.resolve(REPO, expression) == sha(expected), expression
            assert github.expected == []

    @pytest.mark.parametrize("expression", ["main^2", "main~3"])
    def test_steps_beyond_the_history(self, expression: str) -> None:
        """The repository has no such commit."""
        steps = [listed("b", [commit("b", "a"), commit("a")])] if "~" in expression else []
        _, git = client(one("main", commit("b", "a")), *steps)
        with pytest.raises(GitilesError, match=r"NOT_FOUND: .* has no such ancestor"):
            git.resolve(REPO, expression)

    def test_an_ambiguous_name(self) -> None:
        """GitHub's 422 that is not about a missing commit."""
        _, git = client(one("abcd", {"message": "The commit is ambiguous"}, status=422))
        with pytest.raises(GitilesError, match="INVALID_ARGUMENT"):
            git.resolve(REPO, "abcd")


def test_all_requests_of_a_call_share_a_limit() -> None:
    """Many quick requests cannot take forever."""
    github, git = client(limit=-1.0)
    with pytest.raises(GitilesError, match="DEADLINE_EXCEEDED: GitHub's answers took too long") as raised:
        git.refs(REPO, "refs/heads")
    assert raised.value.transient
    assert github.sent == []
