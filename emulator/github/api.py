"""The REST calls over one repository, without quotas and faults."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from werkzeug.wrappers import Request, Response

from emulator.github.contents import blob, contents
from emulator.github.errors import JSON, ApiError
from emulator.github.history import ChangedFile, History, Range
from emulator.github.names import Found
from emulator.github.objects import Addresses, commit_to_json, ref_to_json, repository_to_json, tag_to_json
from emulator.github.paging import Page, is_paged, page_of
from emulator.github.state import GitHubState
from emulator.github.statuses import CommitStatus, combined_state, latest, status_to_json
from emulator.github.tokens import Caller
from emulator.gitiles.refs import read_typed_refs
from luci_scheduler.core.instants import Instant

__all__ = ["RepositoryApi", "json_body", "reply"]

_NEWEST = 250  # commits of a comparison without a page
_FILES = 300  # of a comparison, and of a commit without a page
_HASH = re.compile(r"[0-9a-f]{40}")


def reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, dict(headers or {}), content_type=JSON)


def json_body(request: Request) -> Mapping[str, Any]:
    """Return the JSON object of a request; an empty one without a body.

    Raises:
        ApiError: 400, the body is something else.
    """
    try:
        body = json.loads(request.get_data() or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "Problems parsing JSON") from error
    if not isinstance(body, dict):
        raise ApiError(400, "Body should be a JSON object")
    return body


Call = Callable[[re.Match[str]], Response]


@dataclass(slots=True)
class RepositoryApi:
    """Answers one request about a repository.

    Attributes:
        request: the request.
        caller: its sender.
        found: the repository.
        site: the host.
        state: the server's state.
        history: reads the repository.
    """

    request: Request
    caller: Caller
    found: Found
    site: str
    state: GitHubState
    history: History

    @property
    def addresses(self) -> Addresses:
        """The addresses in the answers."""
        return Addresses(self.request.host_url.rstrip("/"), self.site, self.found)

    def answer(self, path: str) -> Response:
        """Return the answer; ``path`` is the part after the repository's name.

        Raises:
            ApiError: the request fails.
        """
        method = "GET" if self.request.method == "HEAD" else self.request.method
        for wanted, pattern, call in self._calls():
            if wanted == method and (match := re.fullmatch(pattern, path)):
                return call(match)
        raise ApiError(404)

    def _calls(self) -> Sequence[tuple[str, str, Call]]:
        """Return method, path and call; the first match answers."""
        return (
            ("GET", r"", self._repository),
            ("GET", r"/git/matching-refs/(.+)", self._matching_refs),
            ("GET", r"/git/ref/(.+)", self._ref),
            ("GET", r"/git/tags/([0-9a-f]{40})", self._tag),
            ("GET", r"/git/blobs/([0-9a-f]{40})", self._blob),
            ("GET", r"/compare/(.+?)\.\.\.(.+)", self._compare),
            ("GET", r"/commits", self._commits),
            ("GET", r"/commits/(.+)/statuses", self._list_statuses),
            ("GET", r"/commits/(.+)/status", self._combined),
            ("GET", r"/commits/(.+)", self._commit),
            ("POST", r"/statuses/(.+)", self._add_status),
            ("GET", r"/contents/?(.*)", self._contents),
        )

    # Refs ------------------------------------------------------------------------------------------------------------

    def _matching_refs(self, match: re.Match[str]) -> Response:
        """Return the refs whose names begin with a text, which need not be a folder."""
        self.caller.require("contents", "read")
        refs = self._refs()
        if not refs:
            raise ApiError(409)
        names = sorted(ref for ref in refs if ref.startswith(f"refs/{match[1]}"))
        if not self.state.refs_per_page:
            return reply([ref_to_json(self.addresses, name, *refs[name]) for name in names])
        page = page_of(self.request.args, self.state.refs_per_page)
        headers = self._link(page, f"git/matching-refs/{match[1]}", len(names))
        return reply([ref_to_json(self.addresses, name, *refs[name]) for name in page.of(names)], headers=headers)

    def _ref(self, match: re.Match[str]) -> Response:
        self.caller.require("contents", "read")
        name = f"refs/{match[1]}"
        found = self._refs().get(name)
        if found is None:
            raise ApiError(404)
        return reply(ref_to_json(self.addresses, name, *found))

    def _refs(self) -> Mapping[str, tuple[str, str]]:
        held = self.state.faults.held(self.found.name)
        return read_typed_refs(self.found.path) if held is None else held

    def _tag(self, match: re.Match[str]) -> Response:
        self.caller.require("contents", "read")
        tag = self.history.tag(match[1])
        if tag is None:
            raise ApiError(404)
        return reply(tag_to_json(self.addresses, match[1], tag.fields, tag.tagger))

    # Commits ---------------------------------------------------------------------------------------------------------

    def _compare(self, match: re.Match[str]) -> Response:
        self.caller.require("contents", "read")
        base, head = self.history.resolve(match[1], match[2])
        if not base or not head:
            raise ApiError(404)
        found = self.history.compare(base, head)
        if not found.merge_base:
            raise ApiError(404, f"No common ancestor between {match[1]} and {match[2]}.")
        page = page_of(self.request.args)
        is_whole = not is_paged(self.request.args)
        ids = found.ahead[-_NEWEST:] if is_whole else page.of(found.ahead)
        path = f"compare/{match[1]}...{match[2]}"
        body = self._comparison(path, found, ids, has_files=is_whole or page.number == 1)
        return reply(body, headers={} if is_whole else self._link(page, path, len(found.ahead)))

    def _comparison(self, path: str, found: Range, ids: Sequence[str], *, has_files: bool) -> dict[str, Any]:
        """Return the body of a comparison with some of its commits."""
        commits = self.history.commits([found.base, found.merge_base, *ids])
        base, merge_base, *views = (commit_to_json(self.addresses, commit) for commit in commits)
        files = self.history.files(found.merge_base, found.head)[:_FILES] if has_files else []
        return {
            "url": self.addresses.rest(path),
            "html_url": self.addresses.page(path),
            "base_commit": base,
            "merge_base_commit": merge_base,
            "status": found.status,
            "ahead_by": len(found.ahead),
            "behind_by": found.behind,
            "total_commits": len(found.ahead),
            "commits": views,
            "files": self._files(found.head, files),
        }

    def _commits(self, _match: re.Match[str]) -> Response:
        """Return the commits that lead to a commit, the newest first."""
        self.caller.require("contents", "read")
        self._check_not_empty()
        (head,) = self.history.resolve(self.request.args.get("sha") or "HEAD")
        if not head:
            raise ApiError(404)
        page = page_of(self.request.args)
        ids = self.history.leading_to(head, page.first, page.size + 1, self.request.args.get("path", ""))
        commits = self.history.commits(ids[: page.size])
        url = self.addresses.numbered("commits")
        headers = page.link(url, self.request.args, has_next=len(ids) > page.size)
        return reply([commit_to_json(self.addresses, commit) for commit in commits], headers=headers)

    def _commit(self, match: re.Match[str]) -> Response:
        """Return a commit with a page of its files: the difference to its first parent."""
        self.caller.require("contents", "read")
        revision = self._revision(match[1])
        (commit,) = self.history.commits([revision])
        files = self.history.files(commit.parents[0] if commit.parents else "", revision)
        page = page_of(self.request.args) if is_paged(self.request.args) else Page(1, _FILES)
        added, deleted = sum(file.additions for file in files), sum(file.deletions for file in files)
        body = {
            **commit_to_json(self.addresses, commit),
            "stats": {"total": added + deleted, "additions": added, "deletions": deleted},
            "files": self._files(revision, page.of(files)),
        }
        return reply(body, headers=self._link(page, f"commits/{match[1]}", len(files)))

    def _files(self, head: str, files: Sequence[ChangedFile]) -> list[dict[str, Any]]:
        return [_file_to_json(self.addresses, head, file) for file in files]

    def _revision(self, text: str) -> str:
        """Return the hash of a commit; 409 in an empty repository, 422 for an unknown commit."""
        (revision,) = self.history.resolve(text)
        if not revision:
            self._check_not_empty()
            raise ApiError(422, f"No commit found for SHA: {text}")
        return revision

    def _check_not_empty(self) -> None:
        if not read_typed_refs(self.found.path):
            raise ApiError(409)

    # Statuses --------------------------------------------------------------------------------------------------------

    def _add_status(self, match: re.Match[str]) -> Response:
        if self.caller.is_anonymous:
            raise ApiError(401, "Requires authentication")
        self.caller.require("statuses", "write")
        revision = self._revision(match[1]) if _HASH.fullmatch(match[1]) else ""
        if not revision:
            raise ApiError(422, f"No commit found for SHA: {match[1]}")
        body = json_body(self.request)
        status = self.state.statuses.add(self.found.name, revision, body, self.state.clock.now())
        self.state.around.status(status)
        return reply(self._status_view(status), 201)

    def _list_statuses(self, match: re.Match[str]) -> Response:
        self.caller.require("statuses", "read")
        revision = self._revision(match[1])
        found, page = self.state.statuses.of(self.found.name, revision), page_of(self.request.args)
        headers = self._link(page, f"commits/{match[1]}/statuses", len(found))
        return reply([self._status_view(status) for status in page.of(found)], headers=headers)

    def _combined(self, match: re.Match[str]) -> Response:
        self.caller.require("statuses", "read")
        revision = self._revision(match[1])
        found = latest(self.state.statuses.of(self.found.name, revision))
        body = {
            "state": combined_state(found),
            "statuses": [self._status_view(status) for status in found],
            "sha": revision,
            "total_count": len(found),
            "repository": self._view(),
            "commit_url": self.addresses.rest(f"commits/{revision}"),
            "url": self.addresses.rest(f"commits/{revision}/status"),
        }
        return reply(body)

    def _status_view(self, status: CommitStatus) -> dict[str, Any]:
        return status_to_json(status, self.addresses.rest(f"statuses/{status.revision}"))

    # The repository --------------------------------------------------------------------------------------------------

    def _repository(self, _match: re.Match[str]) -> Response:
        return reply(self._view())

    def _contents(self, match: re.Match[str]) -> Response:
        self.caller.require("contents", "read")
        (revision,) = self.history.resolve(self.request.args.get("ref") or "HEAD")
        if not revision:
            raise ApiError(404, f"No commit found for the ref {self.request.args.get('ref', '')}".rstrip())
        found = contents(self.addresses, revision, match[1], is_raw="raw" in self.request.headers.get("Accept", ""))
        return found if isinstance(found, Response) else reply(found)

    def _blob(self, match: re.Match[str]) -> Response:
        self.caller.require("contents", "read")
        return reply(blob(self.addresses, match[1]))

    def _view(self) -> dict[str, Any]:
        # The time of the folder, because an unchanged repository must have an unchanged ETag.
        changed = Instant(self.found.path.stat().st_mtime_ns)
        view = repository_to_json(self.found, self.site, changed)
        return {**view, "url": self.addresses.rest("").rstrip("/")}

    def _link(self, page: Page, path: str, total: int) -> dict[str, str]:
        last = page.last(total)
        url = self.addresses.numbered(path)
        return page.link(url, self.request.args, has_next=page.number < last, last=last)


def _file_to_json(addresses: Addresses, head: str, file: ChangedFile) -> dict[str, Any]:
    return {
        "sha": file.blob,
        "filename": file.name,
        "status": file.status,
        "additions": file.additions,
        "deletions": file.deletions,
        "changes": file.additions + file.deletions,
        "blob_url": addresses.page(f"blob/{head}/{file.name}"),
        "raw_url": addresses.page(f"raw/{head}/{file.name}"),
        "contents_url": f"{addresses.rest(f'contents/{file.name}')}?ref={head}",
        **({"patch": file.patch} if file.patch else {}),
        **({"previous_filename": file.previous} if file.previous else {}),
    }
