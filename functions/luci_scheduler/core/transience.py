"""Whether a failed call may succeed later, decided here for every client.

A caller retries after a transient failure and gives up after any other. Only the service itself can declare that a
request will never succeed. Proxies, load balancers and login pages answer in the service's place, so their answers are
transient.

The gRPC codes follow ``grpcutil.IsTransientCode`` of LUCI (INTERNAL, UNKNOWN, UNAVAILABLE). DEADLINE_EXCEEDED, ABORTED
and RESOURCE_EXHAUSTED are added, because they refuse a request only for now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant

__all__ = [
    "LONGEST_PAUSE",
    "Failure",
    "api_failure",
    "github_closed_until",
    "github_failure",
    "gitiles_failure",
    "google_failure",
    "grpc_failure",
    "has_code",
    "prpc_failure",
    "requested_pause",
    "rest_failure",
]

LONGEST_PAUSE = 10 * MINUTE
"""The longest pause that a server can request, in nanoseconds. It equals the longest backoff of a launch."""

_CODES = (
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
)
"""Names of the gRPC codes, by number."""
_TRANSIENT = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNAVAILABLE"})
_THROTTLED = "RESOURCE_EXHAUSTED"
_HTTP_FORBIDDEN, _HTTP_UNPROCESSABLE, _HTTP_TOO_MANY, _HTTP_CLOSED, _HTTP_SERVER_ERROR = 403, 422, 429, 499, 500
_PRPC_WITHOUT_CODE = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 503: "UNAVAILABLE"}
"""HTTP status → code without ``X-Prpc-Grpc-Code``; INTERNAL for any other status. From LUCI's ``readStatus``."""
_GITILES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
}
"""HTTP status → code; INTERNAL for any other status. From LUCI's Gitiles client."""
_GITHUB = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    410: "NOT_FOUND",
    422: "INVALID_ARGUMENT",
    451: "PERMISSION_DENIED",
    500: "UNAVAILABLE",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}
"""HTTP status → code; INTERNAL for any other status."""
_GITHUB_CLOSED = MINUTE
"""How long a GitHub host is not asked after a refusal that names no time. Each further refusal doubles it."""
_GITHUB_DOUBLINGS = 5
_GITHUB_LONGEST = 2 * HOUR
"""The longest time for which a GitHub host is not asked. Its limits are counted by the hour."""
_NUMBER = re.compile("[0-9]{1,9}")
_EPOCH_SECONDS = re.compile("[0-9]{1,11}")


@frozen
class Failure:
    """The meaning of a failed call for its caller."""

    code: str
    """Name of a gRPC code (``NOT_FOUND``), or ``HTTP <status>`` for REST."""
    transient: bool
    """Whether the same request may succeed later."""
    throttled: bool = False
    """Whether the server refused because it gets too many requests."""


def grpc_failure(code: str) -> Failure:
    """Judge a gRPC code that the service itself sent."""
    return Failure(code, transient=code in _TRANSIENT, throttled=code == _THROTTLED)


def google_failure(code: str) -> Failure:
    """Judge a gRPC code of Firestore, Cloud Tasks or Pub/Sub.

    Only INVALID_ARGUMENT is about the request. The operator can fix the cause of any other code (a missing index, a
    missing permission), and no work may be lost until then.
    """
    return Failure(code, transient=code != "INVALID_ARGUMENT", throttled=code == _THROTTLED)


def has_code(header: str | None) -> bool:
    """Whether an ``X-Prpc-Grpc-Code`` header holds a code, so that the answer comes from the service itself."""
    return header is not None and _NUMBER.fullmatch(header) is not None


def prpc_failure(status: int, header: str | None) -> Failure | None:
    """Judge an answer of a pRPC server by HTTP status and ``X-Prpc-Grpc-Code`` header; None means success.

    Without a readable header, another server has answered. Such an answer is transient, even with status 401 or 403,
    because it has no meaning for the build.
    """
    throttled = status == _HTTP_TOO_MANY
    if header is None:
        return Failure(_PRPC_WITHOUT_CODE.get(status, "INTERNAL"), transient=True, throttled=throttled)
    if not has_code(header):
        return Failure("INTERNAL", transient=True, throttled=throttled)
    number = int(header)
    # The header decides even against the status: a code of 0 is a success.
    if number == 0:
        return None
    if number >= len(_CODES):  # gRPC reads an unknown number as UNKNOWN
        return Failure(f"code {number}", transient=True)
    return grpc_failure(_CODES[number])


def rest_failure(status: int, *, is_own: bool) -> Failure:
    """Judge an HTTP status other than 200 of Buildbucket's v1 API.

    Args:
        status: the HTTP status.
        is_own: whether the body is the service's own JSON error object.
    """
    throttled = status == _HTTP_TOO_MANY
    # A proxy or a login page can answer with any status. Only the service's own error is final.
    transient = throttled or status >= _HTTP_SERVER_ERROR or not is_own
    return Failure(f"HTTP {status}", transient=transient, throttled=throttled)


def gitiles_failure(status: int) -> Failure:
    """Judge an HTTP status other than 200 of a Gitiles server. Its error bodies have no reliable form."""
    return grpc_failure(_GITILES.get(status, "INTERNAL"))


def api_failure(status: int, code: str) -> Failure:
    """Judge an HTTP status other than 200 of a REST API of Google Cloud.

    Args:
        status: the HTTP status.
        code: the gRPC code in the service's own error object; empty if the answer has none. Such an answer is
            transient with any status, because a proxy or a front end has answered.
    """
    throttled = status == _HTTP_TOO_MANY
    if not code:
        return Failure(_GITILES.get(status, "UNKNOWN"), transient=True, throttled=throttled)
    transient = throttled or status == _HTTP_CLOSED or status >= _HTTP_SERVER_ERROR or code in _TRANSIENT
    return Failure(code, transient=transient, throttled=throttled)


def github_failure(status: int, message: str, headers: Mapping[str, str]) -> Failure:
    """Judge an HTTP status of GitHub's REST API that is an error.

    Args:
        status: the HTTP status.
        message: the member ``message`` of the body, empty if it has none.
        headers: the headers, whose names are found in any case.
    """
    is_refusal = status in (_HTTP_FORBIDDEN, _HTTP_TOO_MANY)
    marks = headers.get("X-RateLimit-Remaining") == "0" or "Retry-After" in headers or "rate limit" in message.lower()
    if status == _HTTP_TOO_MANY or (is_refusal and marks):
        return grpc_failure(_THROTTLED)
    if status == _HTTP_UNPROCESSABLE and message.startswith("No commit found"):
        return grpc_failure("NOT_FOUND")
    code = _GITHUB.get(status, "INTERNAL")
    # A conflict of GitHub is about the repository's state, not about two requests: a repetition has no better chance.
    return Failure(code, transient=code in ("UNAVAILABLE", "INTERNAL"))


def github_closed_until(headers: Mapping[str, str], now: Instant, refusals: int) -> Instant:
    """Return the time before which a GitHub host is not asked, after it has refused a request because of its limits.

    Args:
        headers: the headers of the refusal, whose names are found in any case.
        now: the current time.
        refusals: the number of refusals before this one, without an answer between them.
    """
    reset = headers.get("X-RateLimit-Reset", "")
    spent = headers.get("X-RateLimit-Remaining") == "0" and _EPOCH_SECONDS.fullmatch(reset)
    waits = (
        int(reset) * SECOND - now if spent else 0,
        requested_pause(headers.get("Retry-After"), now, _GITHUB_LONGEST),
    )
    wait = max(waits) if max(waits) > 0 else _GITHUB_CLOSED << min(refusals, _GITHUB_DOUBLINGS)
    return Instant(now + min(wait, _GITHUB_LONGEST))


def requested_pause(retry_after: str | None, now: Instant, longest: int = LONGEST_PAUSE) -> int:
    """Return the nanoseconds that a ``Retry-After`` header (RFC 9110, 10.2.3: seconds or a date) requests as a wait.

    The result is between 0 and ``longest``; it is 0 for a missing or unreadable header, and for a date in the past.
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        seconds = int(text) if len(text) < 10 else longest  # noqa: PLR2004 - more digits exceed the limit anyway
        return min(seconds * SECOND, longest)
    try:
        moment = parsedate_to_datetime(text)
        end = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * SECOND
    except (ValueError, TypeError, OverflowError):
        return 0
    return max(0, min(end - now, longest))
