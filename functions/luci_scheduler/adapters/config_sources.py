"""Sources of configs: a file in a Gitiles repository, or an object in a Cloud Storage bucket.

Both can report the state of a file without its content, so an unchanged config costs one small request. Each sync makes
one attempt. After a failure, the next sync tries again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import requests
from google.auth.exceptions import GoogleAuthError

from luci_scheduler.adapters.http import Deadline, TooLargeError, answer_to, read_body
from luci_scheduler.core.foreign_json import read_answer
from luci_scheduler.core.git_names import is_hash
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import ConfigFile

__all__ = ["REQUEST_LIMIT", "STORAGE_SCOPES", "BucketSource", "GitilesSource"]

STORAGE_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_only",)

REQUEST_LIMIT = 20.0
"""Seconds for all of one request, including its token."""

_MAX_BYTES = 6_000_000  # of an answer: the largest file that is validated, in base64

Sessions = Callable[[], requests.Session]


class _ReadError(Exception):
    """A source did not return the config. The text is stored in the project's record."""


class _NotFoundError(_ReadError):
    """The file or object does not exist, or the service account may not read it."""


class GitilesSource:
    """``ports.ConfigSource`` for one project's file in a Gitiles repository.

    The revision is the last commit that changed the file.
    """

    def __init__(
        self,
        project: str,
        repo: RepoUrl,
        ref: str,
        path: str,
        base_url: str,
        session: Sessions,
        limit: float = REQUEST_LIMIT,
    ) -> None:
        """Make a source.

        Args:
            project: the LUCI project that the config belongs to.
            repo: the repository.
            ref: for example ``refs/heads/main``.
            path: of the file in the repository.
            base_url: of the Gitiles host, with ``/a`` for authenticated requests.
            session: a function that gives each thread its session, from `http.sessions`.
            limit: of one request, in seconds.
        """
        self._project = project
        self._url = f"{base_url}/{quote(repo.project, safe='')}"
        self._shown = str(repo)
        self._ref = ref
        self._path = path
        self._session = session
        self._limit = limit

    def configs(self, active_revision: Callable[[str], str]) -> list[ConfigFile]:
        """Fetch the revision, and the file if that revision is not active."""
        try:
            revision = self._revision()
            if revision == active_revision(self._project):
                return []
            content = self._content(revision)
        except _ReadError as error:
            text = f"{self._path} of {self._shown} ({self._ref}) cannot be read: {error}"
            return [ConfigFile(self._project, "", "", error=text)]
        shown = f"{self._shown}/+/{revision}/{quote(self._path)}"
        return [ConfigFile(self._project, content, revision, shown)]

    def _revision(self) -> str:
        answer = self._json(f"+log/{quote(self._ref, safe='')}/{quote(self._path)}", n="1")
        log = answer.get("log")
        if log == []:
            raise _ReadError("no commit has changed the file; check the path")
        revision = log[0].get("commit") if isinstance(log, list) and isinstance(log[0], dict) else None
        if not is_hash(revision):
            raise _ReadError("the log names no commit")
        return revision

    def _content(self, revision: str) -> bytes:
        try:
            encoded = _get(
                self._session, f"{self._url}/+/{revision}/{quote(self._path)}", {"format": "TEXT"}, self._limit
            )
        except _NotFoundError:
            if self._removes(revision):
                return b""  # no file, no jobs: as in the original
            raise
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise _ReadError("the answer is not in base64") from error

    def _removes(self, revision: str) -> bool:
        """Whether a commit removed the file.

        Status 404 alone does not prove it, because a new commit may not be visible on every replica yet.
        """
        changes = self._json(f"+/{revision}").get("tree_diff") or []
        return any(
            change.get("old_path") == self._path and change.get("type") in ("delete", "rename") for change in changes
        )

    def _json(self, path: str, **query: str) -> dict[str, Any]:
        body = _get(self._session, f"{self._url}/{path}", {**query, "format": "JSON"}, self._limit)
        return _object(body)


class BucketSource:
    """``ports.ConfigSource`` for one project's object in a Cloud Storage bucket.

    The revision is the object's generation.
    """

    def __init__(
        self, project: str, bucket: str, name: str, base_url: str, session: Sessions, limit: float = REQUEST_LIMIT
    ) -> None:
        """Make a source.

        Args:
            project: the LUCI project that the config belongs to.
            bucket: the bucket.
            name: of the object.
            base_url: of the JSON API, ``https://storage.googleapis.com``.
            session: a function that gives each thread its session with ``STORAGE_SCOPES``, from `http.sessions`.
            limit: of one request, in seconds.
        """
        self._project = project
        self._place = f"{bucket}/{name}"
        self._url = f"{base_url}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
        self._session = session
        self._limit = limit

    def configs(self, active_revision: Callable[[str], str]) -> list[ConfigFile]:
        """Fetch the generation, and the object if that generation is not active."""
        try:
            generation = self._generation()
            if generation == active_revision(self._project):
                return []
            content = _get(self._session, self._url, {"alt": "media", "generation": generation}, self._limit)
        except _ReadError as error:
            return [ConfigFile(self._project, "", "", error=f"gs://{self._place} cannot be read: {error}")]
        shown = f"https://console.cloud.google.com/storage/browser/_details/{quote(self._place)}"
        return [ConfigFile(self._project, content, generation, shown)]

    def _generation(self) -> str:
        generation = _object(_get(self._session, self._url, {"fields": "generation"}, self._limit)).get("generation")
        if not isinstance(generation, str) or not generation.isdecimal():
            raise _ReadError("the answer names no generation")
        return generation


def _get(session: Sessions, url: str, query: Mapping[str, str], limit: float) -> bytes:
    try:
        with answer_to(session(), "GET", url, Deadline(limit), params=query) as answer:
            if answer.status_code == requests.codes.not_found:
                raise _NotFoundError("HTTP 404")
            if answer.status_code != requests.codes.ok:
                raise _ReadError(f"HTTP {answer.status_code}")
            return read_body(answer, _MAX_BYTES)
    except TooLargeError as error:
        raise _ReadError(str(error)) from error
    except (requests.RequestException, GoogleAuthError) as error:
        raise _ReadError(f"no answer ({type(error).__name__})") from error


def _object(body: bytes) -> dict[str, Any]:
    try:
        return read_answer(body)
    except ValueError as error:
        raise _ReadError(str(error)) from error
