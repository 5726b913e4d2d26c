"""The GitHub server's pages for people, and git clients."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from emulator.errors import LocalCloudError
from emulator.github import GitHubServer
from emulator.gitiles.refs import Push, RefChange
from emulator.gitiles.repository import Repository
from tests.unit.emulator.github.support import OWNER, WIDGET, World
from tests.unit.emulator.gitiles.git_client import GitClient

HOSTILE = "<script>alert(1)</script>&\u202e"


def _page(server: GitHubServer, path: str) -> requests.Response:
    return requests.get(f"{server.url}{path}", timeout=30)


def _set_status(server: GitHubServer, revision: str, **body: str) -> None:
    status = {"state": "success", "context": "scheduler/proj/job", **body}
    server.statuses.add(WIDGET, revision, status, server.service.state.clock.now())


# Pages ----------------------------------------------------------------------------------------------------------------


def test_a_repository_lists_its_commits_with_their_statuses(server: GitHubServer, world: World) -> None:
    """The newest status of each check, as a link to its page; branches lead to their commits."""
    _set_status(server, world["c3"], state="pending")
    _set_status(server, world["c3"], target_url="https://console.example.com/job", description="Done in 3 s")
    page = _page(server, f"/{WIDGET}").text
    assert 'class="label success" href="https://console.example.com/job" title="Done in 3 s"' in page
    assert "label info" not in page
    assert f'href="/{WIDGET}/commit/{world["c3"]}"' in page
    assert f"git clone {server.clone_url(WIDGET)}" in page
    branch = _page(server, f"/{WIDGET}/tree/release/1.0").text
    assert world["c1"][:12] in branch
    assert world["c3"][:12] not in branch
    assert _page(server, f"/{WIDGET}/commits/main").text.count("/commit/") == 3


def test_a_long_branch_has_pages(server: GitHubServer, world: World) -> None:
    """The link names the first commit of the next page."""
    page = _page(server, f"/{WIDGET}/commits/long").text
    assert f'href="/{WIDGET}/commits/long?s={world.long[-51]}"' in page
    older = _page(server, f"/{WIDGET}/commits/long?s={world.long[-51]}").text
    assert world.long[-51][:12] in older
    assert "Newer" in older


def test_a_commit_shows_its_statuses_and_its_difference(server: GitHubServer, world: World) -> None:
    """The address is that of GitHub, and the page links to the console."""
    _set_status(server, world["c2"], state="failure", description="2 of 9 tests failed")
    server.around.console_url = "http://127.0.0.1:1"
    page = _page(server, f"/{WIDGET}/commit/{world['c2']}").text
    server.around.console_url = ""
    for text in ("failure", "2 of 9 tests failed", "scheduler/proj/job", "Change c2", "+two"):
        assert text in page
    assert f"repo=https%3A%2F%2Fgithub.com%2F{OWNER}%2Fwidget" in page
    assert "This commit has no status." in _page(server, f"/{WIDGET}/commit/{world['big']}").text


def test_files_and_ranges_have_pages(server: GitHubServer, world: World) -> None:
    """A file, a folder, and the commits between two ends."""
    assert "three" in _page(server, f"/{WIDGET}/blob/main/src/core.py").text
    assert "core.py" in _page(server, f"/{WIDGET}/blob/main/src").text
    page = _page(server, f"/{WIDGET}/compare/{world['c1']}...{world['c3']}").text
    assert all(world[name][:12] in page for name in ("c2", "c3"))
    assert "Change c1" not in page
    assert WIDGET in _page(server, "/").text


def test_foreign_text_is_only_text(server: GitHubServer, world: World) -> None:
    """Messages, names and statuses are escaped, and only web addresses become links."""
    repository = Repository.create(world.root / "github.com" / OWNER / "hostile")
    commit = repository.commit(f"{HOSTILE}\n\n{HOSTILE}\n", {HOSTILE: HOSTILE})
    status = {"state": "error", "context": HOSTILE, "description": HOSTILE, "target_url": "javascript:alert(1)"}
    server.statuses.add(f"{OWNER}/hostile", commit, status, server.service.state.clock.now())
    for path in ("", f"/commit/{commit}", "/commits/main", "/blob/main/"):
        found = _page(server, f"/{OWNER}/hostile{path}")
        assert found.status_code == 200, found.text
        assert "<script>" not in found.text
        assert "javascript:" not in found.text
        assert path.startswith("/blob") or "\\u202e" in found.text  # of the status
        assert "default-src 'none'" in found.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/none/none",
        "/none",
        f"/{WIDGET}/commit/{'f' * 40}",
        f"/{WIDGET}/commits/none",
        f"/{WIDGET}/blob/main/none",
        f"/{WIDGET}/settings",
        f"/{WIDGET}/blob/main/%2E%2E/x",
        f"/{WIDGET}/commit/a%00b",
        "/..%2F..%2Fetc/passwd",
    ],
)
def test_other_pages_are_not_found(server: GitHubServer, path: str) -> None:
    """The answer is a page for people."""
    found = _page(server, path)
    assert (found.status_code, "Not found" in found.text) == (404, True)


def test_a_missing_repository_names_its_place(server: GitHubServer, world: World) -> None:
    """The page names the folder, and the command that pushes it."""
    page = _page(server, f"/{OWNER}/none").text
    assert f"{world.root}/github.com/{OWNER}/none" in page
    assert f"git push {server.url}/{OWNER}/none.git main" in page
    assert requests.post(f"{server.url}/{WIDGET}", timeout=30).status_code == 405


def test_an_empty_repository_has_a_page(server: GitHubServer, world: World) -> None:
    """It says how to push."""
    Repository.create(world.root / "github.com" / OWNER / "blank")
    assert "There is no commit yet" in _page(server, f"/{OWNER}/blank").text


# Git clients ----------------------------------------------------------------------------------------------------------


def test_git_clients_push_and_clone(server: GitHubServer, world: World, tmp_path: Path) -> None:
    """A push makes a repository that a config watches, in the config's spelling, and is reported once."""
    pushes: list[Push] = []
    server.around.pushed = pushes.append
    server.around.watched = lambda: {"https://github.com/Example-Org/Fresh"}
    client = GitClient(tmp_path / "work")
    commit = client.commit("First")
    url = server.clone_url("example-org/fresh")
    client.run("push", url, "main")
    client.run("clone", "--quiet", server.clone_url("EXAMPLE-ORG/fresh"), "copy")
    assert (client.folder / "copy").is_dir()
    assert "no config watches https://github.com/none/none" in client.run(
        "push", server.clone_url("none/none"), "main", fails=True
    )
    for name in ("none", "github.com/none/none"):
        refused = client.run("push", server.clone_url(name), "main", fails=True)
        assert f"the address of a repository is {server.url}/OWNER/NAME.git, not /{name}" in refused
    assert "no repository none/none on github.com" in client.run("clone", server.clone_url("none/none"), fails=True)
    server.around.pushed, server.around.watched = lambda _: None, frozenset
    change = RefChange("refs/heads/main", "", commit)
    assert [(push.host, push.name, push.changes) for push in pushes] == [("github.com", "Example-Org/Fresh", (change,))]
    assert (world.root / "github.com" / "Example-Org" / "Fresh").is_dir()


def test_a_renamed_repository_is_found_by_git(server: GitHubServer, world: World, tmp_path: Path) -> None:
    """GitHub redirects git clients as well."""
    Repository.create(world.root / "github.com" / OWNER / "before").commit("First", {"a": "1"})
    server.rename(f"{OWNER}/before", f"{OWNER}/after")
    client = GitClient(tmp_path / "work")
    client.run("clone", "--quiet", server.clone_url(f"{OWNER}/before"), "copy")
    assert (client.folder / "copy" / "a").read_text() == "1"


def test_a_linked_repository_belongs_to_its_user(server: GitHubServer, world: World, tmp_path: Path) -> None:
    """Neither a push nor a control call writes into it or into a linked folder, and it keeps its name."""
    user = Repository.create(tmp_path / "mine", bare=False)
    user.commit("First", {"a": "1"})
    (world.root / "github.com" / OWNER / "linked").symlink_to(user.path)
    with pytest.raises(LocalCloudError, match="watched in place"):
        server.service.commit(f"{OWNER}/linked", "main", "No", {"a": "2"}, None)
    with pytest.raises(ValueError, match="watched in place"):
        server.rename(f"{OWNER}/linked", f"{OWNER}/other")
    client = GitClient(tmp_path / "work")
    client.commit("Other")
    (tmp_path / "projects").mkdir()
    (world.root / "github.com" / "me").symlink_to(tmp_path / "projects")
    with pytest.raises(LocalCloudError, match="watched in place"):
        server.service.commit("me/new", "main", "No", {"a": "2"}, None)
    Repository.create(world.root / "github.com" / OWNER / "mover")
    with pytest.raises(ValueError, match="watched in place"):
        server.rename(f"{OWNER}/mover", "me/new")
    assert list((tmp_path / "projects").iterdir()) == []
    refused = client.run("push", server.clone_url(f"{OWNER}/linked"), "main", fails=True)
    assert "watched in place" in refused
    assert "First" in _page(server, f"/{OWNER}/linked").text
