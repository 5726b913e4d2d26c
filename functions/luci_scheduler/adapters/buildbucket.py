"""The wire to Buildbucket servers: REST for v1, pRPC over JSON for v2."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests
from google.auth.exceptions import GoogleAuthError

from luci_scheduler.adapters.http import Deadline
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import BuildbucketError, Clock

__all__ = ["BuildbucketClient"]

_GUARD = ")]}'"
_MAX_TEXT = 4096  # of an error's body; what answers in front of the service may answer at length
_CODES = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
_TRANSIENT = {"UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE"}
"""What the original retries."""


class BuildbucketClient:
    """``ports.Buildbucket`` over HTTP; one attempt per call, with a deadline. Thread-safe."""

    def __init__(
        self, base_url: Callable[[str], str], session: Callable[[], requests.Session], clock: Clock, deadline: int
    ) -> None:
        """Make a client.

        Args:
            base_url: from a server's host to its base URL.
            session: a session that authenticates, one per thread, as `http.sessions` gives them: it keeps a `Deadline`.
            clock: tells how far it is to a call's ``until``.
            deadline: of one call, until its last byte, in nanoseconds.
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
            BuildbucketError: no answer (transient) or an HTTP error (5xx and 429 transient).
        """
        url = f"{self._base_url(server)}/_ah/api/buildbucket/v1/{path}"
        answer = self._send(http_method, url, {}, body, query, self._left(until))
        if answer.status_code != requests.codes.ok:
            transient = answer.status_code >= 500 or answer.status_code == 429  # noqa: PLR2004 - HTTP
            raise BuildbucketError(f"HTTP {answer.status_code}", _text(answer), transient=transient)
        return _json_object(answer)

    def v2(
        self, server: str, method: str, request: Mapping[str, Any], *, until: Instant | None = None
    ) -> dict[str, Any]:
        """Call a method of ``buildbucket.v2.Builds``.

        Raises:
            BuildbucketError: no answer (transient) or a gRPC error; its code decides, not the HTTP status.
        """
        url = f"{self._base_url(server)}/prpc/buildbucket.v2.Builds/{method}"
        left = self._left(until)
        headers = {"Accept": "application/json", "X-Prpc-Grpc-Timeout": f"{left // 10**6}m"}
        answer = self._send("POST", url, headers, request, (), left)
        code = answer.headers.get("X-Prpc-Grpc-Code")
        if code is None:
            name = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 503: "UNAVAILABLE"}.get(
                answer.status_code, "INTERNAL"
            )
            transient = answer.status_code >= 500  # noqa: PLR2004 - HTTP
            raise BuildbucketError(name, f"HTTP {answer.status_code}: {_text(answer)}", transient=transient)
        if code != "0":
            name = _CODES[int(code)] if code.isdigit() and int(code) < len(_CODES) else f"code {code[:20]}"
            raise BuildbucketError(name, _text(answer), transient=name in _TRANSIENT)
        return _json_object(answer)

    def _left(self, until: Instant | None) -> int:
        """Return the nanoseconds that a call may take: its deadline, or what is left until ``until`` if that is less."""
        left = self._deadline if until is None else min(self._deadline, until - self._clock.now())
        if left <= 0:
            raise _late()
        return left

    def _send(
        self,
        http_method: str,
        url: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
        query: Sequence[tuple[str, str]],
        left: int,
    ) -> requests.Response:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        deadline = Deadline(left / SECOND)
        try:
            return self._session().request(
                http_method,
                url,
                params=list(query),
                data=data,
                headers={"Content-Type": "application/json", **headers},
                timeout=deadline,  # type: ignore[arg-type] # any timeout of urllib3 will do
                allow_redirects=False,
            )
        except (requests.RequestException, GoogleAuthError) as error:
            if deadline.passed:
                raise _late() from error
            # The library's text may hold the URL but never the body or the headers.
            raise BuildbucketError("UNAVAILABLE", f"no answer: {type(error).__name__}", transient=True) from error


def _late() -> BuildbucketError:
    return BuildbucketError("DEADLINE_EXCEEDED", "no complete answer in time", transient=True)


def _json_object(answer: requests.Response) -> dict[str, Any]:
    try:
        document = json.loads(answer.text.removeprefix(_GUARD))
    except ValueError as error:
        raise BuildbucketError("INTERNAL", "the answer is not JSON", transient=True) from error
    if not isinstance(document, dict):
        raise BuildbucketError("INTERNAL", "the answer is not a JSON object", transient=True)
    return document


def _text(answer: requests.Response) -> str:
    text = answer.text.strip()
    if "html" in answer.headers.get("Content-Type", ""):
        return "an HTML page"
    return text[:_MAX_TEXT]
