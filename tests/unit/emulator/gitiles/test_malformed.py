"""Commits that no client writes, but that git stores: each page shows them, and other commits of their branch."""

from __future__ import annotations

import subprocess

import pytest

from emulator.gitiles import GitilesServer, Repository
from emulator.gitiles.testing import fetch_json, get_page

AUTHOR, COMMITTER = b"author Ana <a@example.com> 1 +0000\n", b"committer Ana <a@example.com> 1 +0000\n"
EPOCH = "Thu Jan 01 00:00:00 1970"


def store(repository: Repository, rest: bytes) -> str:
    """Store a commit of the branch's tree as git finds it in a pack, and return its hash."""
    tree = repository.resolve("main^{tree}")
    command = ["git", "-C", str(repository.path), "hash-object", "-t", "commit", "-w", "--stdin", "--literally"]
    raw = f"tree {tree}\n".encode() + rest
    return subprocess.run(command, input=raw, capture_output=True, check=True, timeout=60).stdout.decode().strip()


@pytest.mark.parametrize(
    ("rest", "name", "message"),
    [
        (COMMITTER + b"\nm", "", "m"),
        (b"author Ana <a@example.com>\n" + COMMITTER + b"\nm", "Ana", "m"),
        (b"author Ana <a@example.com> 99999999999999999 +0000\n" + COMMITTER + b"\nm", "Ana", "m"),
        (b"author Ana <a@example.com> 999999999999 +0000\n" + COMMITTER + b"\nm", "Ana", "m"),
        (b"author Ana <a@example.com> \xff east\n" + COMMITTER + b"\nm", "Ana", "m"),
        (AUTHOR + COMMITTER + b"encoding undefined\n\nm\xff", "Ana", "m\ufffd"),
        (AUTHOR + COMMITTER + b"encoding a\0b\n\nm", "Ana", "m"),
        (AUTHOR + COMMITTER + b"encoding idna\n\nm\xff", "Ana", "m\ufffd"),
        (AUTHOR + COMMITTER + b"encoding unicode_escape\n\nm\\ud800", "Ana", "m?"),
    ],
)
def test_a_malformed_commit_is_shown(
    server: GitilesServer, repository: Repository, rest: bytes, name: str, message: str
) -> None:
    """A poll goes on, and no page is an error."""
    repository.commit("A change", {"file": "content\n"})
    revision = store(repository, rest)
    server._settings.zones = True
    log = fetch_json(server.url, f"/tint/+log/{revision}")["log"][0]
    assert (log["author"]["name"], log["message"]) == (name, message)
    assert log["committer"]["time"].startswith("Thu Jan 01 00:00:01 1970")
    assert log["author"]["time"].startswith(EPOCH[:-6])
    assert get_page(server.url, f"/tint/+/{revision}", format="HTML").status_code == 200


def test_a_zone_that_no_place_has(server: GitilesServer, repository: Repository) -> None:
    repository.commit("A change", {"file": "content\n"})
    revision = store(repository, b"author Ana <a@example.com> 0 -9999\n" + COMMITTER + b"\nm")
    server._settings.zones = True
    assert fetch_json(server.url, f"/tint/+/{revision}")["author"]["time"] == f"{EPOCH} +0000"
