"""The API as an OpenAPI document, from the same table that decodes requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luci_scheduler.api.schema import MESSAGES, METHODS, Field, Method, fields_of

__all__ = ["PATH", "json_name", "openapi"]

PATH = "/prpc/description"
"""The path under which the console serves it."""

_TYPES: Mapping[str, Mapping[str, Any]] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {
        "type": "string",
        "format": "int64",
        "description": "A decimal number; requests may also have a JSON number.",
    },
    "Struct": {"type": "object", "additionalProperties": True},
}


def openapi() -> dict[str, Any]:
    """Return the description as a JSON document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LUCI Scheduler",
            "version": "1",
            "description": "pRPC over HTTP. A JSON reply begins with the line )]}' and ends with a line feed; "
            "fields that are empty are left out. The gRPC code is in the header X-Prpc-Grpc-Code; "
            "an error's body is plain text.",
        },
        "paths": {method.path: {"post": _operation(method)} for method in METHODS},
        "components": {"schemas": {name: _schema(name) for name in MESSAGES}},
    }


def json_name(field: str) -> str:
    """Return a field's name in JSON."""
    first, *others = field.split("_")
    return first + "".join(word.capitalize() for word in others)


def _operation(method: Method) -> dict[str, Any]:
    return {
        "operationId": f"{method.service}.{method.name}",
        "summary": method.summary,
        "description": f"Permission: {method.permission}.",
        "requestBody": {"required": True, "content": _content(method.request)},
        "responses": {
            "200": {"description": "Done.", "content": _content(method.reply)},
            "default": {"description": "An error.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        },
    }


def _content(message: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{message}"}}}


def _schema(message: str) -> dict[str, Any]:
    return {"type": "object", "properties": {json_name(field.name): _type(field) for field in fields_of(message)}}


def _type(field: Field) -> dict[str, Any]:
    kind: dict[str, Any] = dict(_TYPES.get(field.kind) or {"$ref": f"#/components/schemas/{field.kind}"})
    return {"type": "array", "items": kind} if field.is_repeated else kind
