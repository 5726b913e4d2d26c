"""The API in plain JSON as an OpenAPI document, from the same table that decodes requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luci_scheduler.api.errors import Code
from luci_scheduler.api.json_values import is_left_out, plain_name
from luci_scheduler.api.schema import ALWAYS, ENUMS, MESSAGES, METHODS, Field, Method, fields_of

__all__ = ["PATH", "openapi"]

PATH = "/prpc/description"
"""The path under which the console serves it."""

_TYPES: Mapping[str, Mapping[str, Any]] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {
        "type": "string",
        "format": "int64",
        "description": "The decimal digits of a number of 64 bits, of which many JSON readers keep 53.",
    },
    "Struct": {"type": "object", "additionalProperties": True},
}
_TIME = {"type": "string", "format": "date-time"}
_NAMES_OBJECT = ("JobRef", "InvocationRef")
"""Messages that name an object: all their members are required."""


def openapi() -> dict[str, Any]:
    """Return the description as a JSON document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LUCI Scheduler",
            "version": "1",
            "description": "Every method is a POST with a JSON object. Replies leave out empty objects, times, 64-bit "
            "numbers and texts of a fixed set; newer versions may add members and values. pRPC clients call the same "
            "methods below /prpc/.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {}],
        "paths": {method.plain_path: {"post": _operation(method)} for method in METHODS},
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An ID token or an access token, as the console's front end wants it. "
                    "The local cloud needs none.",
                }
            },
            "schemas": {**{name: _schema(name) for name in MESSAGES}, **_ERRORS},
        },
    }


_ERRORS: Mapping[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["code", "message", "details"],
        "properties": {
            "code": {"type": "string", "enum": [code.name for code in Code if code is not Code.OK]},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"$ref": "#/components/schemas/ErrorDetail"}},
        },
    },
    "ErrorDetail": {
        "type": "object",
        "description": "A member of the request that is unknown or has the wrong type.",
        "required": ["member", "problem"],
        "properties": {"member": {"type": "string"}, "problem": {"type": "string"}},
    },
}


def _operation(method: Method) -> dict[str, Any]:
    service = method.service.rpartition(".")[2]
    return {
        "operationId": f"{service}{method.name}",
        "tags": [service],
        "summary": method.summary,
        "description": f"Permission: {method.permission}.",
        "requestBody": {"required": True, "content": _content(method.request)},
        "responses": {
            "200": {"description": "Done.", "content": _content(method.reply)},
            "default": {"description": "An error.", "content": _content("Error")},
        },
    }


def _content(message: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{message}"}}}


def _schema(message: str) -> dict[str, Any]:
    properties = {plain_name(field): _type(message, field) for field in fields_of(message)}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required := [plain_name(field) for field in fields_of(message) if _is_required(message, field)]:
        schema["required"] = required
    return schema


def _is_required(message: str, field: Field) -> bool:
    """Return whether a member is always there: in replies, and in references to objects."""
    if message in _NAMES_OBJECT or f"{message}.{field.name}" in ALWAYS:
        return True
    return message not in _REQUESTED and not is_left_out(message, field)


def _requested() -> frozenset[str]:
    """Return the messages that are part of a request."""
    found, waiting = set[str](), [method.request for method in METHODS]
    while waiting:
        message = waiting.pop()
        if message not in found:
            found.add(message)
            waiting += [field.kind for field in fields_of(message) if field.is_message]
    return frozenset(found)


_REQUESTED = _requested()


def _type(message: str, field: Field) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{field.kind}"}
    kind: dict[str, Any] = {**(_TIME if field.is_time else _TYPES.get(field.kind, reference))}
    if values := ENUMS.get(f"{message}.{field.name}"):
        kind["enum"] = list(values)
    return {"type": "array", "items": kind} if field.is_repeated else kind
