"""pRPC over HTTP: requests and replies in JSON, binary or text proto. The methods are in `schema` and `methods`.

A page of another site cannot call the API on behalf of its visitor: a browser sends the page's origin with every POST.

A request is cheap to refuse. The path and the headers are checked first, then the caller is identified. Only a caller
whom the policy grants something gets a bounded body read, decompressed and decoded.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from google.protobuf import json_format, text_format
from google.protobuf.message import DecodeError

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError, Code, invalid, no_such_job
from luci_scheduler.api.methods import HANDLERS
from luci_scheduler.api.schema import METHODS, NAMES_ONE_JOB, NEEDS, Method, message_class
from luci_scheduler.bodies import read_body
from luci_scheduler.core.errors import ComeAgainError, MalformedError, SchedulerError, TransientError
from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.untrusted import PARSER_ERRORS
from luci_scheduler.engine.runtime import logger

__all__ = ["MAX_REQUEST_BYTES", "MAX_UNGRANTED_BYTES", "MAX_VALUES", "HttpRequest", "HttpResponse", "answer"]

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

_GUARD = b")]}'\n"
_METHODS: Mapping[str, Method] = {method.path: method for method in METHODS}
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

_BINARY, _JSON, _TEXT = "application/prpc; encoding=binary", "application/json", "application/prpc; encoding=text"
_FORMATS = {
    ("application/json", ""): _JSON,
    ("application/prpc", "json"): _JSON,
    ("application/prpc", "text"): _TEXT,
    ("application/prpc", "binary"): _BINARY,
    ("application/prpc", ""): _BINARY,
    ("application/grpc", ""): _BINARY,
    ("application/*", ""): _BINARY,
    ("*/*", ""): _BINARY,
}
_UNDECODABLE: tuple[type[Exception], ...] = (*PARSER_ERRORS, json_format.Error, DecodeError, text_format.Error)
_TIMEOUT = re.compile(r"\d{1,8}[HMSmun]")
_MAX_HEADERS = 200  # of a request; clients send a few dozen at most


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


class _RefusedError(Exception):
    """A request that pRPC itself refuses; the client gets this text at any status."""

    def __init__(self, code: Code, text: str, status: int) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status


def answer(request: HttpRequest, make_context: Callable[[], Context]) -> HttpResponse:
    """Return the response to a request under ``/prpc/``: body, status and headers.

    Args:
        request: the request.
        make_context: identifies the caller; may raise ``ApiError``. It runs after the path and the headers are checked,
            and before the body is read.
    """
    try:
        method = _method(request)
        reply_format = _accepted(request.headers.get("Accept"))
        limit = _check_headers(request)
        kind = _format(request)
        context = make_context()
        _check_grants(method, context)
        message = _read(method, request, kind, _size_limit(method, context, kind))
        return _success(HANDLERS[method.service, method.name](context, message), reply_format, limit)
    except _RefusedError as refused:
        return _failure(refused.code, refused.text, refused.status)
    except ApiError as error:
        return _error(error.code, error.message, request, error.headers)
    except MalformedError as error:
        return _error(Code.INVALID_ARGUMENT, str(error), request)
    except (TransientError, ComeAgainError) as error:
        return _error(Code.UNAVAILABLE, str(error), request)
    except SchedulerError as error:
        return _error(Code.INTERNAL, str(error), request)
    except Exception:  # noqa: BLE001 - after any error the client gets a pRPC response
        logger.exception("api_fault", path=request.path[:200])
        return _failure(Code.INTERNAL, _GENERIC[Code.INTERNAL], 500)


def _check_grants(method: Method, context: Context) -> None:
    """Refuse a caller whom the policy grants nothing that the method needs, before the body is read.

    A method of one job fails as if the job did not exist. The replies of other methods depend on the request, so
    `_size_limit` bounds that instead.

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


def _size_limit(method: Method, context: Context, kind: str) -> int:
    """Return the largest size of the caller's request in bytes, before and after decompression."""
    permission = NEEDS[method.permission]
    if permission is not None and not context.access.allows_somewhere(context.caller, permission):
        return MAX_UNGRANTED_BYTES
    return MAX_TEXT_BYTES if kind == _TEXT else MAX_REQUEST_BYTES


def _method(request: HttpRequest) -> Method:
    method = _METHODS.get(request.path)
    if method is None:
        raise ApiError(Code.UNIMPLEMENTED, "no such method")
    if request.method != "POST":
        raise _RefusedError(Code.UNIMPLEMENTED, "pRPC requests are POST", 405)
    if not _is_own(request.headers.get("Origin"), request.host):
        raise _RefusedError(Code.PERMISSION_DENIED, "pages of other sites may not call this API", 403)
    return method


def _is_own(origin: str | None, host: str) -> bool:
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc == host


def _check_headers(request: HttpRequest) -> int | None:
    """Check pRPC's headers; return the size of the largest reply that the client accepts, None if any."""
    timeout = request.headers.get("X-Prpc-Grpc-Timeout")
    if timeout is not None and not _TIMEOUT.fullmatch(timeout):
        raise invalid(f"invalid X-Prpc-Grpc-Timeout header {timeout[:40]!r}")
    _check_metadata(request.headers.items())
    limit: str | None = request.headers.get("X-Prpc-Max-Response-Size")
    if limit is None:
        return None
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 18 and int(limit)):  # noqa: PLR2004 - fits 64 bits
        raise invalid(f"invalid X-Prpc-Max-Response-Size header {limit[:40]!r}")
    return int(limit)


def _check_metadata(headers: Iterable[tuple[str, str]]) -> None:
    """Check the number of headers, and the encoding of binary metadata."""
    for number, (name, value) in enumerate(headers):
        if number >= _MAX_HEADERS:
            raise invalid("too many headers")
        if name.lower().endswith("-bin"):
            _check_base64(name, value)


def _check_base64(name: str, value: str) -> None:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"invalid {name[:40]!r} header: {error}") from error


def _accepted(header: str | None) -> str:
    """Return the format of the reply; the default is binary, as in LUCI."""
    if header is None:
        return _BINARY
    best, quality = "", 0.0
    for item in header.split(","):
        options = [option.strip() for option in item.split(";")]
        kind = _FORMATS.get((options[0].lower(), _option(options, "encoding")))
        weight = _quality(_option(options, "q"))
        if kind and weight > quality:
            best, quality = kind, weight
    if not best:
        raise _RefusedError(Code.INVALID_ARGUMENT, "bad Accept header: no acceptable format", 406)
    return best


def _option(options: list[str], name: str) -> str:
    for option in options[1:]:
        key, _, value = option.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"').lower()
    return ""


def _quality(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text) else 1.0


def _format(request: HttpRequest) -> str:
    """Return the format of the request's body."""
    header = request.headers.get("Content-Type") or _BINARY
    options = [option.strip() for option in header.split(";")]
    kind = _FORMATS.get((options[0].lower(), _option(options, "encoding")))
    if kind is None:
        text = f"bad Content-Type header: unexpected media type {options[0][:100]!r}"
        raise _RefusedError(Code.INVALID_ARGUMENT, text, 415)
    return kind


def _read(method: Method, request: HttpRequest, kind: str, max_bytes: int) -> Any:
    body, message = _body(request, max_bytes), message_class(method.request)()
    try:
        if kind == _JSON:
            # Unknown members are ignored, as in the original: the client may be newer than this server.
            json_format.ParseDict(_document(body), message, ignore_unknown_fields=True)
        elif kind == _BINARY:
            message.ParseFromString(body)
        else:
            text_format.Parse(body.decode(), message)
    except _UNDECODABLE as error:
        raise invalid(f"could not decode body: {_one_line(error)}") from error
    return message


def _document(body: bytes) -> dict[str, Any]:
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


def _body(request: HttpRequest, max_bytes: int) -> bytes:
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _success(reply: Any, kind: str, limit: int | None) -> HttpResponse:
    if kind == _JSON:
        document = json_format.MessageToDict(reply)
        body = _GUARD + json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    elif kind == _BINARY:
        body = reply.SerializeToString()
    else:
        body = text_format.MessageToString(reply).encode()
    if limit is not None and len(body) > limit:
        text = f"prpc: the response size {len(body)} exceeds the client limit {limit}"
        return _failure(Code.UNAVAILABLE, text, 503, _too_big(len(body), limit))
    return body, 200, _headers(kind, Code.OK)


def _too_big(size: int, limit: int) -> dict[str, str]:
    detail = {
        "@type": "type.googleapis.com/luci.prpc.ErrorDetails",
        "responseTooBig": {"responseSize": str(size), "responseSizeLimit": str(limit)},
    }
    return {"X-Prpc-Status-Details-Bin": base64.b64encode(json.dumps(detail).encode()).decode()}


def _error(code: Code, text: str, request: HttpRequest, headers: Mapping[str, str] | None = None) -> HttpResponse:
    status = _STATUS[code]
    if code in _GENERIC:
        logger.warning("api_error", path=request.path[:200], code=code.name, error=text)
        text = _GENERIC[code]
    return _failure(code, text, status, headers)


def _failure(code: Code, text: str, status: int, more: Mapping[str, str] | None = None) -> HttpResponse:
    headers = {**_headers("text/plain; charset=utf-8", code), **(more or {})}
    if status == 405:  # noqa: PLR2004 - HTTP
        headers["Allow"] = "POST"
    return f"{text}\n".encode(errors="backslashreplace"), status, headers


def _headers(content_type: str, code: Code) -> dict[str, str]:
    return {
        "Content-Type": content_type,
        "X-Prpc-Grpc-Code": str(int(code)),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
