"""The client of the Cloud Build API over REST: Google's library for it would slow each start of a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests

from luci_scheduler.adapters.rest import JSON, RawAnswer, RestCalls
from luci_scheduler.core import transience
from luci_scheduler.core.foreign_json import read_answer
from luci_scheduler.core.instants import Instant
from luci_scheduler.ports import Clock, CloudBuildError

__all__ = ["CLOUD_BUILD_SCOPES", "CloudBuildClient"]

CLOUD_BUILD_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
"""The only scope that the API accepts."""

_MAX_TEXT = 4096  # characters of an error's message


class CloudBuildClient:
    """``ports.CloudBuild`` over HTTP. Each call is one attempt with a deadline. Thread-safe."""

    def __init__(self, url: str, session: Callable[[], requests.Session], clock: Clock) -> None:
        """Make a client.

        Args:
            url: the base URL of the API.
            session: a function that gives each thread its session, from `http.sessions`.
            clock: the current time, to compare with a call's ``until`` and with the date of a ``Retry-After`` header.
        """
        self._url = url.rstrip("/")
        self._calls = RestCalls(CloudBuildError, "UNKNOWN", session, clock)

    def call(
        self,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        seconds: float,
        until: Instant | None = None,
    ) -> dict[str, Any]:
        """Call a method of the API; see `ports.CloudBuild`.

        Raises:
            CloudBuildError: no answer, or an error. Only an error of the service itself is permanent.
            TransientError: the delivery has no time left.
        """
        left = self._calls.time_left(seconds, until)
        headers = {"Accept": JSON} if body is None else {"Accept": JSON, "Content-Type": JSON}
        answer = self._calls.send(http_method, self._url + path, headers, body, query, left)
        if answer.status != requests.codes.ok:
            raise self._error(answer)
        return self._calls.document(answer)

    def _error(self, answer: RawAnswer) -> CloudBuildError:
        said = _own_error(answer)
        failure = transience.api_failure(answer.status, str(said.get("status") or ""))
        reason = _reason(said) if answer.status == requests.codes.forbidden else ""
        # A page of a front end stays out of the log: only the words of the service count.
        text = str(said.get("message", ""))[:_MAX_TEXT] if said else f"HTTP {answer.status} without an error object"
        return self._calls.failure(failure, f"{text} ({reason})" if reason else text, answer, reason=reason)


def _own_error(answer: RawAnswer) -> Mapping[str, Any]:
    """Return the error object of the service itself; an empty one if another server answered."""
    try:
        said = read_answer(answer.body).get("error")
    except ValueError:
        return {}
    return said if isinstance(said, Mapping) and isinstance(said.get("status"), str) else {}


def _reason(error: Mapping[str, Any]) -> str:
    """Return the reason in an error's details (``google.rpc.ErrorInfo``), such as ``SERVICE_DISABLED``."""
    details = error.get("details")
    reasons = [item.get("reason") for item in details if isinstance(item, Mapping)] if isinstance(details, list) else []
    return next((reason for reason in reasons if isinstance(reason, str)), "")
