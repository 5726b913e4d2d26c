"""``git clone``, ``git fetch`` and ``git push`` against the local Gitiles server, with the real git client."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import socket
import struct
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from emulator.errors import LocalCloudError
from emulator.gitiles import GitilesServer, Repository
from emulator.gitiles.refs import Push, read_refs
from emulator.gitiles.smart_http import Limits
from emulator.gitiles.testing import fetch_json
from tests.unit.emulator.gitiles.git_client import GitClient

HOST = "sample.googlesource.com"
REPO = f"https://{HOST}/engine"
LS_REFS = b"0014command=ls-refs\n00010009peel\n0000"


@pytest.fixture(name="client")
def _client(tmp_path: Path) -> GitClient:
    """A work tree with one commit, outside the served folder."""
    client = GitClient(tmp_path.parent / f"{tmp_path.name}-work")
    client.commit("First")
    return client


@pytest.fixture(name="pushes")
def _pushes(server: GitilesServer) -> list[Push]:
    """The pushes that the server reports; a config watches the repository engine."""
    pushes: list[Push] = []
    server.around.pushed = pushes.append
    server.around.watched = lambda: {REPO}
    return pushes


@pytest.fixture(name="url")
def _url(server: GitilesServer, pushes: list[Push]) -> str:
    """The address for git clients."""
    return f"{server.url}/{HOST}/engine"


def _changes(pushes: list[Push]) -> list[tuple[str, str, str]]:
    return [(change.ref, change.old, change.new) for push in pushes for change in push.changes]


def test_a_push_changes_refs_and_is_reported_with_each_of_them(
    client: GitClient, url: str, pushes: list[Push], tmp_path: Path
) -> None:
    """A new repository, a fast-forward, a force push, tags of both kinds, and a deletion."""
    first = client.run("rev-parse", "HEAD")
    client.run("push", url, "main")
    second = client.commit("Second")
    client.run("push", url, "main", "HEAD:refs/heads/topic")
    client.run("reset", "--quiet", "--hard", first)
    other = client.commit("Other")
    assert "rejected" in client.run("push", url, "main", fails=True)
    client.run("push", "--force", url, "main")
    client.run("tag", "light")
    client.run("tag", "--annotate", "v1", "--message=A release")
    tag = client.run("rev-parse", "v1")
    client.run("push", url, "--tags")
    client.run("push", url, ":topic")
    assert _changes(pushes) == [
        ("refs/heads/main", "", first),
        ("refs/heads/main", first, second),
        ("refs/heads/topic", "", second),
        ("refs/heads/main", second, other),
        ("refs/tags/light", "", other),
        ("refs/tags/v1", "", tag),
        ("refs/heads/topic", second, ""),
    ]
    repository = tmp_path / HOST / "engine"
    assert {(push.host, push.name, push.path) for push in pushes} == {(HOST, "engine", repository)}
    assert read_refs(repository) == {"refs/heads/main": other, "refs/tags/light": other, "refs/tags/v1": tag}


def test_the_listed_address_can_be_cloned_and_fetched(client: GitClient, url: str, server: GitilesServer) -> None:
    """HEAD names the branch that was pushed first, so that a clone has its files."""
    client.run("branch", "--move", "trunk")
    client.run("push", url, "trunk")
    listed = fetch_json(server.url, "/")[f"{HOST}/engine"]["clone_url"]
    by_host = fetch_json(server.url_of(HOST), "/")["engine"]["clone_url"]
    assert listed == by_host == url
    client.run("clone", "--quiet", listed, "copy")
    copy = GitClient(client.folder / "copy")
    assert copy.run("rev-parse", "--abbrev-ref", "HEAD") == "trunk"
    newer = client.commit()
    client.run("push", f"{server.url_of(HOST)}/a/engine.git", "trunk")
    copy.run("fetch", "--quiet")
    assert copy.run("rev-parse", "origin/trunk") == newer


def test_a_large_push_arrives_in_pieces(client: GitClient, url: str, tmp_path: Path) -> None:
    """Git sends a pack that is larger than its buffer with chunked transfer encoding."""
    revision = client.commit(content=os.urandom(300_000))
    said = client.run("-c", "http.postBuffer=65536", "push", url, "main", GIT_TRACE_CURL="1")
    assert "transfer-encoding: chunked" in said.lower()
    assert read_refs(tmp_path / HOST / "engine") == {"refs/heads/main": revision}


def test_protocol_2_and_compressed_requests(client: GitClient, url: str) -> None:
    """The version that a client asks for, and a body in gzip, as git sends long lists of commits."""
    client.run("push", url, "main")
    found = requests.get(
        f"{url}/info/refs?service=git-upload-pack", headers={"Git-Protocol": "version=2"}, timeout=10
    ).text
    assert found.startswith("000eversion 2\n")
    headers = {
        "Git-Protocol": "version=2",
        "Content-Type": "application/x-git-upload-pack-request",
        "Content-Encoding": "gzip",
    }
    answer = requests.post(f"{url}/git-upload-pack", data=gzip.compress(LS_REFS), headers=headers, timeout=10)
    assert client.run("rev-parse", "main") + " refs/heads/main" in answer.text


def test_pages_of_other_sites_cannot_push_or_read(url: str, tmp_path: Path) -> None:
    """Nothing is made for them."""
    foreign = ({"Origin": "https://evil.example.com"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example.com"})
    for headers in foreign:
        for service in ("git-receive-pack", "git-upload-pack"):
            answer = requests.get(f"{url}/info/refs?service={service}", headers=headers, timeout=10)
            assert answer.status_code == 403, headers
    assert not (tmp_path / HOST).exists()


def test_an_unknown_repository_is_explained(client: GitClient, server: GitilesServer, url: str, tmp_path: Path) -> None:
    """A clone learns where to put it, a push learns that no config names it; nothing is made for either."""
    missing: list[tuple[str, str]] = []
    server.around.missing = lambda repo, advice: missing.append((repo, advice))
    advice = (
        f"no repository engine on {HOST} in the local cloud: put it into {tmp_path}/{HOST}/engine, or git push {url}"
    )
    assert f"remote: {advice}" in client.run("ls-remote", url, fails=True)
    assert [repo for repo, _ in missing] == [REPO]
    refused = client.run("push", f"{server.url}/{HOST}/other", "main", fails=True)
    assert f"remote: no config watches https://{HOST}/other, so a push does not make it" in refused
    page = requests.get(f"{server.url_of(HOST)}/engine/+log/main?format=JSON", timeout=10)
    assert (page.status_code, page.text) == (404, f"NOT_FOUND: {advice} main\n")
    assert list(tmp_path.iterdir()) == []


def test_a_push_leaves_the_folder_by_no_name(url: str, server: GitilesServer, tmp_path: Path) -> None:
    """Even if a config would name such a repository."""
    for name in ("../escape", "a/../../escape", ".hidden", "a/.git", "%2e%2e/escape"):
        server.around.watched = lambda name=name: {f"https://{HOST}/{name}", f"https://{HOST}/../escape"}
        connection = http.client.HTTPConnection(server.host, timeout=10)
        connection.request("GET", f"/{HOST}/{name}/info/refs?service=git-receive-pack")
        assert connection.getresponse().status == 404, name
        connection.close()
    assert list(tmp_path.iterdir()) == []


def test_a_repository_of_the_user_is_read_only(client: GitClient, server: GitilesServer, tmp_path: Path) -> None:
    """It is a link. A push is refused before git starts, and so is a commit of the local cloud."""
    link = tmp_path / HOST / "own"
    link.parent.mkdir()
    link.symlink_to(client.folder / ".git")
    before = {path: path.stat().st_mtime_ns for path in client.folder.rglob("*")}
    url = f"{server.url}/{HOST}/own"
    sentence = f"{client.folder} is watched in place, and the local cloud writes nothing into it"
    assert sentence in client.run("push", url, "main:other", fails=True)
    post = requests.post(f"{url}/git-receive-pack", data=b"0000", timeout=10)
    assert (post.status_code, post.text) == (403, f"{sentence}: commit there with git\n")
    with pytest.raises(LocalCloudError, match="commit there with git"):
        Repository(link).commit("x", {"a": "b"})
    assert client.run("ls-remote", url).endswith("refs/heads/main")
    assert {path: path.stat().st_mtime_ns for path in client.folder.rglob("*")} == before


def test_a_repository_inside_one_of_the_user_is_read_only(
    client: GitClient, server: GitilesServer, tmp_path: Path
) -> None:
    """A linked folder ``.git`` holds the repositories of submodules. A push neither changes them nor makes another."""
    inner = Repository.create(client.folder / ".git/modules/inner")
    (tmp_path / HOST).mkdir()
    (tmp_path / HOST / "own").symlink_to(client.folder / ".git")
    server.around.watched = lambda: {f"https://{HOST}/own/{name}" for name in ("modules/inner", "modules/fresh")}
    for name in ("modules/inner", "modules/fresh"):
        url = f"{server.url}/{HOST}/own/{name}"
        refused = client.run("push", url, "main", fails=True)
        assert f"{inner.path.parent.parent / name} is watched in place" in refused
    assert (inner.branches(), (inner.path.parent / "fresh").exists()) == ([], False)
    with pytest.raises(LocalCloudError, match="commit there with git"):
        Repository(tmp_path / HOST / "own/modules/inner", tmp_path).commit("x", {"a": "b"})


def test_a_push_to_a_checked_out_branch_is_refused_by_git(
    client: GitClient, server: GitilesServer, tmp_path: Path
) -> None:
    """Git's own advice reaches the client."""
    other = GitClient(tmp_path / HOST / "plain")
    other.commit()
    refused = client.run("push", "--force", f"{server.url}/{HOST}/plain", "main", fails=True)
    assert "refusing to update checked out branch: refs/heads/main" in refused
    client.run("push", f"{server.url}/{HOST}/plain", "main:topic")


def test_no_program_of_a_served_repository_runs(client: GitClient, url: str, tmp_path: Path) -> None:
    """Neither its hooks nor a program that its settings name."""
    client.run("push", url, "main")
    repository, proof = tmp_path / HOST / "engine", tmp_path / "proof"
    script = f"#!/bin/sh\necho $0 >> {proof}\n"
    (repository / "hooks").mkdir(exist_ok=True)
    for name in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction"):
        hook = repository / "hooks" / name
        hook.write_text(script)
        hook.chmod(0o755)
    alternate = GitClient(tmp_path.parent / f"{tmp_path.name}-alternate")
    alternate.commit()
    (repository / "objects/info").mkdir(exist_ok=True)
    (repository / "objects/info/alternates").write_text(f"{alternate.folder}/.git/objects\n")
    with (repository / "config").open("a") as file:
        file.write(f'[core]\n\talternateRefsCommand = "echo refs >> {proof}; true"\n[gc]\n\tauto = 1\n')
    client.commit()
    client.run("push", url, "main", "HEAD:refs/heads/new")
    client.run("ls-remote", url)
    assert not proof.exists()


def test_a_missing_object_is_not_fetched(server: GitilesServer, tmp_path: Path) -> None:
    """A partial clone names the program that fetches in its settings."""
    repository, proof = Repository.create(tmp_path / HOST / "partial"), tmp_path / "proof"
    repository.commit("A change", {"file": "content\n"})
    blob = repository.resolve("main:file")
    (repository.path / "objects" / blob[:2] / blob[2:]).unlink(missing_ok=True)
    for pack in (repository.path / "objects/pack").glob("*"):
        pack.unlink()
    repository.commit("Another", {"other": "file\n"}, parents=[])
    tree = repository.commit("Missing", {"file": "content\n"}, "partial", parents=[])
    (repository.path / "objects" / blob[:2] / blob[2:]).unlink()
    with (repository.path / "config").open("a") as file:
        file.write(f'[remote "o"]\n\tpromisor = true\n\turl = {tmp_path}\n\tuploadpack = "touch {proof}; false"\n')
        file.write("[extensions]\n\tpartialClone = o\n[core]\n\trepositoryFormatVersion = 1\n")
    for page in (f"+/{tree}", f"+/{tree}/file", f"+/{tree}/file?format=TEXT"):
        requests.get(f"{server.url}/{HOST}/partial/{page}", timeout=30)
    assert not proof.exists()


def test_a_push_starts_no_filter_of_a_work_tree(client: GitClient, server: GitilesServer, tmp_path: Path) -> None:
    """Also a repository whose settings ask for it gets no update of its checked-out files."""
    other, proof = GitClient(tmp_path / HOST / "plain"), tmp_path / "proof"
    (other.folder / ".gitattributes").write_text("* filter=own\n")
    other.run("add", ".")
    other.commit()
    other.run("config", "filter.own.smudge", f"touch {proof}; cat")
    other.run("config", "receive.denyCurrentBranch", "updateInstead")
    client.run("fetch", str(other.folder), "main")
    client.run("reset", "--quiet", "--hard", "FETCH_HEAD")
    client.commit()
    refused = client.run("push", f"{server.url}/{HOST}/plain", "main", fails=True)
    assert "refusing to update checked out branch: refs/heads/main" in refused
    assert not proof.exists()


def test_a_pushed_replacement_does_not_change_a_commit(client: GitClient, url: str, server: GitilesServer) -> None:
    """A hash stands for one content for ever."""
    first = client.run("rev-parse", "HEAD")
    second = client.commit("Second")
    client.run("push", url, "main", f"{second}:refs/replace/{first}")
    assert fetch_json(server.url, f"/{HOST}/engine/+/{first}")["message"] == "First\n"


def test_files_of_the_repository_are_not_served(client: GitClient, url: str) -> None:
    """There is no access around git's own services."""
    client.run("push", url, "main")
    statuses = {
        path: requests.get(f"{url}/{path}", timeout=10).status_code
        for path in ("info/refs", "info/refs?service=git-upload-archive", "HEAD", "config", "objects/info/packs")
    }
    assert set(statuses.values()) == {403, 404}
    assert requests.get(f"{url}/git-upload-pack", timeout=10).status_code == 403


def test_a_push_has_a_limited_size(client: GitClient, url: str, server: GitilesServer, tmp_path: Path) -> None:
    """The client learns the limit, and no ref changes."""
    client.run("push", url, "main")
    before = read_refs(tmp_path / HOST / "engine")
    server._settings.limits = Limits(body=1 << 20)
    client.commit(content=os.urandom(1_200_000))
    refused = client.run("-c", "http.postBuffer=65536", "push", url, "main", fails=True)
    assert "413" in refused
    assert read_refs(tmp_path / HOST / "engine") == before
    body = os.urandom(1_200_000)
    answer = requests.post(f"{url}/git-receive-pack", data=body, timeout=10)
    assert (answer.status_code, answer.text) == (413, "the local cloud takes at most 1 MiB in one push\n")


def test_a_compressed_push_has_the_same_limit(client: GitClient, url: str, server: GitilesServer) -> None:
    """A request of a few kilobytes may hold a pack that fills a disk."""
    client.run("push", url, "main")
    content = bytes(2 << 20)
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    pack = b"PACK" + struct.pack(">II", 2, 1) + b"\xb0\x80\x80\x08" + zlib.compress(content, 0)
    pack += hashlib.sha1(pack, usedforsecurity=False).digest()
    headers = {"Content-Type": "application/x-git-receive-pack-request", "Content-Encoding": "gzip"}

    def push(tag: str) -> str:
        command = f"{'0' * 40} {blob} refs/tags/{tag}\0 report-status\n"
        body = gzip.compress(f"{len(command) + 4:04x}{command}0000".encode() + pack)
        assert len(body) < 1 << 16
        return requests.post(f"{url}/git-receive-pack", data=body, headers=headers, timeout=30).text

    server._settings.limits = Limits(body=1 << 20)
    assert "ng refs/tags/large unpacker error" in push("large")
    server._settings.limits = Limits(body=4 << 20)
    assert "ok refs/tags/small" in push("small")


def test_git_has_a_limited_time(
    url: str, server: GitilesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that does not answer is ended, together with the programs that it started."""
    Repository.create(tmp_path / HOST / "engine")
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nsleep 100 &\nwait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    server._settings.limits = Limits(seconds=0.1)
    answer = requests.get(f"{url}/info/refs?service=git-upload-pack", timeout=30)
    assert (answer.status_code, answer.text) == (500, "git http-backend: it took too long\n")


@pytest.mark.parametrize(
    ("framing", "beginning"), [("Content-Length: 10", b"x"), ("Transfer-Encoding: chunked", b"a\r\nx")]
)
def test_a_request_has_a_limited_time(
    url: str, server: GitilesServer, tmp_path: Path, framing: str, beginning: bytes
) -> None:
    """A client that sends the beginning of its body is not waited for."""
    Repository.create(tmp_path / HOST / "engine")
    server._settings.limits = Limits(seconds=0.1)
    place = urlsplit(f"{url}/git-upload-pack")
    with socket.create_connection((place.hostname, place.port), timeout=30) as client:
        client.sendall(f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\n{framing}\r\n\r\n".encode() + beginning)
        answer = client.makefile("rb").read()
    assert answer.split(b" ")[1] == b"400"
    assert answer.endswith(b"\r\n\r\nthe request broke off\n")


def test_a_missing_git_is_one_line(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For clients and for pages."""
    Repository.create(tmp_path / HOST / "engine")
    monkeypatch.setenv("PATH", "/nowhere")
    for path in ("info/refs?service=git-upload-pack", "+log/main?format=JSON", "+log/main"):
        answer = requests.get(f"{url}/{path}", timeout=10)
        assert answer.status_code == 500
        assert "git is not installed: install it" in answer.text.splitlines()[0]
