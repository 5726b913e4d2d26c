"""The repository host of a world, as Gitiles shows it, and the bucket of configs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from emulator.storm.faults import Fault, Kind
from emulator.storm.kernel import Kernel
from emulator.storm.wire import HttpRequest, Reply
from luci_scheduler.core.instants import SECOND, Instant

__all__ = ["Commit", "ConfigBucket", "RepositoryHost"]

_GUARD = ")]}'\n"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of a history."""

    id: str
    parent: str
    """The hash of its parent; empty for the first commit."""
    at: Instant
    number: int
    """Of all commits, in the order of their creation, from 0."""


class RepositoryHost:
    """Repositories with linear histories. A mirror may show an earlier state."""

    part = "hosts"

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._commits: dict[str, Commit] = {}
        self._heads: dict[tuple[str, str], list[tuple[Instant, str]]] = {}
        """Repository and ref → the hashes that it had, each with the instant of the change; empty: it was deleted."""

    def push(self, repo: str, ref: str, *, parent: str | None = None) -> str:
        """Add a commit to a ref, on its head unless ``parent`` is given; return its hash."""
        now, number = self._kernel.now(), len(self._commits)
        revision = hashlib.sha1(f"{repo} {number}".encode(), usedforsecurity=False).hexdigest()
        above = self.head(repo, ref) if parent is None else parent
        self._commits[revision] = Commit(revision, above, now, number)
        self._heads.setdefault((repo, ref), []).append((now, revision))
        return revision

    def head(self, repo: str, ref: str) -> str:
        """Return the hash of a ref; empty if there is none."""
        return self._head_at(repo, ref, self._kernel.now())

    def parent(self, revision: str) -> str:
        """Return the parent of a commit; empty if it has none."""
        commit = self._commits.get(revision)
        return commit.parent if commit else ""

    def method(self, request: HttpRequest) -> str:
        """Return the name of the called method."""
        rest = request.path.partition("/+")[2]
        return "gitiles.log" if rest.startswith("log/") else "gitiles.resolve" if rest[:1] == "/" else "gitiles.refs"

    def refusal(self, request: HttpRequest, fault: Fault | None) -> Reply | None:  # noqa: ARG002 - part of the protocol
        """Return the answer of a host that refuses."""
        match fault.kind if fault else None:
            case None | Kind.HOST_UNAVAILABLE:
                return Reply(503, b"unavailable")
            case Kind.HOST_QUOTA if fault:
                return Reply(429, b"too many", {"Retry-After": str(fault.amount)} if fault.amount else {})
        return None

    def answer(self, request: HttpRequest, *, as_of: int, fault: Fault | None) -> Reply:  # noqa: ARG002
        """Carry a request out."""
        folder, _, rest = request.path.partition("/+")
        repo = f"https://{request.host}/{unquote(folder).removeprefix('/a').strip('/')}"
        if rest.startswith("log/"):
            return self._log(repo, unquote(rest[4:]), dict(request.query), as_of)
        if rest.startswith("/"):
            found = self._named(repo, unquote(rest[1:]), as_of)
            return _guarded(_shown(found)) if found else _missing()
        return self._refs(repo, unquote(rest), as_of)

    def _refs(self, repo: str, prefix: str, as_of: int) -> Reply:
        found = {}
        for of_repo, ref in self._heads:
            head = self._head_at(of_repo, ref, as_of)
            if of_repo == repo and ref.startswith(f"{prefix}/") and head:
                found[ref.removeprefix(f"{prefix}/")] = {"value": head}
        return _guarded(found)

    def _log(self, repo: str, spec: str, query: Mapping[str, str], as_of: int) -> Reply:
        hidden, _, shown = spec.rpartition("..")
        newest = self._named(repo, shown, as_of)
        oldest = self._named(repo, hidden, as_of) if hidden else None
        if newest is None or (hidden and oldest is None):
            return _missing()
        behind = {commit.id for commit in self._history(oldest)}
        commits = [commit for commit in self._history(newest) if commit.id not in behind]
        start = query.get("s", "")
        first = next((place for place, commit in enumerate(commits) if commit.id == start), 0)
        end = first + int(query["n"])
        document: dict[str, Any] = {"log": [_shown(commit) for commit in commits[first:end]]}
        if end < len(commits):
            document["next"] = commits[end].id
        return _guarded(document)

    def _history(self, commit: Commit | None) -> Sequence[Commit]:
        found = []
        while commit is not None:
            found.append(commit)
            commit = self._commits.get(commit.parent)
        return found

    def _named(self, repo: str, name: str, as_of: int) -> Commit | None:
        base, _, steps = name.partition("~")
        names = (base, f"refs/heads/{base}") if base != "HEAD" else ("refs/heads/main",)
        heads = [head for ref in names if (head := self._head_at(repo, ref, as_of))]
        commit = self._commits.get(heads[0] if heads else base)
        for _ in range(int(steps or 0)):
            commit = self._commits.get(commit.parent) if commit else None
        return commit if commit is not None and commit.at <= as_of else None

    def _head_at(self, repo: str, ref: str, instant: int) -> str:
        return next((head for at, head in reversed(self._heads.get((repo, ref), ())) if at <= instant), "")


class ConfigBucket:
    """The object with the project's config, in every generation."""

    part = "configs"

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.texts: list[str] = []
        """Generation → its text; the first generation is 1."""

    def method(self, request: HttpRequest) -> str:
        """Return the name of the called method."""
        return "configs.read" if dict(request.query).get("alt") else "configs.generation"

    def refusal(self, request: HttpRequest, fault: Fault | None) -> Reply | None:  # noqa: ARG002 - part of the protocol
        """Return the answer of a bucket that refuses."""
        return Reply(503, b"unavailable") if fault is None or fault.kind is Kind.CONFIG_UNREADABLE else None

    def answer(self, request: HttpRequest, *, as_of: int, fault: Fault | None) -> Reply:  # noqa: ARG002
        """Carry a request out."""
        query = dict(request.query)
        if query.get("alt"):
            return Reply(200, self.texts[int(query["generation"]) - 1].encode())
        return Reply.of({"generation": str(len(self.texts))})


def _shown(commit: Commit) -> dict[str, Any]:
    moment = datetime.fromtimestamp(commit.at // SECOND, UTC)
    who = {"name": "Ada Author", "time": moment.strftime("%a %b %d %H:%M:%S %Y")}
    return {
        "commit": commit.id,
        "parents": [commit.parent] if commit.parent else [],
        "author": who,
        "committer": who,
        "message": f"Change {commit.number}\n",
        "tree_diff": [{"type": "modify", "old_path": "file", "new_path": "file"}],
    }


def _guarded(document: object) -> Reply:
    return Reply(200, (_GUARD + json.dumps(document)).encode(), {"Content-Type": "application/json"})


def _missing() -> Reply:
    return Reply(404, b"NOT_FOUND: Requested entity was not found")
