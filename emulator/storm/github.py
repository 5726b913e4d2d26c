"""The repository host of a world as GitHub's REST API shows it.

It has refs with ETags, comparisons, commit statuses, limits, and a repository with a new name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlencode

from emulator.storm.faults import Fault, Kind
from emulator.storm.history import History, Shown
from emulator.storm.kernel import Kernel
from emulator.storm.repositories import Commit, RepositoryHost
from emulator.storm.scripts import GITHUB_REPO
from emulator.storm.wire import HttpRequest, Reply
from luci_scheduler.core.instants import MINUTE, SECOND, Instant, format_rfc3339

__all__ = ["API_HOST", "TOKEN", "GitHubHost"]

API_HOST = "api.github.com"
TOKEN = "ghp_token-of-the-storm"  # noqa: S105 - no real one
_NAMED, _NUMBERED = "/repos/example/repo/", "/repositories/1/"
_METHODS = {
    "git/matching-refs": "refs",
    "compare": "compare",
    "commits": "commits",
    "git/tags": "tag",
    "statuses": "status",
}
_CLOSED = 15 * MINUTE
"""How long the host answers nothing after the hourly limit is used up."""


class GitHubHost(RepositoryHost):
    """One repository with a linear history. Each read may show an earlier state than the one before it."""

    def __init__(self, kernel: Kernel, history: History) -> None:
        super().__init__(kernel)
        self._records = history
        self.is_renamed = False
        """Whether the repository has another name. Its old address redirects to that with its number."""

    def rename(self) -> None:
        """Rename the repository."""
        self.is_renamed = True

    def method(self, request: HttpRequest) -> str:
        """Return the name of the called method."""
        rest = _rest(request)
        return next(f"github.{name}" for path, name in _METHODS.items() if rest.startswith(path))

    def refusal(self, request: HttpRequest, fault: Fault | None) -> Reply | None:  # noqa: ARG002 - part of the protocol
        """Return the answer of a host that refuses."""
        match fault.kind if fault else None:
            case None | Kind.HOST_UNAVAILABLE:
                return Reply(503, b"<html>Unicorn!</html>", {"Content-Type": "text/html"})
            case Kind.HOST_QUOTA if fault and fault.amount:
                headers = {"Retry-After": str(fault.amount)}
                return _error(403, "You have exceeded a secondary rate limit.", headers)
            case Kind.HOST_QUOTA:
                end = (self._kernel.now() + _CLOSED) // SECOND
                headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(end)}
                return _error(403, "API rate limit exceeded for user ID 1.", headers)
        return None

    def answer(self, request: HttpRequest, *, as_of: int, fault: Fault | None) -> Reply:  # noqa: ARG002
        """Carry a request out."""
        rest, query = _rest(request), dict(request.query)
        if self.is_renamed and request.path.startswith(_NAMED):
            target = f"https://{API_HOST}{_NUMBERED}{rest}" + (f"?{urlencode(query)}" if query else "")
            return Reply(301, b'{"message": "Moved Permanently"}', {"Location": target})
        name, _, last = rest.removeprefix("git/").partition("/")
        match name:
            case "matching-refs":
                return self._matching(f"refs/{last}", request.headers.get("If-None-Match", ""), as_of)
            case "compare":
                return self._compared(last, query, as_of)
            case "statuses":
                return self._show(last, json.loads(request.body))
            case "commits" if last:
                found = self._named(GITHUB_REPO, last.removeprefix("heads/"), as_of)
                return Reply.of(_shown(found)) if found else _error(422, f"No commit found for SHA: {last}")
            case "commits":
                head = self._named(GITHUB_REPO, query["sha"], as_of)
                return Reply.of([_shown(item) for item in _page(self._history(head), query)]) if head else _error(404)
        return _error(404)

    def _show(self, revision: str, body: Mapping[str, str]) -> Reply:
        shown = Shown(self._kernel.now(), revision, body["context"], body["state"], body["target_url"])
        self._records.statuses.append(shown)
        return Reply.of(body, 201)

    def _matching(self, prefix: str, etag: str, as_of: int) -> Reply:
        found = [
            {"ref": ref, "object": {"sha": head, "type": "commit"}}
            for repo, ref in self._heads
            if ref.startswith(prefix) and (head := self._head_at(repo, ref, as_of))
        ]
        body = json.dumps(found).encode()
        own = f'"{hashlib.sha256(body).hexdigest()}"'
        if etag == own:
            return Reply(304, b"", {"ETag": own})
        return Reply(200, body, {"Content-Type": "application/json", "ETag": own})

    def _compared(self, ends_named: str, query: Mapping[str, str], as_of: int) -> Reply:
        """Return the commits of ``<base>...<head>``: ancestors of the head that the base lacks, oldest first."""
        ends = [self._named(GITHUB_REPO, name, as_of) for name in ends_named.split("...")]
        if None in ends:
            return _error(404)
        behind = {commit.id for commit in self._history(ends[0])}
        ahead = [commit for commit in reversed(self._history(ends[1])) if commit.id not in behind]
        return Reply.of({"total_commits": len(ahead), "commits": [_shown(item) for item in _page(ahead, query)]})


def _rest(request: HttpRequest) -> str:
    path = unquote(request.path)
    return path.removeprefix(_NAMED).removeprefix(_NUMBERED)


def _page(commits: Sequence[Commit], query: Mapping[str, str]) -> Sequence[Commit]:
    size, number = int(query["per_page"]), int(query["page"])
    return commits[size * (number - 1) : size * number]


def _shown(commit: Commit) -> dict[str, Any]:
    who = {"name": "Ada Author", "date": format_rfc3339(Instant(commit.at // SECOND * SECOND))}
    return {
        "sha": commit.id,
        "commit": {"author": who, "committer": who, "message": f"Change {commit.number}"},
        "parents": [{"sha": commit.parent}] if commit.parent else [],
        "files": [{"filename": "file", "status": "modified"}],
    }


def _error(status: int, message: str = "Not Found", headers: Mapping[str, str] | None = None) -> Reply:
    body = json.dumps({"message": message, "status": str(status)}).encode()
    return Reply(status, body, {"Content-Type": "application/json", **(headers or {})})
