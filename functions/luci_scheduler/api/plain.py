"""The API in plain JSON, for clients that are generated from its description.

The methods, the permissions and the bounds are those of `prpc`. Replies have no guard line. Errors are JSON
with the HTTP status of their code. Times are RFC 3339.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from google.protobuf import json_format

from luci_scheduler.api import call
from luci_scheduler.api.call import Failure, HttpRequest, HttpResponse, RefusedError
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError, Code, InvalidCursorError, invalid
from luci_scheduler.api.json_values import PLAIN, plain_reply
from luci_scheduler.api.json_values import request as json_request
from luci_scheduler.api.methods import HANDLERS
from luci_scheduler.api.schema import METHODS, Method
from luci_scheduler.core.untrusted import PARSER_ERRORS

__all__ = ["PREFIX", "answer"]

PREFIX = "/api/v1/"
"""The beginning of each method's path."""

_UNDECODABLE: tuple[type[Exception], ...] = (*PARSER_ERRORS, json_format.Error)
_METHODS: Mapping[str, Method] = {method.plain_path: method for method in METHODS}


def answer(request: HttpRequest, make_context: Callable[[], Context]) -> HttpResponse:
    """Return the response to a request under `PREFIX`; the arguments are those of `prpc.answer`."""
    try:
        method = _method(request)
        context = make_context()
        call.check_grants(method, context)
        message = _read(method, request, call.size_limit(method, context))
        reply = HANDLERS[method.service, method.name](context, message)
        return _json(plain_reply(method.reply, reply), 200)
    except InvalidCursorError as error:
        # pRPC answers INTERNAL, because the original does.
        return _failed(call.failure_of(invalid(f"cursor: {error.message}: pass nextCursor of a reply"), request.path))
    except Exception as error:  # noqa: BLE001 - after any error the client gets a JSON response
        return _failed(call.failure_of(error, request.path))


def _method(request: HttpRequest) -> Method:
    method = _METHODS.get(request.path)
    if method is None:
        raise RefusedError(Code.UNIMPLEMENTED, f"no such method: {request.path[:200]}", 404)
    call.check_request(request)
    kind = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    # A page of another site can send other types without asking first.
    if kind != "application/json":
        raise RefusedError(Code.INVALID_ARGUMENT, "the Content-Type must be application/json", 415)
    return method


def _read(method: Method, request: HttpRequest, max_bytes: int) -> object:
    try:
        return json_request(method.request, call.read_document(call.read_call(request, max_bytes)), PLAIN)
    except ApiError:
        raise
    except _UNDECODABLE as error:
        raise invalid(f"could not decode body: {' '.join(str(error).split())[:300]}") from error


def _failed(failure: Failure) -> HttpResponse:
    document = {"code": failure.code.name, "message": failure.text, "details": list(failure.details)}
    body, status, headers = _json(document, failure.status)
    return body, status, {**headers, **failure.headers}


def _json(document: object, status: int) -> HttpResponse:
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(errors="backslashreplace")
    return body + b"\n", status, {"Content-Type": "application/json", **call.HEADERS}
