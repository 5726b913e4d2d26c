"""Commit events of the local repositories: after a push at once, and after other changes of refs within a second."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

from google.api_core.exceptions import GoogleAPICallError

from emulator.feed import Feed
from emulator.gitiles.commits import read_commits
from emulator.gitiles.git import GitError, git
from emulator.gitiles.projects import repositories
from emulator.gitiles.refs import Push, RefChange, Stamp, read_refs, ref_changes, refs_stamp
from emulator.topics import COMMIT_TOPIC
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS
from luci_scheduler.core.repo_url import BadRepoUrlError

__all__ = ["CommitEvents", "MissingRepositories", "RefWatcher"]

Publish = Callable[[str, bytes, Mapping[str, str]], str]
"""Publishes to a topic (full name) and returns the message's ID, as `local_cloud.PubSub.publish`."""

_SHORT = 12  # digits of a hash that people read
_LINES = 10  # of one push in the feed
_SINGLE = 16  # changed refs of one push that are events of their own; more of them share one message
_NO_COMMIT = "0" * 40
_SECONDS = 1.0


class CommitEvents:
    """Publishes what a repository's host would publish, and writes it into the feed. Thread-safe.

    Args:
        publish: publishes a message.
        project: the cloud project.
        feed: gets a line for each push and each commit event.
    """

    def __init__(self, publish: Publish, project: str, feed: Feed) -> None:
        self._publish = publish
        self._topic = f"projects/{project}/topics/{COMMIT_TOPIC}"
        self._feed = feed
        self._lock = threading.RLock()
        self._known: dict[Path, dict[str, str]] = {}
        self._held: list[Push] | None = None
        self.console_url = ""
        """Where the console is; the lines of the feed link to its pages."""
        self.hooks: dict[str, Callable[[Push], object]] = {}
        """Host → sends the webhook of a push; changes of the host's repositories are then announced by it."""

    def publish(self, repo: str, ref: str, revision: str) -> str:
        """Publish a commit event (a ref that now points to a revision); return the message's ID."""
        event = {"repo": repo, "ref": ref, "revision": revision}
        return self._publish(self._topic, json.dumps(event).encode(), {})

    def pushed(self, push: Push, *, is_announced: bool = False) -> None:
        """Publish the events of a push. A change that was noticed meanwhile is not published again.

        Args:
            push: the push.
            is_announced: whether the host has announced it, so that nothing is published.
        """
        if is_announced:
            self._say_push(push)
            self._post_all(f"https://{push.host}/{push.name}", push.path, self._not_known(push))
            return
        with self._lock:
            if self._held is not None:
                self._held.append(push)
                return
        self._say_push(push)
        self.committed(push)

    def _say_push(self, push: Push) -> None:
        repo = f"https://{push.host}/{push.name}"
        names = ", ".join(_short_ref(change.ref) for change in push.changes[:_LINES])
        more = f" and {len(push.changes) - _LINES} more refs" if len(push.changes) > _LINES else ""
        self._feed.post("push", f"git push of {names}{more} to {repo}", repo=repo)

    def hold(self) -> None:
        """Keep all pushes until `release`: before the first config is in force, a commit would start nothing."""
        with self._lock:
            self._held = []

    def release(self) -> None:
        """Publish the events of the kept pushes, in their order, and from now on those of each push at once."""
        with self._lock:
            held, self._held = self._held or [], None
        for push in held:
            self.pushed(push)

    def look(self, repo: str, path: Path, ref: str) -> None:
        """Publish an event for a branch as it is, so that the next poll does not wait; nothing if it has no commit."""
        try:
            value = read_refs(path).get(ref, "")
        except GitError:
            return  # `RefWatcher` says so
        if not value:
            return
        revision, subject, author = _commit_of(path, value)
        with suppress(GoogleAPICallError, LookupError):  # the next poll finds the commits
            self.publish(repo, ref, revision)
        text = f"{_short_ref(ref)} of {repo} is at {revision[:_SHORT]} {subject} ({author})"
        self._feed.post("note", text, self._page(repo, ref, revision), repo=repo, ref=ref, revision=revision)

    def committed(self, push: Push) -> None:
        """Publish the events of changes that the local cloud itself has made, like those of a push."""
        self._announce(f"https://{push.host}/{push.name}", push.path, self._not_known(push))

    def _not_known(self, push: Push) -> list[RefChange]:
        """Return the changes that have no event yet; from now on all of them are known."""
        with self._lock:
            known = self._known.get(push.path)
            if known is None:
                return list(push.changes)
            fresh = [change for change in push.changes if known.get(change.ref, "") != change.new]
            now = known | {change.ref: change.new for change in push.changes}
            self._known[push.path] = {ref: value for ref, value in now.items() if value}
            return fresh

    def remember(self, path: Path, refs: Mapping[str, str]) -> None:
        """Take the refs of a repository as known, without events."""
        with self._lock:
            self._known[path] = dict(refs)

    def notice(self, repo: str, path: Path) -> None:
        """Publish the events of all changes since the refs were known.

        Raises:
            GitError: git does not run, or refuses the repository.
        """
        with self._lock:
            after = read_refs(path)
            changes = ref_changes(self._known.get(path, {}), after)
            self._known[path] = after
        self._announce(repo, path, changes)

    def _announce(self, repo: str, path: Path, changes: Sequence[RefChange]) -> None:
        if not changes or not _is_public(repo):
            return
        updated = [change for change in changes if change.new]
        host, _, name = repo.removeprefix("https://").partition("/")
        try:
            if hook := self.hooks.get(host):
                hook(Push(host, name, path, tuple(changes)))
            else:
                self._publish_all(repo, updated)
        except (GoogleAPICallError, LookupError) as error:
            text = f"the commits of {repo} were not announced, so its jobs wait for their next poll: {error}"
            self._feed.post("problem", text, repo=repo)
            return
        self._post_all(repo, path, updated)

    def _post_all(self, repo: str, path: Path, changes: Sequence[RefChange]) -> None:
        updated = [change for change in changes if change.new]
        for change in updated[:_LINES]:
            self._post(repo, path, change)
        if len(updated) > _LINES:
            self._feed.post("commit", f"{len(updated) - _LINES} more refs of {repo} have changed", repo=repo)

    def _publish_all(self, repo: str, updated: Sequence[RefChange]) -> None:
        if len(updated) > _SINGLE:
            self._publish(self._topic, _ref_updates(repo, updated), {})
            return
        for change in updated:
            self.publish(repo, change.ref, change.new)

    def _post(self, repo: str, path: Path, change: RefChange) -> None:
        revision, subject, author = _commit_of(path, change.new)
        about = f" {subject} ({author})" if subject else ""
        self._feed.post(
            "commit",
            f"{revision[:_SHORT]}{about} on {_short_ref(change.ref)} of {repo}",
            self._page(repo, change.ref, revision),
            repo=repo,
            ref=change.ref,
            revision=revision,
            subject=subject,
            author=author,
        )

    def _page(self, repo: str, ref: str, revision: str) -> str:
        """Return the address of a commit's page; empty without a console."""
        query = urlencode({"repo": repo, "revision": revision, "ref": ref}, safe=":/")
        return f"{self.console_url}/commits?{query}" if self.console_url else ""


def _is_public(repo: str) -> bool:
    """Return whether a commit event may name a repository."""
    try:
        DEFAULT_HOSTS.parse(repo)
    except BadRepoUrlError:
        return False
    return True


def _ref_updates(repo: str, changes: Sequence[RefChange]) -> bytes:
    """Return one message about many refs, in the form of a Gerrit host."""
    updates = {change.ref: _ref_update(change) for change in changes}
    return json.dumps({"url": repo, "refUpdateEvent": {"refUpdates": updates}}).encode()


def _ref_update(change: RefChange) -> dict[str, str]:
    return {"refName": change.ref, "updateType": "UPDATE", "oldId": change.old or _NO_COMMIT, "newId": change.new}


def _commit_of(path: Path, value: str) -> tuple[str, str, str]:
    """Return hash, subject and author of the commit that a ref's value leads to; a value without a commit has none."""
    try:
        revision = git(path, "rev-parse", "--verify", "--quiet", f"{value}^{{commit}}").decode().strip()
        (commit,) = read_commits(path, [revision])
    except GitError:
        return value, "", ""
    return revision, commit.message.strip().split("\n")[0], commit.author.name


def _short_ref(ref: str) -> str:
    for prefix in ("refs/heads/", "refs/tags/"):
        if ref.startswith(prefix):
            return ref.removeprefix(prefix)
    return ref


class MissingRepositories:
    """Writes a line into the feed for each watched repository that a request does not find, once."""

    def __init__(self, feed: Feed, watched: Callable[[], Collection[str]]) -> None:
        self._feed = feed
        self._watched = watched
        self._said: set[str] = set()

    def __call__(self, repo: str, advice: str) -> None:
        """Take note of a repository (``https://<host>/<name>``), and of the sentence that says where to put it."""
        if repo not in self._said and repo in self._watched():
            self._said.add(repo)
            self._feed.post("problem", advice, repo=repo)


class RefWatcher:
    """Notices commits that are made without a push, such as ``git commit`` in a served work tree.

    Inside a ``with`` block, a thread looks at the files that hold the refs, each second of real time. It starts git for
    a repository only if they have changed. The refs of the first look are no news.

    Args:
        root: the folder with a repository in ``<host>/<name>`` each.
        events: publishes the new commits.
        feed: gets a line about a repository that cannot be read.
        seconds: the time between two looks.
    """

    def __init__(self, root: Path, events: CommitEvents, feed: Feed, seconds: float = _SECONDS) -> None:
        self._root = root
        self._events = events
        self._feed = feed
        self._seconds = seconds
        self._stamps: dict[Path, Stamp] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ref-watcher", daemon=True)

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            with suppress(OSError):  # a folder that goes away during the look; the next look has a new list
                self.look()

    def look(self) -> None:
        """Look once at all repositories; only the thread and tests call this."""
        found = list(repositories(self._root))
        for path in self._stamps.keys() - set(found):
            del self._stamps[path]
        for path in found:
            stamp = refs_stamp(path)  # before the refs are read, so that no later change is missed
            if stamp != self._stamps.get(path):
                self._read(path, stamp)

    def _read(self, path: Path, stamp: Stamp) -> None:
        is_new = path not in self._stamps
        self._stamps[path] = stamp
        try:
            if is_new:
                self._events.remember(path, read_refs(path))
            else:
                self._events.notice(self._repo(path), path)
        except GitError as error:
            self._feed.post("problem", f"the repository {path} cannot be read: {error}")

    def _repo(self, path: Path) -> str:
        return f"https://{path.relative_to(self._root).as_posix().removesuffix('.git')}"
