"""Commit events of local repositories: after pushes, and after commits without a push."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import NotFound

from emulator.commit_events import CommitEvents, MissingRepositories, RefWatcher
from emulator.feed import Feed
from emulator.gitiles import Repository
from emulator.gitiles.refs import Push, RefChange, read_refs
from luci_scheduler.core.commit_event import parse_commit_events
from tests.unit.emulator.gitiles.git_client import GitClient
from tests.waiting import until

HOST = "sample.googlesource.com"
REPO = f"https://{HOST}/engine"


class _Parts:
    """Events, the feed, and a watcher of a folder, with the messages that were published."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.messages: list[bytes] = []
        self.feed = Feed(lambda: 0)
        self.events = CommitEvents(self._publish, "proj", self.feed)
        self.events.console_url = "http://127.0.0.1:7"
        self.watcher = RefWatcher(root, self.events, self.feed, seconds=0.02)

    def _publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        assert (topic, attributes) == ("projects/proj/topics/gitiles-commit", {})
        self.messages.append(data)
        return str(len(self.messages))

    def published(self) -> list[tuple[str, str, str]]:
        """Return and forget the events, as the functions read them."""
        events = [event for message in self.messages for event in parse_commit_events(message)]
        self.messages.clear()
        return [(event.repo, event.ref, event.revision) for event in events]

    def lines(self) -> list[tuple[str, str]]:
        """Return kind and text of each line of the feed."""
        return [(entry.kind, entry.text) for entry in self.feed.after(0)]


@pytest.fixture(name="parts")
def _parts(tmp_path: Path) -> _Parts:
    return _Parts(tmp_path)


@pytest.fixture(name="work")
def _work(tmp_path: Path) -> GitClient:
    """A work tree among the served repositories."""
    work = GitClient(tmp_path / HOST / "engine")
    work.commit("First")
    return work


def _push(parts: _Parts, path: Path, *changes: tuple[str, str, str]) -> None:
    parts.events.pushed(Push(HOST, "engine", path, tuple(RefChange(*change) for change in changes)))


def test_a_push_publishes_each_new_state_and_tells_who_did_what(parts: _Parts, tmp_path: Path) -> None:
    """A deleted ref has a line, and no event. The lines link to the page about the commit."""
    repository = Repository.create(tmp_path / HOST / "engine")
    revision = repository.commit("Fix the parser\n\nBody\n", {"a": "1"})
    tag = repository.tag("v1", revision, "A release")
    _push(
        parts,
        repository.path,
        ("refs/heads/main", "", revision),
        ("refs/heads/old", revision, ""),
        ("refs/tags/v1", "", tag),
    )
    assert parts.published() == [(REPO, "refs/heads/main", revision), (REPO, "refs/tags/v1", tag)]
    assert parts.lines() == [
        ("push", f"git push of main, old, v1 to {REPO}"),
        ("commit", f"{revision[:12]} Fix the parser (Ana Example) on main of {REPO}"),
        ("commit", f"{revision[:12]} Fix the parser (Ana Example) on v1 of {REPO}"),
    ]
    entry = parts.feed.after(1)[0]
    address = f"repo={REPO}&revision={revision}&ref=refs/heads/main"
    assert entry.link == f"http://127.0.0.1:7/commits?{address}"
    assert dict(entry.fields) == {
        "repo": REPO,
        "ref": "refs/heads/main",
        "revision": revision,
        "subject": "Fix the parser",
        "author": "Ana Example",
    }


def test_many_refs_share_one_message(parts: _Parts, tmp_path: Path) -> None:
    """In the form of a Gerrit host, which the functions read in one piece; the feed stays short."""
    repository = Repository.create(tmp_path / HOST / "engine")
    revision = repository.commit("x", {"a": "1"})
    refs = [f"refs/heads/b{number:02}" for number in range(30)]
    _push(parts, repository.path, *((ref, "", revision) for ref in refs))
    assert len(parts.messages) == 1
    assert sorted(parts.published()) == [(REPO, ref, revision) for ref in refs]
    assert [kind for kind, _ in parts.lines()] == ["push", *["commit"] * 11]
    assert parts.lines()[-1][1] == f"20 more refs of {REPO} have changed"


def test_a_repository_without_an_address_has_no_events(parts: _Parts, tmp_path: Path) -> None:
    """The functions would refuse them."""
    repository = Repository.create(tmp_path / "plain")
    revision = repository.commit("x", {"a": "1"})
    parts.events.pushed(Push("", "plain", repository.path, (RefChange("refs/heads/main", "", revision),)))
    assert parts.published() == []


def test_commits_in_a_work_tree_are_noticed(parts: _Parts, work: GitClient) -> None:
    """By the files of the refs. Earlier commits and git's own files cause no event."""
    parts.watcher.look()
    assert parts.published() == []
    revision = work.commit("Second")
    work.run("tag", "v1")
    (work.folder / "file").write_text("unfinished")
    work.run("stash")
    parts.watcher.look()
    assert parts.published() == [(REPO, "refs/heads/main", revision), (REPO, "refs/tags/v1", revision)]
    work.run("pack-refs", "--all")
    parts.watcher.look()
    assert parts.published() == []
    work.run("switch", "--quiet", "--create", "topic")
    parts.watcher.look()
    assert parts.published() == [(REPO, "refs/heads/topic", revision)]
    work.run("tag", "--delete", "v1")
    parts.watcher.look()
    assert parts.published() == []


def test_git_runs_only_after_a_change(parts: _Parts, work: GitClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle look costs a few looks at files."""
    reads: list[Path] = []
    read: Callable[[Path], dict[str, str]] = read_refs
    monkeypatch.setattr("emulator.commit_events.read_refs", lambda path: reads.append(path) or read(path))
    for _ in range(5):
        parts.watcher.look()
    assert len(reads) == 1
    work.commit()
    parts.watcher.look()
    assert len(reads) == 2


def test_a_change_is_published_once(parts: _Parts, work: GitClient) -> None:
    """A push that the watcher has noticed already, and a push that it notices afterwards."""
    parts.watcher.look()
    old, new = work.run("rev-parse", "HEAD"), work.commit("Second")
    parts.watcher.look()
    _push(parts, work.folder, ("refs/heads/main", old, new))
    newer = work.commit("Third")
    _push(parts, work.folder, ("refs/heads/main", new, newer))
    parts.watcher.look()
    work.run("branch", "topic")
    parts.watcher.look()
    work.run("branch", "--delete", "topic")
    _push(parts, work.folder, ("refs/heads/topic", newer, ""))
    parts.watcher.look()
    work.run("branch", "topic")
    parts.watcher.look()
    assert [(ref, revision) for _, ref, revision in parts.published()] == [
        ("refs/heads/main", new),
        ("refs/heads/main", newer),
        ("refs/heads/topic", newer),
        ("refs/heads/topic", newer),
    ]


def test_the_watcher_looks_by_itself(parts: _Parts, work: GitClient) -> None:
    """Until its block ends."""
    with parts.watcher:
        revision = work.commit()
        until(lambda: parts.messages)
    assert parts.published() == [(REPO, "refs/heads/main", revision)]


@pytest.mark.parametrize("error", [NotFound("no topic"), LookupError("no topic")])
def test_events_that_nothing_takes_are_a_problem(
    parts: _Parts, work: GitClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The push itself has succeeded, and later commits are announced again."""
    parts.watcher.look()

    def fail(*_: object) -> str:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(parts.events, "_publish", fail)
        work.commit()
        parts.watcher.look()
        _push(parts, work.folder, ("refs/heads/other", "", work.run("rev-parse", "HEAD")))
    texts = [text for kind, text in parts.lines() if kind == "problem"]
    assert len(texts) == 2
    assert all(f"the commits of {REPO} were not announced, so its jobs wait" in text for text in texts)
    work.commit()
    parts.watcher.look()
    assert len(parts.published()) == 1


def test_a_repository_that_git_refuses_is_a_problem(parts: _Parts, work: GitClient) -> None:
    """The watcher goes on. It says so again only after the next change."""
    parts.watcher.look()
    work.commit()
    config = work.folder / ".git" / "config"
    good = config.read_text()
    config.write_text("[core\n")
    parts.watcher.look()
    parts.watcher.look()
    (line,) = parts.lines()
    assert line[0] == "problem"
    assert str(work.folder) in line[1]
    config.write_text(good)
    revision = work.commit()
    parts.watcher.look()
    assert parts.published() == [(REPO, "refs/heads/main", revision)]


def test_a_repository_that_comes_later_starts_without_events(parts: _Parts, tmp_path: Path) -> None:
    """The first poll of its job also takes its refs as known. The repository may go again."""
    parts.watcher.look()
    work = GitClient(tmp_path / HOST / "late")
    work.commit()
    parts.watcher.look()
    assert parts.published() == []
    work.commit()
    parts.watcher.look()
    assert len(parts.published()) == 1
    (work.folder / ".git").rename(tmp_path / "gone")
    parts.watcher.look()
    assert parts.published() == []


def test_a_missing_repository_is_told_once_if_a_config_names_it() -> None:
    """Other addresses are typing errors in a browser."""
    feed = Feed(lambda: 0)
    missing = MissingRepositories(feed, lambda: {REPO})
    for repo in (REPO, REPO, f"https://{HOST}/other"):
        missing(repo, f"no repository {repo}")
    assert [(entry.kind, entry.text) for entry in feed.after(0)] == [("problem", f"no repository {REPO}")]


def test_an_event_has_the_documented_form(parts: _Parts) -> None:
    """As a real publisher sends it."""
    parts.events.publish(REPO, "refs/heads/main", "a" * 40)
    event: dict[str, Any] = json.loads(parts.messages[0])
    assert event == {"repo": REPO, "ref": "refs/heads/main", "revision": "a" * 40}


def test_a_push_during_the_start_waits_for_the_configs(parts: _Parts, tmp_path: Path) -> None:
    """Without a config in force, its commit would start nothing, and no later event would name it."""
    repository = Repository.create(tmp_path / HOST / "engine")
    revision = repository.commit("Early", {"a": "1"})
    parts.events.hold()
    _push(parts, repository.path, ("refs/heads/main", "", revision))
    assert (parts.published(), parts.lines()) == ([], [])
    parts.events.release()
    assert parts.published() == [(REPO, "refs/heads/main", revision)]
    assert [kind for kind, _ in parts.lines()] == ["push", "commit"]
    parts.events.release()
    assert parts.published() == []


def test_a_branch_is_looked_at_as_it_is(parts: _Parts, tmp_path: Path) -> None:
    """Its latest commit needs no new commit to be built. A branch without commits is no news."""
    repository = Repository.create(tmp_path / HOST / "engine")
    parts.events.look(REPO, repository.path, "refs/heads/main")
    assert (parts.published(), parts.lines()) == ([], [])
    revision = repository.commit("There before", {"a": "1"})
    parts.events.look(REPO, repository.path, "refs/heads/main")
    assert parts.published() == [(REPO, "refs/heads/main", revision)]
    assert parts.lines() == [("note", f"main of {REPO} is at {revision[:12]} There before (Ana Example)")]


def test_a_host_with_a_webhook_announces_its_own_pushes(parts: _Parts, tmp_path: Path) -> None:
    """Nothing is published for it: an announced push is only written down, and another change is passed to the host."""
    sent: list[Push] = []
    parts.events.hooks["github.com"] = sent.append
    repository = Repository.create(tmp_path / "github.com" / "example-org" / "widget")
    parts.watcher.look()
    first = repository.commit("First", {"a": "1"})
    push = Push("github.com", "example-org/widget", repository.path, (RefChange("refs/heads/main", "", first),))
    parts.events.pushed(push, is_announced=True)
    parts.watcher.look()
    assert (sent, parts.published()) == ([], [])
    assert [kind for kind, _ in parts.lines()] == ["push", "commit"]
    second = repository.commit("Second", {"a": "2"})
    parts.watcher.look()
    assert parts.published() == []
    ((host, name, changes),) = [(one.host, one.name, one.changes) for one in sent]
    assert (host, name, changes) == ("github.com", "example-org/widget", (RefChange("refs/heads/main", first, second),))
