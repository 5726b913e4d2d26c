"""Clients of Buildbucket servers: REST for v1, pRPC over JSON for v2."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests
from google.auth.exceptions import GoogleAuthError

from luci_scheduler.adapters.http import Deadline, TooLargeError, read_json_body
from luci_scheduler.budget import time_left
from luci_scheduler.core import transience
from luci_scheduler.core.foreign_json import read_answer
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import BuildbucketError, Clock

__all__ = ["MAX_BODY_BYTES", "BuildbucketClient"]

MAX_BODY_BYTES = 16 << 20
"""The limit of an unpacked answer. A build has at most about 1 MB of properties, and a search returns ten builds."""

_MAX_TEXT = 4096  # of an error's body; a proxy in front of the service may answer with a long page


@frozen
class _Answer:
    status: int
    headers: Mapping[str, str]
    """Keys are found in any case."""
    body: bytes


class BuildbucketClient:
    """``ports.Buildbucket`` over HTTP. Each call is one attempt with a deadline. Thread-safe."""

    def __init__(
        self, base_url: Callable[[str], str], session: Callable[[], requests.Session], clock: Clock, deadline: int
    ) -> None:
        """Make a client.

        Args:
            base_url: a function from a server's host to its base URL.
            session: a function that gives each thread its authenticated session, from `http.sessions`.
            clock: the current time, to compare with a call's ``until`` and with the date of a ``Retry-After`` header.
            deadline: the limit of one call, until its last byte, in nanoseconds.
        """
        self._base_url = base_url
        self._session = session
        self._clock = clock
        self._deadline = deadline

    def v1(
        self,
        server: str,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        until: Instant | None = None,
    ) -> dict[str, Any]:
        """Call the v1 REST API; application errors come back as ``{"error": ...}``.

        Raises:
            BuildbucketError: no answer, or an HTTP error. It is permanent only if the service's own JSON error is.
            TransientError: the delivery has no time left.
        """
        url = f"{self._base_url(server)}/_ah/api/buildbucket/v1/{path}"
        answer = self._send(http_method, url, {}, body, query, self._left(until))
        if answer.status != requests.codes.ok:
            raise self._error(
                transience.rest_failure(answer.status, is_own=_is_own_error(answer)), _text(answer), answer
            )
        return _object(answer)

    def v2(
        self, server: str, method: str, request: Mapping[str, Any], *, until: Instant | None = None
    ) -> dict[str, Any]:
        """Call a method of ``buildbucket.v2.Builds``.

        Raises:
            BuildbucketError: no answer, or a gRPC error. Its code decides, not the HTTP status. An answer without a
                readable code is transient.
            TransientError: the delivery has no time left.
        """
        url = f"{self._base_url(server)}/prpc/buildbucket.v2.Builds/{method}"
        left = self._left(until)
        headers = {"Accept": "application/json", "X-Prpc-Grpc-Timeout": f"{left // 10**6}m"}
        answer = self._send("POST", url, headers, request, (), left)
        code = answer.headers.get("X-Prpc-Grpc-Code")
        failure = transience.prpc_failure(answer.status, code)
        if failure is None:
            return _object(answer)
        reason = _text(answer) if transience.has_code(code) else f"HTTP {answer.status}: {_text(answer)}"
        raise self._error(failure, reason, answer)

    def _error(self, failure: transience.Failure, reason: str, answer: _Answer) -> BuildbucketError:
        return BuildbucketError(
            failure.code,
            reason,
            transient=failure.transient,
            throttled=failure.throttled,
            retry_after=transience.requested_pause(answer.headers.get("Retry-After"), self._clock.now()),
        )

    def _left(self, until: Instant | None) -> int:
        """Return the limit of a call in nanoseconds.

        It is the smallest of the client's deadline, the time until ``until``, and the delivery's remaining time.
        """
        left = self._deadline if until is None else min(self._deadline, until - self._clock.now())
        if left <= 0:
            raise _late()
        return round(time_left(left / SECOND) * SECOND)

    def _send(
        self,
        http_method: str,
        url: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
        query: Sequence[tuple[str, str]],
        left: int,
    ) -> _Answer:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        deadline = Deadline(left / SECOND)
        try:
            with self._session().request(
                http_method,
                url,
                params=list(query) or None,
                data=data,
                headers={"Content-Type": "application/json", **headers},
                timeout=deadline,  # type: ignore[arg-type] # any Timeout works
                # A redirect would carry the account's token to another host.
                allow_redirects=False,
                stream=True,
            ) as answer:
                return _Answer(answer.status_code, answer.headers, read_json_body(answer, MAX_BODY_BYTES))
        except TooLargeError as error:
            raise _broken(str(error)) from error
        except (requests.RequestException, GoogleAuthError) as error:
            if deadline.passed:
                raise _late() from error
            # The library's text may hold the URL, but never the body or the headers.
            raise BuildbucketError("UNAVAILABLE", f"no answer: {type(error).__name__}", transient=True) from error


def _late() -> BuildbucketError:
    return BuildbucketError("DEADLINE_EXCEEDED", "no complete answer in time", transient=True)


def _broken(message: str) -> BuildbucketError:
    return BuildbucketError("INTERNAL", message, transient=True)


def _object(answer: _Answer) -> dict[str, Any]:
    try:
        return read_answer(answer.body)
    except ValueError as error:
        raise _broken(str(error)) from error


def _is_own_error(answer: _Answer) -> bool:
    """Whether the body is an error object of the v1 service itself."""
    try:
        return bool(read_answer(answer.body).get("error"))
    except ValueError:
        return False


def _text(answer: _Answer) -> str:
    if "html" in answer.headers.get("Content-Type", ""):
        return "an HTML page"
    return answer.body[:_MAX_TEXT].decode(errors="replace").strip()
