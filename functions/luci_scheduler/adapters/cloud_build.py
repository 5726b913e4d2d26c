"""The client of the Cloud Build API over REST: Google's library for it would slow each start of a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests
from google.auth.exceptions import GoogleAuthError

from luci_scheduler.adapters.http import Deadline, TooLargeError, read_json_body
from luci_scheduler.core import transience
from luci_scheduler.core.foreign_json import read_answer
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import Clock, CloudBuildError

__all__ = ["CLOUD_BUILD_SCOPES", "MAX_BODY_BYTES", "CloudBuildClient"]

CLOUD_BUILD_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
"""The only scope that the API accepts."""

MAX_BODY_BYTES = 16 << 20
"""The limit of an unpacked answer. A page of a hundred builds has about a megabyte."""

_MAX_TEXT = 4096  # characters of an error's message
_HAS_BODY = {"Content-Type": "application/json"}


@frozen
class _Answer:
    status: int
    headers: Mapping[str, str]
    """Keys are found in any case."""
    body: bytes


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
        self._session = session
        self._clock = clock

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
        answer = self._send(http_method, path, body, query, self._left(seconds, until))
        if answer.status != requests.codes.ok:
            raise self._error(answer)
        try:
            return read_answer(answer.body)
        except ValueError as error:
            raise _unclear(str(error)) from error

    def _left(self, seconds: float, until: Instant | None) -> float:
        left = seconds if until is None else min(seconds, (until - self._clock.now()) / SECOND)
        if left <= 0:
            raise _late()
        return left

    def _send(
        self,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Sequence[tuple[str, str]],
        seconds: float,
    ) -> _Answer:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        deadline = Deadline(seconds)
        try:
            with self._session().request(
                http_method,
                self._url + path,
                params=list(query) or None,
                data=data,
                headers={"Accept": "application/json", **({} if data is None else _HAS_BODY)},
                timeout=deadline,  # type: ignore[arg-type] # any Timeout works
                # A redirect would carry the account's token to another host.
                allow_redirects=False,
                stream=True,
            ) as answer:
                return _Answer(answer.status_code, answer.headers, read_json_body(answer, MAX_BODY_BYTES))
        except TooLargeError as error:
            raise _unclear(str(error)) from error
        except (requests.RequestException, GoogleAuthError) as error:
            if deadline.passed:
                raise _late() from error
            # The library's text may hold the URL, but never the body or the headers.
            raise CloudBuildError("UNAVAILABLE", f"no answer: {type(error).__name__}", transient=True) from error

    def _error(self, answer: _Answer) -> CloudBuildError:
        said = _own_error(answer)
        failure = transience.api_failure(answer.status, str(said.get("status") or ""))
        reason = _reason(said) if answer.status == requests.codes.forbidden else ""
        # A page of a front end stays out of the log: only the words of the service count.
        text = str(said.get("message", ""))[:_MAX_TEXT] if said else f"HTTP {answer.status} without an error object"
        return CloudBuildError(
            failure.code,
            f"{text} ({reason})" if reason else text,
            reason=reason,
            transient=failure.transient,
            throttled=failure.throttled,
            retry_after=transience.requested_pause(answer.headers.get("Retry-After"), self._clock.now()),
        )


def _late() -> CloudBuildError:
    return CloudBuildError("DEADLINE_EXCEEDED", "no complete answer in time", transient=True)


def _unclear(message: str) -> CloudBuildError:
    return CloudBuildError("UNKNOWN", message, transient=True)


def _own_error(answer: _Answer) -> Mapping[str, Any]:
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
