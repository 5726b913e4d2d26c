"""Helpers for tests with the Gitiles server."""

from __future__ import annotations

import json
from typing import Any

import requests

from emulator.gitiles.repository import Repository
from luci_scheduler.core.instants import SECOND

__all__ = ["GUARD", "commit_history", "fetch_json", "get_page", "page_commits"]

GUARD = ")]}'\n"
_FIRST_COMMIT = 1_773_756_297
_TIMEOUT_SECONDS = 10


def get_page(url: str, path: str, **query: Any) -> requests.Response:
    """Request a page in JSON from the server at ``url``, and return any response."""
    return requests.get(f"{url}{path}", params={"format": "JSON", **query}, timeout=_TIMEOUT_SECONDS)


def fetch_json(url: str, path: str, **query: Any) -> Any:
    """Request a page and return its JSON.

    Raises:
        AssertionError: the request failed; the text contains the response.
    """
    response = get_page(url, path, **query)
    if response.status_code != requests.codes.ok or not response.text.startswith(GUARD):
        raise AssertionError(f"{response.status_code} {response.text}")
    return json.loads(response.text.removeprefix(GUARD))


def page_commits(page: dict[str, Any]) -> list[str]:
    """Return the hashes of a page of a log."""
    return [entry["commit"] for entry in page["log"]]


def commit_history(repository: Repository, count: int, branch: str = "main") -> list[str]:
    """Create ``count`` commits on a branch, one second apart, and return their hashes, newest first."""
    commits = [
        repository.commit(
            f"Commit {number}\n", {"file": f"{branch} {number}"}, branch, at=(_FIRST_COMMIT + number) * SECOND
        )
        for number in range(count)
    ]
    return commits[::-1]
