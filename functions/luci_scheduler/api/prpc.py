"""pRPC over HTTP: requests and replies in JSON, binary or text proto. The methods are in `schema` and `methods`."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf import json_format, text_format
from google.protobuf.message import DecodeError

from luci_scheduler.api import call
from luci_scheduler.api.call import Failure, HttpRequest, HttpResponse, RefusedError
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError, Code, invalid
from luci_scheduler.api.json_values import PROTO, STRICT_PROTO
from luci_scheduler.api.json_values import request as json_request
from luci_scheduler.api.methods import HANDLERS
from luci_scheduler.api.schema import METHODS, OPERATOR, Method, message_class
from luci_scheduler.core.untrusted import PARSER_ERRORS

__all__ = ["answer"]

_GUARD = b")]}'\n"
_METHODS: Mapping[str, Method] = {method.path: method for method in METHODS}
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
        call.check_grants(method, context)
        message = _read(method, request, kind, call.size_limit(method, context, is_text=kind == _TEXT))
        return _success(HANDLERS[method.service, method.name](context, message), reply_format, limit)
    except Exception as error:  # noqa: BLE001 - after any error the client gets a pRPC response
        return _failed(call.failure_of(error, request.path))


def _method(request: HttpRequest) -> Method:
    method = _METHODS.get(request.path)
    if method is None:
        raise ApiError(Code.UNIMPLEMENTED, "no such method")
    call.check_request(request)
    return method


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
        raise RefusedError(Code.INVALID_ARGUMENT, "bad Accept header: no acceptable format", 406)
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
        raise RefusedError(Code.INVALID_ARGUMENT, text, 415)
    return kind


def _read(method: Method, request: HttpRequest, kind: str, max_bytes: int) -> Any:
    body = call.read_call(request, max_bytes)
    try:
        if kind == _JSON:
            # The original ignores unknown members, so its own methods do as well.
            form = STRICT_PROTO if method.service == OPERATOR else PROTO
            return json_request(method.request, call.read_document(body), form)
        message = message_class(method.request)()
        if kind == _BINARY:
            message.ParseFromString(body)
        else:
            text_format.Parse(body.decode(), message)
    except _UNDECODABLE as error:
        raise invalid(f"could not decode body: {_one_line(error)}") from error
    return message


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
        return _failed(Failure(Code.UNAVAILABLE, text, 503, _too_big(len(body), limit)))
    return body, 200, _headers(kind, Code.OK)


def _too_big(size: int, limit: int) -> dict[str, str]:
    detail = {
        "@type": "type.googleapis.com/luci.prpc.ErrorDetails",
        "responseTooBig": {"responseSize": str(size), "responseSizeLimit": str(limit)},
    }
    return {"X-Prpc-Status-Details-Bin": base64.b64encode(json.dumps(detail).encode()).decode()}


def _failed(failure: Failure) -> HttpResponse:
    headers = {**_headers("text/plain; charset=utf-8", failure.code), **failure.headers}
    return f"{failure.text}\n".encode(errors="backslashreplace"), failure.status, headers


def _headers(content_type: str, code: Code) -> dict[str, str]:
    return {"Content-Type": content_type, "X-Prpc-Grpc-Code": str(int(code)), **call.HEADERS}
