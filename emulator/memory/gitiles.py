"""Commit hosts in memory: a history built by a test, or any revision at all."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts, HostKind
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import GitCommit, GitilesError, LogPage

__all__ = ["AnyCommit", "MemoryGitiles"]

MAIN = "refs/heads/main"
"""The branch of HEAD."""
_FIRST = 1_773_756_297 * SECOND


class AnyCommit:
    """``ports.Gitiles`` that knows every revision, as a commit without parents on every ref, and lists no refs."""

    def refs(self, repo: RepoUrl, prefix: str) -> Mapping[str, str]:  # noqa: ARG002 - part of the protocol
        """Return no refs."""
        return {}

    def resolve(self, repo: RepoUrl, expression: str) -> str:  # noqa: ARG002
        """Return a full hash itself, and a different hash for each other expression."""
        is_hash = re.fullmatch(r"[0-9a-f]{40}", expression)
        return expression if is_hash else hashlib.sha1(expression.encode(), usedforsecurity=False).hexdigest()

    def log(
        self,
        repo: RepoUrl,  # noqa: ARG002
        revision: str,
        *,
        limit: int,  # noqa: ARG002
        exclude: str = "",
        start: str = "",  # noqa: ARG002
        diffs: bool = False,  # noqa: ARG002
    ) -> LogPage:
        """Return the commit alone. Every commit is on every ref, so a log that excludes a ref is empty."""
        return LogPage(() if exclude.startswith("refs/") else (GitCommit(revision, Instant(_FIRST)),))


@dataclass(frozen=True, slots=True)
class _Node:
    commit: GitCommit
    parents: tuple[str, ...]


class MemoryGitiles:
    """``ports.Gitiles`` with one history, which it serves for every repository. Thread-safe.

    To a repository on GitHub it serves the first-parent line, where a merge has a diff, as the client of GitHub does.
    """

    def __init__(self, hosts: CommitHosts = DEFAULT_HOSTS) -> None:
        self._hosts = hosts
        self.heads: dict[str, str] = {}
        """Ref → hash; a test changes it to force-push, delete or tag."""
        self.calls: list[str] = []
        """The calls so far: ``refs <prefix>``, ``resolve <expression>``, ``log <revision> n=<limit>``, ``log
        <old>..<new> n=<limit>``, the latter two with `` s=<start>`` and `` diffs`` where given."""
        self.before_call: Callable[[str], None] = lambda _: None
        """Called with each request; may raise `GitilesError`."""
        self._nodes: dict[str, _Node] = {}
        self._tags: dict[str, str] = {}
        self._numbers = itertools.count()
        self._lock = threading.RLock()

    def push(
        self,
        ref: str,
        count: int = 1,
        *,
        parents: Sequence[str] | None = None,
        diff: Sequence[tuple[str, str]] = (("file", "file"),),
        at: int | None = None,
        author: str = "Ada Author",
        subject: str = "",
        diff_cut: bool = False,
    ) -> list[str]:
        """Add commits to a ref, a second apart unless ``at`` is given; return their hashes, oldest first.

        ``parents`` are the parents of the first commit; the ref's head if None. Without a ``subject``, a commit's
        subject is ``Change <number>``. With ``diff_cut``, ``diff`` is a part of the changes. Gitiles shows no ``diff``
        of a merge.
        """
        with self._lock:
            hashes = []
            for _ in range(count):
                number = next(self._numbers)
                tip = [self.heads[ref]] if ref in self.heads else []
                identifier = hashlib.sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest()
                committed = Instant(_FIRST + number * SECOND if at is None else at)
                above = tuple(tip if parents is None else parents)
                title = subject or f"Change {number}"
                commit = GitCommit(identifier, committed, tuple(diff), author, title, diff_cut)
                self._nodes[identifier] = _Node(commit, above)
                self.heads[ref] = identifier
                parents = None
                hashes.append(identifier)
            return hashes

    def tag(self, ref: str, revision: str) -> str:
        """Make an annotated tag of a commit; return the hash of the tag object, to which ``ref`` points."""
        with self._lock:
            identifier = hashlib.sha1(f"tag {ref} {revision}".encode(), usedforsecurity=False).hexdigest()
            self._tags[identifier] = revision
            self.heads[ref] = identifier
            return identifier

    def forget(self, *hashes: str) -> None:
        """Remove commits, as garbage collection does after a force push."""
        with self._lock:
            for identifier in hashes:
                del self._nodes[identifier]

    def collect(self) -> None:
        """Remove all commits and tags that no ref reaches."""
        with self._lock:
            kept = {name for head in self.heads.values() for name in self._ancestors(head)}
            self.forget(*(self._nodes.keys() - kept))
            self._tags = {name: target for name, target in self._tags.items() if name in self.heads.values()}

    def refs(self, repo: RepoUrl, prefix: str) -> Mapping[str, str]:  # noqa: ARG002 - there is one repository
        """Return the refs below a folder."""
        self._called(f"refs {prefix}")
        with self._lock:
            return {ref: head for ref, head in self.heads.items() if f"{ref}/".startswith(f"{prefix}/")}

    def resolve(self, repo: RepoUrl, expression: str) -> str:  # noqa: ARG002
        """Return the hash of a commit: by the beginning of its hash or a ref, then along parents. HEAD is main."""
        self._called(f"resolve {expression}")
        name = re.split("[~^]", expression)[0]
        with self._lock:
            found = self._named(name)
            for kind, digits in re.findall(r"([~^])(\d*)", expression):
                count = int(digits or 1)
                for place in [1] * count if kind == "~" else [count] * bool(count):
                    found = self._parent(found, place)
            return found

    def _named(self, name: str) -> str:
        # As git looks for a name: a tag hides the branch of the same name.
        refs = [MAIN] if name == "HEAD" else [f"{place}{name}" for place in ("", "refs/", "refs/tags/", "refs/heads/")]
        heads = [self.heads[ref] for ref in refs if ref in self.heads]
        is_hash, objects = re.fullmatch("[0-9a-f]{4,40}", name.lower()), (*self._nodes, *self._tags)
        found = heads[:1] or [item for item in objects if is_hash and item.startswith(name.lower())]
        if len(found) > 1:
            raise GitilesError("INVALID_ARGUMENT", "HTTP 400: an HTML page", transient=False)
        if not found:
            raise _not_found()
        return self._tags.get(found[0], found[0])

    def _parent(self, revision: str, place: int) -> str:
        parents = self._nodes[revision].parents if revision in self._nodes else ()
        if len(parents) < place:
            raise _not_found()
        return parents[place - 1]

    def merge(self, ref: str, tips: Sequence[str], diff: Sequence[tuple[str, str]] = (("file", "file"),)) -> str:
        """Merge commits into a ref, and return the hash of the merge; ``diff`` is against the ref's old head."""
        return self.push(ref, parents=[self.heads[ref], *tips], diff=diff)[0]

    def log(
        self,
        repo: RepoUrl,
        revision: str,
        *,
        limit: int,
        exclude: str = "",
        start: str = "",
        diffs: bool = False,
    ) -> LogPage:
        """Return a page of a log, newest first."""
        is_line = self._hosts.kind(repo) is HostKind.GITHUB
        spec = f"{exclude}..{revision}" if exclude else revision
        self._called(f"log {spec} n={limit}" + (f" s={start}" if start else "") + (" diffs" if diffs else ""))
        with self._lock:
            nodes = self._history(revision, exclude, is_line=is_line)
            if start and start not in self._nodes:
                raise _not_found()
            place = next((i for i, node in enumerate(nodes) if node.commit.id == start), len(nodes)) if start else 0
            page = [
                node.commit if diffs and (is_line or len(node.parents) < 2) else replace(node.commit, diff=())  # noqa: PLR2004
                for node in nodes
            ]
            following = page[place + limit].id if place + limit < len(page) else ""
            return LogPage(tuple(page[place : place + limit]), following)

    def _history(self, revision: str, exclude: str, *, is_line: bool) -> list[_Node]:
        """Return the ancestors of a revision that a ref or revision does not have, newest first.

        As in git, the newest commit follows whose child was listed: clocks of committers may differ. With ``is_line``,
        only first parents follow.
        """
        hidden = self._ancestors(self.heads.get(exclude, exclude)) if exclude else set()
        reached = self._ancestors(self.heads.get(revision, revision)) - hidden
        order, found = itertools.count(), []
        head = self._peeled(revision)
        waiting = [(-self._seconds(head), next(order), head)] if head in reached else []
        seen = {head}
        while waiting:
            _, _, name = heapq.heappop(waiting)
            found.append(self._nodes[name])
            for parent in self._nodes[name].parents[: 1 if is_line else None]:
                if parent in reached and parent not in seen:
                    seen.add(parent)
                    heapq.heappush(waiting, (-self._seconds(parent), next(order), parent))
        return found

    def _peeled(self, revision: str) -> str:
        """Return the commit of a ref, tag or hash."""
        name = self.heads.get(revision, revision)
        return self._tags.get(name, name)

    def _seconds(self, name: str) -> int:
        return self._nodes[name].commit.committed // SECOND

    def _called(self, call: str) -> None:
        with self._lock:
            self.calls.append(call)
        self.before_call(call)

    def _ancestors(self, name: str) -> set[str]:
        name = self._tags.get(name, name)
        if name not in self._nodes:
            raise _not_found()
        found, waiting = set(), [name]
        while waiting:
            current = waiting.pop()
            if current not in found and current in self._nodes:
                found.add(current)
                waiting += self._nodes[current].parents
        return found


def _not_found() -> GitilesError:
    return GitilesError("NOT_FOUND", "HTTP 404: Requested entity was not found", transient=False)
