"""Clients of Buildbucket servers: REST for v1, pRPC over JSON for v2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests

from luci_scheduler.adapters.rest import JSON, RawAnswer, RestCalls
from luci_scheduler.core import transience
from luci_scheduler.core.foreign_json import read_answer
from luci_scheduler.core.instants import MILLISECOND, SECOND, Instant
from luci_scheduler.ports import BuildbucketError, Clock

__all__ = ["BuildbucketClient"]

_MAX_TEXT = 4096  # of an error's body; a proxy in front of the service may answer with a long page


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
        self._calls = RestCalls(BuildbucketError, "INTERNAL", session, clock)
        self._limit = deadline / SECOND

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
        left = self._calls.time_left(self._limit, until)
        answer = self._calls.send(http_method, url, {"Content-Type": JSON}, body, query, left)
        if answer.status != requests.codes.ok:
            failure = transience.rest_failure(answer.status, is_own=_is_own_error(answer))
            raise self._calls.failure(failure, _text(answer), answer)
        return self._calls.document(answer)

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
        left = self._calls.time_left(self._limit, until)
        timeout = f"{round(left * SECOND) // MILLISECOND}m"
        headers = {"Accept": JSON, "Content-Type": JSON, "X-Prpc-Grpc-Timeout": timeout}
        answer = self._calls.send("POST", url, headers, request, (), left)
        code = answer.headers.get("X-Prpc-Grpc-Code")
        failure = transience.prpc_failure(answer.status, code)
        if failure is None:
            return self._calls.document(answer)
        reason = _text(answer) if transience.has_code(code) else f"HTTP {answer.status}: {_text(answer)}"
        raise self._calls.failure(failure, reason, answer)


def _is_own_error(answer: RawAnswer) -> bool:
    """Whether the body is an error object of the v1 service itself."""
    try:
        return bool(read_answer(answer.body).get("error"))
    except ValueError:
        return False


def _text(answer: RawAnswer) -> str:
    if "html" in answer.headers.get("Content-Type", ""):
        return "an HTML page"
    return answer.body[:_MAX_TEXT].decode(errors="replace").strip()
