"""Commit statuses, which the server keeps and shows."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from emulator.github.errors import ApiError
from luci_scheduler.core.instants import Instant, format_rfc3339

__all__ = ["CommitStatus", "Statuses", "combined_state", "latest", "status_to_json"]

_STATES = ("error", "failure", "pending", "success")
_DESCRIPTION = 140  # characters
_MOST = 1_000  # of one commit and context
_FIRST_ID = 990_001


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """A status of a commit.

    Attributes:
        id: the number of the status; a later one is greater.
        repository: ``owner/name``.
        revision: the commit's hash.
        state: ``pending``, ``success``, ``failure`` or ``error``.
        context: the name of the check; the newest status of a context counts.
        description: a text of at most 140 characters.
        target_url: the page behind the status; may be empty.
        created: when it was made.
    """

    id: int
    repository: str
    revision: str
    state: str
    context: str
    description: str
    target_url: str
    created: Instant


class Statuses:
    """All statuses of a server. Thread-safe."""

    def __init__(self) -> None:
        self._statuses: dict[tuple[str, str], list[CommitStatus]] = {}
        self._next = _FIRST_ID
        self._lock = threading.Lock()

    def add(self, repository: str, revision: str, body: Mapping[str, Any], now: Instant) -> CommitStatus:
        """Keep a status from the body of a request.

        Raises:
            ApiError: 422, GitHub refuses the body, or the commit has 1,000 statuses of this context.
        """
        _check(body)
        context = body.get("context") or "default"
        with self._lock:
            found = self._statuses.setdefault((repository.lower(), revision), [])
            if sum(status.context == context for status in found) >= _MOST:
                raise ApiError(422, "This SHA and context has reached the maximum number of statuses.")
            description, url = body.get("description") or "", body.get("target_url") or ""
            status = CommitStatus(self._next, repository, revision, body["state"], context, description, url, now)
            self._next += 1
            found.append(status)
        return status

    def of(self, repository: str, revision: str) -> list[CommitStatus]:
        """Return all statuses of a commit, the newest first."""
        with self._lock:
            return self._statuses.get((repository.lower(), revision), [])[::-1]

    def all(self) -> list[CommitStatus]:
        """Return all statuses, the oldest first."""
        with self._lock:
            return sorted((status for found in self._statuses.values() for status in found), key=lambda one: one.id)

    def clear(self) -> None:
        """Forget all statuses."""
        with self._lock:
            self._statuses.clear()

    def rename(self, old: str, new: str) -> None:
        """Keep the statuses of a repository under its new name."""
        with self._lock:
            for repository, revision in list(self._statuses):
                if repository == old.lower():
                    self._statuses[new.lower(), revision] = self._statuses.pop((repository, revision))

    def exported(self) -> list[dict[str, Any]]:
        """Return all statuses as JSON, for `restore`."""
        return [asdict(status) for status in self.all()]

    def restore(self, exported: Sequence[Mapping[str, Any]]) -> None:
        """Add the statuses of an earlier server.

        Raises:
            ValueError: an entry has other members.
        """
        try:
            statuses = [CommitStatus(**fields) for fields in exported]
        except TypeError as error:
            raise ValueError(f"not a commit status: {error}") from error
        with self._lock:
            for status in statuses:
                self._statuses.setdefault((status.repository.lower(), status.revision), []).append(status)
                self._next = max(self._next, status.id + 1)


def _check(body: Mapping[str, Any]) -> None:
    names = ("state", "context", "description", "target_url")
    wrong = [name for name in names if not isinstance(body.get(name), str | None)]
    if wrong or body.get("state") not in _STATES:
        raise _invalid(wrong[0] if wrong else "state", "is not included in the list")
    if len(body.get("description") or "") > _DESCRIPTION:
        raise _invalid("description", f"is too long (maximum is {_DESCRIPTION} characters)")


def _invalid(field: str, message: str) -> ApiError:
    error = {"resource": "Status", "code": "custom", "field": field, "message": f"{field} {message}"}
    return ApiError(422, more={"errors": [error]})


def latest(statuses: Sequence[CommitStatus]) -> list[CommitStatus]:
    """Return the newest status of each context from a list that begins with the newest."""
    found: dict[str, CommitStatus] = {}
    for status in statuses:
        found.setdefault(status.context, status)
    return list(found.values())


def combined_state(statuses: Sequence[CommitStatus]) -> str:
    """Return the state of a commit from the newest status of each context."""
    states = {status.state for status in statuses}
    if states & {"error", "failure"}:
        return "failure"
    return "success" if states == {"success"} else "pending"


def status_to_json(status: CommitStatus, url: str) -> dict[str, Any]:
    """Return a status as the API shows it; ``url`` is the address of the commit's statuses."""
    time = format_rfc3339(status.created)
    return {
        "url": url,
        "id": status.id,
        "state": status.state,
        "description": status.description or None,
        "target_url": status.target_url or None,
        "context": status.context,
        "created_at": time,
        "updated_at": time,
    }
