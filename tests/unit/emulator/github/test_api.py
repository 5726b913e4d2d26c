"""The REST calls of the GitHub server, where the samples say too little."""

from __future__ import annotations

import base64
import http.client
from typing import Any

import pytest
import requests

from emulator.github import GitHubServer, api
from emulator.gitiles.git import git
from emulator.gitiles.repository import Repository
from luci_scheduler.core.instants import HOUR
from tests.unit.emulator.github.support import OWNER, WIDGET, Stream, World, get

REPO = f"/repos/{WIDGET}"
REFS = f"{REPO}/git/matching-refs"
AUTHORIZED = {"Authorization": "Bearer secret"}


def _shas(found: requests.Response) -> list[str]:
    return [commit["sha"] for commit in found.json()]


def _names(found: requests.Response) -> list[str]:
    return [ref["ref"] for ref in found.json()]


def _post(server: GitHubServer, path: str, body: Any, **headers: str) -> requests.Response:
    return requests.post(f"{server.url}{path}", json=body, headers=headers, timeout=30, allow_redirects=False)


# Commits --------------------------------------------------------------------------------------------------------------


def test_a_list_of_commits_is_followed_by_its_links(server: GitHubServer, world: World) -> None:
    """The newest commit is first, and the link has the number of the repository."""
    first = get(server, f"{REPO}/commits?sha=long&per_page=100")
    following = first.links["next"]["url"].removeprefix(server.url)
    assert following.startswith("/repositories/")
    second = get(server, following)
    assert _shas(first) + _shas(second) == [*world.long[::-1], world["c1"]]
    assert set(second.links) == {"prev", "first"}


def test_the_list_begins_at_head_or_at_a_revision(server: GitHubServer, world: World) -> None:
    """An unknown revision is 404."""
    assert _shas(get(server, f"{REPO}/commits")) == [world["c3"], world["c2"], world["c1"]]
    assert _shas(get(server, f"{REPO}/commits?sha=v1.0&per_page=1")) == [world["c3"]]
    assert _shas(get(server, f"{REPO}/commits?path=docs/new.md")) == [world["c3"]]
    assert get(server, f"{REPO}/commits?sha={'f' * 40}").status_code == 404


@pytest.mark.parametrize("revision", ["main", "v1.0", "v1.1", "heads/main", "refs/heads/main"])
def test_a_commit_is_found_by_name(server: GitHubServer, world: World, revision: str) -> None:
    """Branches and tags of both kinds lead to the commit, and so does a short hash."""
    assert get(server, f"{REPO}/commits/{revision}").json()["sha"] == world["c3"]
    assert get(server, f"{REPO}/commits/{world['c2'][:9]}").json()["sha"] == world["c2"]


@pytest.mark.parametrize("revision", ["none", "-main", "main..x", "main~1:x", "a b"])
def test_other_texts_name_no_commit(server: GitHubServer, revision: str) -> None:
    """Git never gets a text that it could take for an option or an expression."""
    found = get(server, f"{REPO}/commits/{revision}")
    assert (found.status_code, found.json()["message"]) == (422, f"No commit found for SHA: {revision}")


def test_the_hash_of_a_tag_object_is_no_commit(server: GitHubServer, world: World) -> None:
    """Neither a single commit nor a comparison takes it, so a client has to peel it."""
    assert get(server, f"{REPO}/commits/{world['tag']}").status_code == 422
    assert get(server, f"{REPO}/compare/{world['tag']}...{world['c3']}").status_code == 404
    assert get(server, f"{REPO}/compare/v1.0...main").json()["status"] == "identical"


def test_the_files_have_every_status(server: GitHubServer, world: World) -> None:
    """The numbers, the old names and the hunks are git's."""
    files = {file["filename"]: file for file in get(server, f"{REPO}/commits/{world['c3']}").json()["files"]}
    moved = {files.get("lib/b.py", {}).get("status"), files.get("lib/copy.py", {}).get("status")}
    assert moved == {"renamed", "copied"}
    assert {name: file["status"] for name, file in files.items() if not name.startswith("lib/")} == {
        "src/core.py": "modified",
        "docs/new.md": "added",
        "old.txt": "removed",
        "run.sh": "changed",
    }
    assert files["lib/b.py"]["previous_filename"] == files["lib/copy.py"]["previous_filename"] == "lib/a.py"
    assert files["src/core.py"]["patch"] == "@@ -1 +1 @@\n-two\n+three"
    assert (files["lib/b.py"]["additions"], files["lib/b.py"]["changes"]) == (1, 1)
    assert "patch" not in files["run.sh"]
    assert files["old.txt"]["deletions"] == 1


def test_a_merge_differs_from_its_first_parent(server: GitHubServer, world: World) -> None:
    """The merge has all files of the merged branch, and a root commit has all its files."""
    merge = get(server, f"{REPO}/commits/{world['merge']}").json()
    assert [file["filename"] for file in merge["files"]] == ["src/feature.py"]
    assert [parent["sha"] for parent in merge["parents"]] == [world["c1"], world["f2"]]
    root = get(server, f"{REPO}/commits/{world['alone']}").json()
    assert [(file["filename"], file["status"]) for file in root["files"]] == [("y", "added")]


def test_a_commit_lists_at_most_3000_files(server: GitHubServer, world: World) -> None:
    """A request without a page gets 300, a page has 100, and no page follows the thirtieth."""
    path = f"{REPO}/commits/{world['big']}"
    sizes = [len(get(server, f"{path}{query}").json()["files"]) for query in ("", "?per_page=100&page=30", "?page=101")]
    assert sizes == [300, 100, 0]
    last = get(server, f"{path}?per_page=100&page=30")
    assert last.json()["files"][-1]["filename"] == "big/2999"
    assert "next" not in last.links


def test_a_comparison_without_pages_has_the_newest_commits(
    server: GitHubServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """250 of them, the oldest of these first; with a page the oldest commits of all come first."""
    monkeypatch.setattr(api, "_NEWEST", 5)
    path = f"{REPO}/compare/c1...long".replace("c1", world["c1"])
    found = get(server, path).json()
    assert [commit["sha"] for commit in found["commits"]] == world.long[-5:]
    assert found["total_commits"] == len(world.long)
    paged = get(server, f"{path}?per_page=3").json()
    assert [commit["sha"] for commit in paged["commits"]] == world.long[:3]


@pytest.mark.parametrize(
    ("base", "head", "status", "ahead", "behind"),
    [
        ("c1", "c3", "ahead", 2, 0),
        ("c3", "c1", "behind", 0, 2),
        ("c3", "x2", "diverged", 2, 2),
        ("c3", "c3", "identical", 0, 0),
        ("c1", "merge", "ahead", 3, 0),
    ],
)
def test_a_comparison_counts_both_sides(
    server: GitHubServer, world: World, base: str, head: str, status: str, ahead: int, behind: int
) -> None:
    """The commits of a merged branch count."""
    found = get(server, f"{REPO}/compare/{world[base]}...{world[head]}").json()
    assert (found["status"], found["ahead_by"], found["behind_by"]) == (status, ahead, behind)
    assert (found["total_commits"], len(found["commits"])) == (ahead, ahead)


# Refs -----------------------------------------------------------------------------------------------------------------


def test_refs_match_a_text_and_not_a_folder(server: GitHubServer) -> None:
    """A folder's name also finds the names that only begin alike."""
    assert _names(get(server, f"{REFS}/heads/release")) == ["refs/heads/release-notes", "refs/heads/release/1.0"]
    assert {ref["object"]["type"] for ref in get(server, f"{REFS}/tags").json()} == {"commit", "tag"}


def test_refs_can_have_pages(server: GitHubServer) -> None:
    """Then each page has a link to the next one, under the same number of the repository."""
    server.service.state.refs_per_page = 5
    try:
        first = get(server, f"{REFS}/heads")
        second = get(server, first.links["next"]["url"].removeprefix(server.url))
    finally:
        server.service.state.refs_per_page = 0
    assert len(_names(first)) == 5
    assert _names(first) + _names(second) == _names(get(server, f"{REFS}/heads"))


def test_one_ref(server: GitHubServer, world: World) -> None:
    """Its full name counts."""
    assert get(server, f"{REPO}/git/ref/heads/main").json()["object"]["sha"] == world["c3"]
    assert get(server, f"{REPO}/git/ref/heads/mai").status_code == 404


def test_a_tag_of_a_tag_and_of_a_folder(server: GitHubServer, world: World) -> None:
    """Each object names its type; a hash of another type is no tag."""
    repository = Repository.create(world.root / "github.com" / OWNER / "tags")
    stream = Stream()
    commit = stream.commit("refs/heads/main", "First", {"a": "1"})
    stream.tag("inner", commit)
    stream.write(repository)
    inner, tree = repository.resolve("inner"), repository.resolve("main^{tree}")
    for kind, name, target in (("tag", "outer", inner), ("tree", "folder", tree)):
        text = f"object {target}\ntype {kind}\ntag {name}\ntagger A <a@example.com> 0 +0000\n\nText\n"
        value = git(repository.path, "mktag", stdin=text.encode()).decode().strip()
        found = get(server, f"/repos/{OWNER}/tags/git/tags/{value}").json()
        assert (found["object"]["type"], found["object"]["sha"], found["message"]) == (kind, target, "Text\n")
    assert get(server, f"/repos/{OWNER}/tags/git/tags/{repository.resolve('main')}").status_code == 404


# Contents -------------------------------------------------------------------------------------------------------------


def test_contents_of_a_file_and_a_folder(server: GitHubServer) -> None:
    """JSON has the content in base64; the raw form is the bytes."""
    found = get(server, f"{REPO}/contents/src/core.py").json()
    assert (base64.b64decode(found["content"]), found["encoding"], found["type"]) == (b"three\n", "base64", "file")
    old = get(server, f"{REPO}/contents/src/core.py?ref=release-notes", Accept="application/vnd.github.raw+json")
    assert (old.content, old.headers["Content-Type"]) == (b"two\n", "application/vnd.github.raw+json; charset=utf-8")
    entries = get(server, f"{REPO}/contents?ref=main").json()
    assert [(entry["path"], entry["type"]) for entry in entries] == [
        ("docs", "dir"),
        ("lib", "dir"),
        ("run.sh", "file"),
        ("src", "dir"),
    ]
    assert get(server, f"{REPO}/contents/src/none").status_code == 404
    assert get(server, f"{REPO}/contents/src?ref=none").status_code == 404


@pytest.mark.parametrize("path", ["..", "../..", "src/../../x"])
def test_contents_outside_of_the_repository_are_not_found(server: GitHubServer, path: str) -> None:
    """A client of HTTP would shorten the address, so it is sent as it is."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.request("GET", f"{REPO}/contents/{path}", headers={"User-Agent": "test"})
    assert connection.getresponse().status == 404
    connection.close()


def test_a_large_file_has_no_content_in_json(server: GitHubServer, world: World) -> None:
    """Above 1 MiB only the raw form has the bytes."""
    repository = Repository.create(world.root / "github.com" / OWNER / "large")
    repository.commit("Large", {"file": "x" * ((1 << 20) + 1)})
    found = get(server, f"/repos/{OWNER}/large/contents/file").json()
    assert (found["encoding"], found["content"], found["size"]) == ("none", "", (1 << 20) + 1)
    raw = get(server, f"/repos/{OWNER}/large/contents/file", Accept="application/vnd.github.raw+json")
    assert len(raw.content) == found["size"]
    blob = get(server, f"/repos/{OWNER}/large/git/blobs/{found['sha']}").json()
    assert base64.b64decode(blob["content"]) == raw.content
    assert get(server, f"/repos/{OWNER}/large/git/blobs/{'f' * 40}").status_code == 404


# Names ----------------------------------------------------------------------------------------------------------------


def test_the_case_of_a_name_does_not_count(server: GitHubServer, world: World) -> None:
    """The answer has the spelling of the folder."""
    found = get(server, f"/repos/{WIDGET.upper()}")
    assert (found.json()["full_name"], found.json()["default_branch"]) == (WIDGET, "main")


@pytest.mark.parametrize(
    "path", ["/repos/x", "/repos/..%2F..%2Fetc/x", f"{REPO}/none", f"{REPO}/commits/", "/repositories/7", "/app/none"]
)
def test_other_paths_are_not_found(server: GitHubServer, path: str) -> None:
    """A slash at the end is one of them."""
    assert get(server, path).status_code == 404


def test_a_missing_repository_is_reported(server: GitHubServer) -> None:
    """The local cloud learns where to put it, in the spelling of the configs."""
    seen: list[tuple[str, str]] = []
    server.around.missing = lambda repo, advice: seen.append((repo, advice))
    server.around.watched = lambda: {"https://github.com/Ada/Fresh"}
    try:
        assert get(server, "/repos/ada/fresh/git/matching-refs/heads/").status_code == 404
    finally:
        server.around.missing, server.around.watched = lambda _repo, _advice: None, frozenset
    assert [repo for repo, _ in seen] == ["https://github.com/Ada/Fresh"]
    assert f"git push {server.url}/Ada/Fresh.git main" in seen[0][1]


def test_a_renamed_repository_redirects_and_keeps_its_number(server: GitHubServer, world: World) -> None:
    """Reads get 301 and writes 307; both lead to the number, under which the new name answers."""
    repository = Repository.create(world.root / "github.com" / OWNER / "old")
    commit = repository.commit("First", {"a": "1"})
    number = get(server, f"/repos/{OWNER}/old").json()["id"]
    body = {"state": "success"}
    assert _post(server, f"/repos/{OWNER}/old/statuses/{commit}", body, **AUTHORIZED).status_code == 201
    server.rename(f"{OWNER}/old", f"{OWNER}/new")
    moved = get(server, f"/repos/{OWNER}/old/git/matching-refs/heads?a=b")
    assert (moved.status_code, moved.headers["Location"]) == (
        301,
        f"{server.url}/repositories/{number}/git/matching-refs/heads?a=b",
    )
    assert _post(server, f"/repos/{OWNER}/OLD/statuses/{commit}", body, **AUTHORIZED).status_code == 307
    assert get(server, f"/repositories/{number}").json()["full_name"] == f"{OWNER}/new"
    assert len(get(server, f"/repos/{OWNER}/new/commits/{commit}/statuses").json()) == 1
    for old, new in ((f"{OWNER}/none", f"{OWNER}/x"), (f"{OWNER}/new", WIDGET), (f"{OWNER}/new", "../x")):
        with pytest.raises(ValueError, match="repository"):
            server.rename(old, new)


# Tokens ---------------------------------------------------------------------------------------------------------------


def test_a_request_needs_an_agent_and_a_known_version(server: GitHubServer) -> None:
    """Libraries for requests add an agent, so this one is sent by hand."""
    connection = http.client.HTTPConnection(server.host, timeout=30)
    connection.request("GET", REPO)
    assert connection.getresponse().status == 403
    connection.close()
    assert get(server, REPO, X_GitHub_Api_Version="2021-01-01").status_code == 400


def test_tokens_are_checked_for_presence(server: GitHubServer, world: World) -> None:
    """Reads need one only with ``strict_auth``, writes always."""
    assert get(server, REPO, token=None).status_code == 200
    assert get(server, REPO, Authorization="Basic eDp4").status_code == 401
    refused = _post(server, f"{REPO}/statuses/{world['c3']}", {"state": "success"})
    assert (refused.status_code, refused.json()["message"]) == (401, "Requires authentication")
    server.strict_auth = True
    assert get(server, REPO, token=None).status_code == 401
    assert get(server, REPO).status_code == 200


def _jwt(server: GitHubServer, **claims: Any) -> str:
    now = server.service.state.clock.now() // 1_000_000_000
    parts = [{"alg": "RS256"}, {"iat": now - 60, "exp": now + 540, "iss": "app", **claims}]
    encoded = [base64.urlsafe_b64encode(str(part).replace("'", '"').encode()).decode() for part in parts]
    return f"Bearer {'.'.join([*encoded, 'signature'])}"


def _token(server: GitHubServer, body: Any = None, **claims: Any) -> requests.Response:
    return _post(server, "/app/installations/1/access_tokens", body or {}, Authorization=_jwt(server, **claims))


def test_a_token_ends_after_an_hour_or_when_it_is_revoked(server: GitHubServer, clock: Any) -> None:
    """The next request gets 401, as GitHub answers it."""
    tokens = [_token(server).json()["token"] for _ in range(2)]
    clock.advance(HOUR - 1)
    assert get(server, REPO, token=tokens[0]).status_code == 200
    clock.advance(1)
    assert get(server, REPO, token=tokens[0]).json()["message"] == "Bad credentials"
    fresh = _token(server).json()["token"]
    server.service.state.tokens.revoke()
    assert get(server, REPO, token=fresh).status_code == 401


def test_a_token_has_permissions_and_repositories(server: GitHubServer, world: World) -> None:
    """A missing permission is 403 with its name, and another repository is 404, like a private repository."""
    token = _token(server, {"permissions": {"contents": "read"}, "repositories": ["widget"]}).json()["token"]
    assert get(server, f"{REFS}/heads", token=token).status_code == 200
    refused = _post(server, f"{REPO}/statuses/{world['c3']}", {"state": "success"}, Authorization=f"token {token}")
    assert (refused.status_code, refused.headers["X-Accepted-GitHub-Permissions"]) == (403, "statuses=write")
    Repository.create(world.root / "github.com" / OWNER / "private")
    assert get(server, f"/repos/{OWNER}/private", token=token).status_code == 404


@pytest.mark.parametrize("claims", [{"exp": 0}, {"exp": 1 << 40}, {"iat": 1 << 40}, {"iss": ""}, {"exp": "soon"}])
def test_a_wrong_jwt_makes_no_token(server: GitHubServer, claims: dict[str, Any]) -> None:
    """Its times are bounded, and it names the App."""
    assert _token(server, **claims).status_code == 401


@pytest.mark.parametrize("body", [{"permissions": 7}, {"repositories": "widget"}, {"repositories": [7]}])
def test_members_of_another_type_make_no_token(server: GitHubServer, body: Any) -> None:
    assert _token(server, body).status_code == 422


def test_no_jwt_makes_no_token(server: GitHubServer) -> None:
    """A personal token is none."""
    for authorization in ("", "Bearer secret", "Bearer a.b.c"):
        path = "/app/installations/1/access_tokens"
        assert _post(server, path, {}, Authorization=authorization).status_code == 401


# Statuses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"state": "done"}, "state"),
        ({}, "state"),
        ({"state": "success", "description": "x" * 141}, "description"),
        ({"state": "success", "context": 5}, "context"),
    ],
)
def test_a_wrong_status_is_refused(server: GitHubServer, world: World, body: Any, field: str) -> None:
    """The error names the field."""
    found = _post(server, f"{REPO}/statuses/{world['c2']}", body, **AUTHORIZED)
    assert (found.status_code, found.json()["errors"][0]["field"]) == (422, field)


def test_a_status_needs_a_commit_and_json(server: GitHubServer, world: World) -> None:
    """A short hash is none."""
    for revision in ("f" * 40, world["c2"][:10], "main"):
        found = _post(server, f"{REPO}/statuses/{revision}", {"state": "success"}, **AUTHORIZED)
        assert found.json()["message"] == f"No commit found for SHA: {revision}"
    url = f"{server.url}{REPO}/statuses/{world['c2']}"
    for text in ("no", "[]"):
        assert requests.post(url, data=text, headers=AUTHORIZED, timeout=30).status_code == 400


def test_the_newest_status_of_each_context_counts(server: GitHubServer, world: World) -> None:
    """The combined state is that of the newest ones, and all are listed."""
    for context, state in (("a", "pending"), ("a", "success"), ("b", "pending"), ("b", "error")):
        body = {"state": state, "context": context, "description": "x" * 140}
        assert _post(server, f"{REPO}/statuses/{world['f1']}", body, **AUTHORIZED).status_code == 201
    combined = get(server, f"{REPO}/commits/{world['f1']}/status").json()
    found = [(status["context"], status["state"]) for status in combined["statuses"]]
    assert (combined["state"], combined["total_count"], found) == ("failure", 2, [("b", "error"), ("a", "success")])
    listed = get(server, f"{REPO}/commits/{world['f1']}/statuses?per_page=3")
    assert [status["state"] for status in listed.json()] == ["error", "pending", "success"]
    assert "next" in listed.links
    pending = get(server, f"{REPO}/commits/{world['f2']}/status").json()
    assert (pending["state"], pending["total_count"]) == ("pending", 0)


def test_statuses_have_a_limit_and_can_be_restored(server: GitHubServer, world: World) -> None:
    """1,000 of one commit and context; another server continues with all of them."""
    statuses = server.statuses
    for _ in range(1_000):
        statuses.add(WIDGET, world["x1"], {"state": "pending"}, server.service.state.clock.now())
    refused = _post(server, f"{REPO}/statuses/{world['x1']}", {"state": "success"}, **AUTHORIZED)
    assert refused.status_code == 422
    other = GitHubServer(world.root)
    other.statuses.restore(statuses.exported())
    assert other.statuses.all() == statuses.all()
    added = other.statuses.add(WIDGET, world["x2"], {"state": "success"}, server.service.state.clock.now())
    assert added.id > max(status.id for status in statuses.all())
    with pytest.raises(ValueError, match="not a commit status"):
        other.statuses.restore([{"id": 1}])
