"""Configs kept elsewhere: a file of a Gitiles repository, an object of a Cloud Storage bucket.

Both name the state of a file without sending it, so that an unchanged config costs one small request. One attempt per sync:
the next one tries again.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import requests
from google.auth.exceptions import GoogleAuthError

from luci_scheduler.adapters.http import Deadline, TooLargeError, read_body
from luci_scheduler.core.foreign_json import read_answer
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import ConfigFile

__all__ = ["REQUEST_LIMIT", "STORAGE_SCOPES", "BucketSource", "GitilesSource"]

STORAGE_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_only",)

REQUEST_LIMIT = 20.0
"""Seconds for all of one request, its token included."""

_MAX_BYTES = 6_000_000  # of an answer: the largest file that is validated, in base64
_REVISION = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")

Sessions = Callable[[], requests.Session]


class _TroubleError(Exception):
    """A source did not give what was asked for; the text goes into the project's record."""


class _NotFoundError(_TroubleError):
    """It is not there, or not for us to see."""


class GitilesSource:
    """``ports.ConfigSource`` for one project's file in a Gitiles repository; its revision is the last commit that touched it."""

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
            project: LUCI project whose config it is.
            repo: the repository.
            ref: e.g. ``refs/heads/main``.
            path: of the file in the repository.
            base_url: of the Gitiles host, with ``/a`` where requests are authenticated.
            session: a session per thread, as `http.sessions` gives them.
            limit: of one request, in seconds.
        """
        self._project = project
        self._url = f"{base_url}/{quote(repo.project, safe='')}"
        self._shown = str(repo)
        self._ref = ref
        self._path = path
        self._session = session
        self._limit = limit

    def configs(self, in_force: Callable[[str], str]) -> list[ConfigFile]:
        """Ask for the revision, and for the file if that is not in force."""
        try:
            revision = self._revision()
            if revision == in_force(self._project):
                return []
            content = self._content(revision)
        except _TroubleError as error:
            trouble = f"{self._path} of {self._shown} ({self._ref}) cannot be read: {error}"
            return [ConfigFile(self._project, "", "", trouble=trouble)]
        shown = f"{self._shown}/+/{revision}/{quote(self._path)}"
        return [ConfigFile(self._project, content, revision, shown)]

    def _revision(self) -> str:
        answer = self._json(f"+log/{quote(self._ref, safe='')}/{quote(self._path)}", n="1")
        log = answer.get("log")
        if log == []:
            raise _TroubleError("no commit has touched it; is the path right?")
        revision = log[0].get("commit") if isinstance(log, list) and isinstance(log[0], dict) else None
        if not isinstance(revision, str) or not _REVISION.fullmatch(revision):
            raise _TroubleError("the log names no commit")
        return revision

    def _content(self, revision: str) -> bytes:
        try:
            encoded = _get(
                self._session, f"{self._url}/+/{revision}/{quote(self._path)}", {"format": "TEXT"}, self._limit
            )
        except _NotFoundError:
            if self._removes(revision):
                return b""  # no file, no jobs: as the original has it
            raise
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise _TroubleError("the file did not come in base64") from error

    def _removes(self, revision: str) -> bool:
        """Whether a commit removed the file; 404 alone says little, a commit may not be visible everywhere yet."""
        changes = self._json(f"+/{revision}").get("tree_diff") or []
        return any(
            change.get("old_path") == self._path and change.get("type") in ("delete", "rename") for change in changes
        )

    def _json(self, path: str, **query: str) -> dict[str, Any]:
        body = _get(self._session, f"{self._url}/{path}", {**query, "format": "JSON"}, self._limit)
        return _object(body)


class BucketSource:
    """``ports.ConfigSource`` for one project's object in a Cloud Storage bucket; its revision is the object's generation."""

    def __init__(
        self, project: str, bucket: str, name: str, base_url: str, session: Sessions, limit: float = REQUEST_LIMIT
    ) -> None:
        """Make a source.

        Args:
            project: LUCI project whose config it is.
            bucket: the bucket.
            name: of the object.
            base_url: of the JSON API, ``https://storage.googleapis.com``.
            session: a session per thread, with ``STORAGE_SCOPES``, as `http.sessions` gives them.
            limit: of one request, in seconds.
        """
        self._project = project
        self._place = f"{bucket}/{name}"
        self._url = f"{base_url}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
        self._session = session
        self._limit = limit

    def configs(self, in_force: Callable[[str], str]) -> list[ConfigFile]:
        """Ask for the generation, and for the object if that is not in force."""
        try:
            generation = self._generation()
            if generation == in_force(self._project):
                return []
            content = _get(self._session, self._url, {"alt": "media", "generation": generation}, self._limit)
        except _TroubleError as error:
            return [ConfigFile(self._project, "", "", trouble=f"gs://{self._place} cannot be read: {error}")]
        shown = f"https://console.cloud.google.com/storage/browser/_details/{quote(self._place)}"
        return [ConfigFile(self._project, content, generation, shown)]

    def _generation(self) -> str:
        generation = _object(_get(self._session, self._url, {"fields": "generation"}, self._limit)).get("generation")
        if not isinstance(generation, str) or not generation.isdecimal():
            raise _TroubleError("the answer names no generation")
        return generation


def _get(session: Sessions, url: str, query: Mapping[str, str], limit: float) -> bytes:
    try:
        # A redirect would carry the request to a host that the settings do not name.
        with session().get(
            url,
            params=query,
            timeout=Deadline(limit),  # type: ignore[arg-type] # any timeout of urllib3 will do
            stream=True,
            allow_redirects=False,
        ) as answer:
            if answer.status_code == requests.codes.not_found:
                raise _NotFoundError("HTTP 404")
            if answer.status_code != requests.codes.ok:
                raise _TroubleError(f"HTTP {answer.status_code}")
            return read_body(answer, _MAX_BYTES)
    except TooLargeError as error:
        raise _TroubleError(str(error)) from error
    except (requests.RequestException, GoogleAuthError) as error:
        raise _TroubleError(f"no answer ({type(error).__name__})") from error


def _object(body: bytes) -> dict[str, Any]:
    try:
        return read_answer(body)
    except ValueError as error:
        raise _TroubleError(str(error)) from error
