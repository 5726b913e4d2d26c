"""A source of configs: a file in a repository on GitHub.

An unchanged ref costs one conditional request, which GitHub does not count. Each sync makes one attempt. After a
failure, the next sync tries again.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from luci_scheduler.adapters.github_api import MOST_UNCHANGED, Answer, GitHubApi
from luci_scheduler.adapters.github_objects import files_of, linked, linked_list
from luci_scheduler.core.git_names import is_hash
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.core.untrusted import decode_base64
from luci_scheduler.ports import ConfigFile, GitilesError

__all__ = ["GitHubSource"]

_MAX_PAGES = 30  # of a commit's files: GitHub lists at most 3,000


class GitHubSource:
    """``ports.ConfigSource`` for one project's file in a repository on GitHub.

    The revision is the last commit that changed the file.
    """

    def __init__(self, project: str, repo: RepoUrl, ref: str, path: str, api: GitHubApi) -> None:
        """Make a source.

        Args:
            project: the LUCI project that the config belongs to.
            repo: the repository.
            ref: for example ``refs/heads/main``.
            path: of the file in the repository.
            api: the client of the host.
        """
        self._project = project
        self._repo = repo
        self._ref = ref
        self._path = path
        self._api = api
        self._left = 0
        """The number of times that GitHub may still say that the ref has not changed."""
        self._known: tuple[str, str] = ("", "")
        """The ETag of the last answer about the ref, and the last commit at that time that had changed the file."""

    def configs(self, active_revision: Callable[[str], str]) -> list[ConfigFile]:
        """Fetch the revision, and the file if that revision is not active.

        Raises:
            TransientError: the delivery has no time left.
        """
        try:
            revision = self._revision()
            if revision == active_revision(self._project):
                return []
            content = self._content(revision)
        except (GitilesError, ValueError) as error:
            text = f"{self._path} of {self._repo} ({self._ref}) cannot be read: {error}"
            return [ConfigFile(self._project, "", "", error=text)]
        return [ConfigFile(self._project, content, revision, f"{self._repo}/blob/{revision}/{quote(self._path)}")]

    def _revision(self) -> str:
        self._left -= 1
        etag, known = self._known if self._left >= 0 else ("", "")
        # Only a commit can be named by its full ref. In the list, a tag could hide the branch of the same name.
        answer = self._get(f"commits/{quote(self._ref.removeprefix('refs/'))}", {"per_page": "1"}, etag=etag)
        if answer.is_unchanged and etag:
            return known
        query = {"sha": linked(answer.document).commit.id, "path": self._path, "per_page": "1"}
        commits = linked_list(self._get("commits", query).document)
        if not commits:
            raise ValueError("no commit has changed the file; check the path")
        self._known, self._left = (answer.etag, commits[0].commit.id), MOST_UNCHANGED
        return commits[0].commit.id

    def _content(self, revision: str) -> bytes:
        try:
            document = self._get(f"contents/{quote(self._path)}", {"ref": revision}).document
        except GitilesError as error:
            if error.code == "NOT_FOUND" and self._removes(revision):
                return b""  # no file, no jobs: as in the original
            raise
        # A file of more than a megabyte comes without its content, which its object has.
        if isinstance(document, dict) and document.get("encoding") == "none" and is_hash(document.get("sha")):
            document = self._get(f"git/blobs/{document['sha']}", {}).document
        return _decoded(document)

    def _removes(self, revision: str) -> bool:
        """Whether a commit removed the file.

        Status 404 alone does not prove it, because a new commit may not be visible on every replica yet.
        """
        answer = self._get(f"commits/{revision}", {"per_page": "100"})
        for _ in range(_MAX_PAGES):
            if any(map(self._is_removal, files_of(answer.document))):
                return True
            if not answer.next:
                return False
            answer = self._api.get(self._repo.host, answer.next)
        raise ValueError("the list of files does not end")

    def _is_removal(self, file: Mapping[str, Any]) -> bool:
        names = {"removed": "filename", "renamed": "previous_filename"}
        return file.get(names.get(str(file.get("status")), "")) == self._path

    def _get(self, path: str, query: Mapping[str, str], *, etag: str = "") -> Answer:
        return self._api.get(self._repo.host, f"/repos/{self._repo.project}/{path}", list(query.items()), etag=etag)


def _decoded(document: Any) -> bytes:
    content = document.get("content") if isinstance(document, dict) else None
    if not isinstance(content, str) or document.get("encoding") != "base64":
        raise ValueError("the answer holds no file")
    try:
        return decode_base64(content)
    except binascii.Error as error:
        raise ValueError("the answer is not in base64") from error
