"""Google's REST APIs, called with the operator's application default credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import requests
from google.auth.exceptions import GoogleAuthError

from luci_scheduler.adapters.http import Deadline, TooLargeError, answer_to, read_body, sessions
from luci_scheduler.cli.doctor.checks import FailedError, NotCheckedError
from luci_scheduler.core.foreign_text import sanitized

__all__ = ["GoogleApis", "NoSuchResourceError"]

LIMIT = 10.0
"""Seconds for one call, with the token."""

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_LOGIN = "run `gcloud auth application-default login`"
_ROLES = {"pubsub.googleapis.com": "roles/pubsub.publisher and roles/pubsub.subscriber"}
"""Host → the roles that its calls need; roles/viewer may neither publish nor pull."""

_MAX_BYTES = 8 << 20  # of an answer; a page of a thousand tasks takes less than one MiB
_MAX_PAGES = 10


class NoSuchResourceError(FailedError):
    """A resource does not exist."""


class GoogleApis:
    """The APIs of Google Cloud. Each call is one attempt with a total limit.

    Args:
        base: an address that serves all APIs, each below the name of its host (the local cloud), without
            authentication. Empty: the real hosts.
        limit: seconds for one call.
    """

    def __init__(self, base: str = "", limit: float = LIMIT) -> None:
        self._base = base.rstrip("/")
        self._limit = limit
        self._session = sessions(authenticated=not base, scopes=_SCOPES)

    def get(self, host: str, path: str, **query: str) -> dict[str, Any]:
        """Read a resource.

        Raises:
            NoSuchResourceError: it does not exist.
            NotCheckedError: there are no credentials, or they may not read it, or the local cloud does not have it.
            FailedError: no answer, or another error.
        """
        return self._call("GET", host, path, query, None)

    def post(self, host: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Call a method; raises as `get` does."""
        return self._call("POST", host, path, {}, body)

    def items(self, host: str, path: str, member: str, **query: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, from all its pages; raises as `get` does."""
        token: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            page = self.get(host, path, **query, **token)
            yield from page.get(member, [])
            if not page.get("nextPageToken"):
                return
            token = {"pageToken": page["nextPageToken"]}

    def _call(
        self, method: str, host: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        url = f"{self._base}/{host}{path}" if self._base else f"https://{host}{path}"
        try:
            deadline = Deadline(self._limit)
            with answer_to(self._session(), method, url, deadline, params=dict(query), json=body) as answer:
                return _document(host, answer.status_code, read_body(answer, _MAX_BYTES))
        except GoogleAuthError as error:
            raise NotCheckedError("there are no valid credentials for Google Cloud", _LOGIN) from error
        except (requests.RequestException, TooLargeError) as error:
            raise FailedError(f"no answer from {host}: {type(error).__name__}", "run the command again") from error


def _document(host: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise FailedError(f"{host} answers HTTP {status} without a JSON object", "run the command again")
    if status == requests.codes.ok:
        return document
    raise _error(host, status, sanitized(str(_message(document)))[:300])


def _message(document: Mapping[str, Any]) -> Any:
    error = document.get("error")
    return error.get("message", "") if isinstance(error, Mapping) else ""


def _error(host: str, status: int, message: str) -> FailedError:
    text = f"{host}: {message or f'HTTP {status}'}"
    if status == requests.codes.not_found:
        return NoSuchResourceError(text, "run `terraform apply`")
    if status == requests.codes.unauthorized:
        return NotCheckedError(text, _LOGIN)
    if status == requests.codes.not_implemented:
        return NotCheckedError(text, "run the command against an installation in the cloud")
    if status == requests.codes.forbidden:
        roles = _ROLES.get(host, "roles/viewer")
        return NotCheckedError(text, f"grant your account {roles} in the project, or use an account that has it")
    return FailedError(text, "run the command again")
