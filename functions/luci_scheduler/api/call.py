"""A call over HTTP: the checks, the bounds and the errors that both forms of the API share.

A page of another site cannot call the API on behalf of its visitor: a browser sends the page's origin with every POST.

A request is cheap to refuse. The path and the headers are checked first, then the caller is identified. Only a caller
whom the policy grants something gets a bounded body read, decompressed and decoded.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol
from urllib.parse import urlsplit

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError, BadMemberError, Code, HostUnavailableError, invalid, no_such_job
from luci_scheduler.api.schema import NAMES_ONE_JOB, NEEDS, Method
from luci_scheduler.bodies import read_body
from luci_scheduler.core.errors import ComeAgainError, MalformedError, SchedulerError, TransientError
from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.frozen import frozen
from luci_scheduler.engine.runtime import logger

__all__ = [
    "HEADERS",
    "MAX_REQUEST_BYTES",
    "MAX_TEXT_BYTES",
    "MAX_UNGRANTED_BYTES",
    "MAX_VALUES",
    "Failure",
    "HttpRequest",
    "HttpResponse",
    "RefusedError",
    "check_grants",
    "check_request",
    "failure_of",
    "read_call",
    "read_document",
    "size_limit",
]

MAX_REQUEST_BYTES = 512 * 1024
"""The size of a request, before and after decompression. No trigger needs more; a task has at most one megabyte."""

MAX_UNGRANTED_BYTES = 4 * 1024
"""The same for a caller who has the method's permission in no project: room for names, not for thousands of objects."""

MAX_TEXT_BYTES = 64 * 1024
"""The same for text protos. Their parser takes about three microseconds per byte."""

MAX_VALUES = 50_000
"""Objects, lists and scalars in a JSON request. The conversion takes about five microseconds per value."""

HttpResponse = tuple[bytes, int, dict[str, str]]
"""Body, status code, headers."""

HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""Headers of every answer."""

_STATUS = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
_GENERIC = {
    Code.UNIMPLEMENTED: "API method not implemented by the server",
    Code.INTERNAL: "Internal server error",
    Code.UNAVAILABLE: "Service unavailable",
}
"""Texts that replace the service's own at statuses from 500 up, as in LUCI; the service's text goes to our log."""
_METHOD_NOT_ALLOWED = 405


class HttpRequest(Protocol):
    """The part of a Flask request that this module uses."""

    @property
    def method(self) -> str:
        """The HTTP method."""

    @property
    def path(self) -> str:
        """The path, decoded."""

    @property
    def host(self) -> str:
        """The host and port in the request's address."""

    @property
    def headers(self) -> Any:
        """Names and values; the case of names does not matter."""

    @property
    def content_length(self) -> int | None:
        """The announced size of the body; None if the header is missing or the body is chunked."""

    @property
    def stream(self) -> Any:
        """The body, as a stream."""


@frozen
class Failure:
    """The answer to a call that failed."""

    code: Code
    text: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    details: Sequence[Mapping[str, str]] = ()
    """For each wrong member of the request, its ``member`` and the ``problem``."""


class RefusedError(Exception):
    """A request that the transport itself refuses; the client gets this text at any status."""

    def __init__(self, code: Code, text: str, status: int) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status


def failure_of(error: Exception, path: str) -> Failure:
    """Return the answer to a call that raised ``error``; log the details that the caller does not see."""
    match error:
        case RefusedError():
            headers = {"Allow": "POST"} if error.status == _METHOD_NOT_ALLOWED else {}
            return Failure(error.code, error.text, error.status, headers)
        case ApiError():
            details = error.details if isinstance(error, BadMemberError) else ()
            return _failure(error.code, error.message, path, error.headers, details)
        case MalformedError():
            return _failure(Code.INVALID_ARGUMENT, str(error), path)
        case HostUnavailableError():
            logger.warning("api_error", path=path[:200], code=Code.UNAVAILABLE.name, error=str(error))
            return Failure(Code.UNAVAILABLE, str(error), _STATUS[Code.UNAVAILABLE])
        case TransientError() | ComeAgainError():
            return _failure(Code.UNAVAILABLE, str(error), path)
        case SchedulerError():
            return _failure(Code.INTERNAL, str(error), path)
    logger.error("api_fault", path=path[:200], exc_info=error)
    return Failure(Code.INTERNAL, _GENERIC[Code.INTERNAL], _STATUS[Code.INTERNAL])


def _failure(
    code: Code,
    text: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    details: Sequence[Mapping[str, str]] = (),
) -> Failure:
    if code in _GENERIC:
        logger.warning("api_error", path=path[:200], code=code.name, error=text)
        text = _GENERIC[code]
    return Failure(code, text, _STATUS[code], headers or {}, details)


def check_request(request: HttpRequest) -> None:
    """Refuse a request that is not a POST, or comes from a page of another site."""
    if request.method != "POST":
        raise RefusedError(Code.UNIMPLEMENTED, "a method is called by POST", _METHOD_NOT_ALLOWED)
    if not _is_own(request.headers.get("Origin"), request.host):
        raise RefusedError(Code.PERMISSION_DENIED, "pages of other sites may not call this API", 403)


def _is_own(origin: str | None, host: str) -> bool:
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc == host


def check_grants(method: Method, context: Context) -> None:
    """Refuse a caller whom the policy grants nothing that the method needs, before the body is read.

    A method of one job fails as if the job did not exist. The replies of other methods depend on the request, so
    `size_limit` bounds that instead.

    Raises:
        ApiError: PERMISSION_DENIED, NOT_FOUND.
    """
    if method.permission == "everyone":
        return
    if context.access.problem:
        raise ApiError(Code.PERMISSION_DENIED, context.access.problem)
    if NEEDS[method.permission] is None:
        context.require_admin()
    elif method.request in NAMES_ONE_JOB and not context.sees_some():
        raise no_such_job()


def size_limit(method: Method, context: Context, *, is_text: bool = False) -> int:
    """Return the largest size of the caller's request in bytes, before and after decompression."""
    permission = NEEDS[method.permission]
    if permission is not None and not context.access.allows_somewhere(context.caller, permission):
        return MAX_UNGRANTED_BYTES
    return MAX_TEXT_BYTES if is_text else MAX_REQUEST_BYTES


def read_document(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request, and refuse one with too many values to convert."""
    document = read_object(body, wide_integers=True)
    waiting: list[Any] = [document]
    total = 1
    while waiting:
        value = waiting.pop()
        items = list(value.values() if isinstance(value, dict) else value)
        total += len(items)
        if total > MAX_VALUES:
            raise invalid(f"a JSON request has at most {MAX_VALUES} values")
        waiting += [item for item in items if isinstance(item, dict | list)]
    return document


def read_call(request: HttpRequest, max_bytes: int) -> bytes:
    """Return the body, decompressed."""
    body = _within(read_body(request, max_bytes), max_bytes)
    encoding = request.headers.get("Content-Encoding", "").lower()
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise invalid("the body may be compressed by gzip only")
    return _decompressed(body, max_bytes)


def _decompressed(body: bytes, max_bytes: int) -> bytes:
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        body = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise invalid(f"could not decompress the request: {error}") from error
    body = _within(body, max_bytes)
    if not decompressor.eof:
        raise invalid("could not decompress the request: it is cut short")
    return body


def _within(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        raise invalid(f"a request has at most {max_bytes} bytes")
    return body
