"""The pRPC transport over HTTP, for any service, in JSON only.

The real service also speaks binary protocol buffers, by default. This server refuses other formats (415, 406), so that
a client that did not request JSON gets an error.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_options_header
from werkzeug.wrappers import Request, Response

__all__ = ["HTTP_STATUS", "Call", "RpcError", "failure", "parse", "success"]

GUARD = b")]}'\n"
MAX_REQUEST = 64 << 20

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 2, 3, 4, 5
PERMISSION_DENIED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 7, 12, 13, 14, 16

HTTP_STATUS = {
    0: 200, 1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429,
    9: 400, 10: 409, 11: 400, 12: 501, 13: 500, 14: 503, 15: 500, 16: 401,
}  # fmt: skip
_GENERIC_FROM = 500
_GENERIC_TEXT = {
    UNKNOWN: "Unknown server error",
    DEADLINE_EXCEEDED: "Request deadline exceeded",
    UNIMPLEMENTED: "API method not implemented by the server",
    INTERNAL: "Internal server error",
    UNAVAILABLE: "Service unavailable",
    15: "Unrecoverable data loss or data corruption",
}
_TIMEOUT_UNITS = {"H": 3_600 * 10**9, "M": 60 * 10**9, "S": 10**9, "m": 10**6, "u": 10**3, "n": 1}
_JSON_TYPES = frozenset({("application/json", ""), ("application/prpc", "json")})
_OTHER_TYPES = frozenset(
    {
        ("application/prpc", "binary"), ("application/prpc", "text"), ("application/prpc", ""),
        ("application/grpc", ""), ("*/*", ""), ("application/*", ""),
    }
)  # fmt: skip


class RpcError(Exception):
    """A call failed.

    Attributes:
        code: the gRPC code.
        message: the text. At HTTP statuses of 500 and above the caller gets a fixed text instead, unless ``own_text``
            is set.
        details: JSON objects with ``@type``, sent in ``X-Prpc-Status-Details-Bin``.
        status: the HTTP status, by default that of the code.
        own_text: whether the caller gets ``message`` at any HTTP status.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        details: Sequence[Mapping[str, Any]] = (),
        status: int | None = None,
        own_text: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.status = HTTP_STATUS[code] if status is None else status
        self.own_text = own_text


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is valid for the transport. ``timeout`` is in nanoseconds; ``message`` is any JSON value."""

    service: str
    method: str
    message: Any
    timeout: int | None
    max_response_size: int | None


def parse(request: Request, service: str, method: str) -> Call:
    """Parse a request.

    Raises:
        RpcError: the request violates a rule of pRPC.
    """
    if request.method != "POST":
        raise RpcError(UNIMPLEMENTED, "pRPC requests are POST", status=405, own_text=True)
    _check_accept(request.accept_mimetypes if "Accept" in request.headers else None)
    timeout = _timeout(request.headers.get("X-Prpc-Grpc-Timeout"))
    limit = _max_response_size(request.headers.get("X-Prpc-Max-Response-Size"))
    _check_metadata(request)
    _check_content_type(request.headers.get("Content-Type"))
    return Call(service, method, _json(_body(request)), timeout, limit)


def success(call: Call, message: Mapping[str, Any], spacing: random.Random) -> Response:
    """Return a reply with code 0.

    Like the real encoder it inserts random spaces, so that clients cannot compare bytes.
    """
    separators = (spacing.choice([",", ", "]), spacing.choice([":", ": ", ":  "]))
    body = GUARD + json.dumps(message, separators=separators, ensure_ascii=False).encode() + b"\n"
    if call.max_response_size is not None and len(body) > call.max_response_size:
        detail = {
            "@type": "type.googleapis.com/luci.prpc.ErrorDetails",
            "responseTooBig": {"responseSize": str(len(body)), "responseSizeLimit": str(call.max_response_size)},
        }
        text = f"prpc: the response size {len(body)} exceeds the client limit {call.max_response_size}"
        return failure(RpcError(UNAVAILABLE, text, details=[detail], own_text=True))
    return Response(body, 200, _headers("application/json", OK))


def failure(error: RpcError) -> Response:
    """Return the reply to a failed call: the text with a line feed, and the code in a header."""
    text = error.message
    if error.status >= _GENERIC_FROM and not error.own_text:
        text = _GENERIC_TEXT.get(error.code, "Internal server error")
    response = Response(f"{text}\n".encode(), error.status, _headers("text/plain; charset=utf-8", error.code))
    for detail in error.details:
        response.headers.add("X-Prpc-Status-Details-Bin", base64.b64encode(json.dumps(detail).encode()).decode())
    return response


def _headers(content_type: str, code: int) -> dict[str, str]:
    return {"Content-Type": content_type, "X-Prpc-Grpc-Code": str(code), "X-Content-Type-Options": "nosniff"}


def _media_type(value: str) -> tuple[str, str]:
    name, options = parse_options_header(value)
    return name.lower(), options.get("encoding", "").lower()


def _check_accept(accept: MIMEAccept | None) -> None:
    if accept is None:
        raise RpcError(INVALID_ARGUMENT, "no Accept header means binary; this server speaks JSON only", status=406)
    formats = [(_media_type(value), quality) for value, quality in accept]
    known = [
        (kind in _JSON_TYPES, quality)
        for kind, quality in formats
        if quality > 0 and kind in _JSON_TYPES | _OTHER_TYPES
    ]
    if not known:
        raise RpcError(INVALID_ARGUMENT, "bad Accept header: no acceptable format", status=406)
    best = max(quality for _, quality in known)
    if not any(is_json for is_json, quality in known if quality == best):
        raise RpcError(INVALID_ARGUMENT, "the client requested binary; this server speaks JSON only", status=406)


def _check_content_type(value: str | None) -> None:
    kind = _media_type(value) if value else ("application/prpc", "binary")
    if kind in _JSON_TYPES:
        return
    if kind in _OTHER_TYPES:
        raise RpcError(INVALID_ARGUMENT, "the request is binary; this server speaks JSON only", status=415)
    raise RpcError(INVALID_ARGUMENT, f'bad Content-Type header: unexpected media type "{kind[0]}"', status=415)


def _timeout(value: str | None) -> int | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)([HMSmun])", value)
    if match is None:
        raise RpcError(INVALID_ARGUMENT, f'invalid X-Prpc-Grpc-Timeout header "{value}"')
    return int(match[1]) * _TIMEOUT_UNITS[match[2]]


def _max_response_size(value: str | None) -> int | None:
    if value is None:
        return None
    if not value.isdecimal() or int(value) == 0:
        raise RpcError(INVALID_ARGUMENT, f'invalid X-Prpc-Max-Response-Size header "{value}"')
    return int(value)


def _check_metadata(request: Request) -> None:
    for name, value in request.headers.items():
        if not name.lower().endswith("-bin"):
            continue
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise RpcError(INVALID_ARGUMENT, f'invalid "{name}" header: {error}') from error


def _body(request: Request) -> bytes:
    if (request.content_length or 0) > MAX_REQUEST:
        raise RpcError(UNAVAILABLE, "the request is too large", own_text=True)
    body = request.get_data()
    if request.headers.get("Content-Encoding", "").lower() != "gzip":
        return body
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        body = decompressor.decompress(body, MAX_REQUEST)
    except zlib.error as error:
        raise RpcError(INVALID_ARGUMENT, f"could not decompress the request: {error}") from error
    if decompressor.unconsumed_tail:
        raise RpcError(UNAVAILABLE, "the decompressed request is too large", own_text=True)
    return body


def _json(body: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"invalid number {constant}")

    try:
        return json.loads(body, parse_constant=refuse)
    except (RecursionError, ValueError) as error:
        raise RpcError(INVALID_ARGUMENT, f"could not decode body: {error}") from error
