"""JSON values of messages: requests are checked member by member, and replies get types that clients can use.

There are two forms. The form of protocol buffers belongs to pRPC. The plain form is for clients that are generated from
the description: times are RFC 3339, and members that are not in the schema are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from google.protobuf import json_format

from luci_scheduler.api.errors import BadMemberError
from luci_scheduler.api.schema import ENUMS, Field, fields_of, message_class
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import MICROSECOND, Instant, format_rfc3339, parse_rfc3339

__all__ = [
    "PLAIN",
    "PROTO",
    "STRICT_PROTO",
    "Form",
    "is_left_out",
    "plain_name",
    "plain_reply",
    "proto_name",
    "request",
]

_RANGES = {"int32": 1 << 31, "int64": 1 << 63}
_EXPECTED = {
    "string": "a text",
    "bool": "true or false",
    "int32": "a whole number of 32 bits",
    "int64": "a whole number of 64 bits, or a text with its digits",
}
_TIME = "a time such as 2026-03-01T12:00:00Z"


@frozen
class Form:
    """A form of JSON requests."""

    is_plain: bool
    """Whether times are RFC 3339; otherwise they are microseconds since 1970."""
    is_strict: bool
    """Whether unknown members are refused; otherwise they are ignored, as the original does."""


PROTO, STRICT_PROTO, PLAIN = Form(False, False), Form(False, True), Form(True, True)  # noqa: FBT003 - named above


def proto_name(field: Field) -> str:
    """Return a field's name in the JSON of protocol buffers."""
    return _camel(field.name)


def plain_name(field: Field) -> str:
    """Return a field's name in the plain form: ``started_ts`` is ``started``."""
    return _camel(field.name.removesuffix("_ts") if field.is_time else field.name)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def request(message: str, document: Mapping[str, Any], form: Form) -> Any:
    """Return the message that a JSON object describes.

    Raises:
        BadMemberError: a member is unknown or has the wrong type. The error names it and the expected type.
        Others: as ``json_format.ParseDict`` raises them.
    """
    return json_format.ParseDict(_checked(message, document, form, ""), message_class(message)(), True)  # noqa: FBT003


def _checked(message: str, document: Mapping[str, Any], form: Form, path: str) -> dict[str, Any]:
    known = _names(message, form)
    checked: dict[str, Any] = {}
    for name, value in document.items():
        field = known.get(name)
        where = f"{path}.{name}" if path else name
        if field is None:
            if form.is_strict:
                raise _bad(where, f"is not a member of {message}{_nearest(name, message, form)}")
        elif value is not None:  # null is an absent member
            checked[field.name if name == field.name else proto_name(field)] = _member(field, value, form, where)
    return checked


def _names(message: str, form: Form) -> Mapping[str, Field]:
    fields = list(fields_of(message))
    if form.is_plain:
        return {plain_name(field): field for field in fields}
    return {name: field for field in fields for name in (field.name, proto_name(field))}


def _nearest(name: str, message: str, form: Form) -> str:
    names = [plain_name(field) if form.is_plain else proto_name(field) for field in fields_of(message)]
    if near := get_close_matches(name[:100], names, n=1):
        return f"; did you mean {near[0]}?"
    return f", which has {', '.join(names)}" if names else ", which has no members"


def _member(field: Field, value: Any, form: Form, where: str) -> Any:
    if not field.is_repeated:
        return _value(field, value, form, where)
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    return [_value(field, item, form, f"{where}[{place}]") for place, item in enumerate(value)]


def _value(field: Field, value: Any, form: Form, where: str) -> Any:
    if field.is_time and form.is_plain:
        return _microseconds(value, where)
    match field.kind:
        case "string" if isinstance(value, str):
            return value
        case "bool" if isinstance(value, bool):
            return value
        case "int32" | "int64":
            return _number(field.kind, value, where)
        case "string" | "bool":
            raise _wrong(where, _EXPECTED[field.kind], value)
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    return value if field.kind == "Struct" else _checked(field.kind, value, form, where)


def _number(kind: str, value: Any, where: str) -> int:
    # Protocol buffers also read numbers from texts, and whole numbers that are written as 1.0.
    is_digits = isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 21  # noqa: PLR2004 - 64 bits
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not (is_digits or is_whole) or not -_RANGES[kind] <= int(value) < _RANGES[kind]:
        raise _wrong(where, _EXPECTED[kind], value)
    return int(value)


def _microseconds(value: Any, where: str) -> int:
    try:
        return parse_rfc3339(value) // MICROSECOND
    except (ValueError, TypeError, AttributeError) as error:
        raise _wrong(where, _TIME, value) from error


def _wrong(where: str, expected: str, value: Any) -> BadMemberError:
    return _bad(where, f"must be {expected}, not {_said(value)}")


def _bad(where: str, problem: str) -> BadMemberError:
    return BadMemberError(where[:200], problem, "could not decode body: ")


def _said(value: Any) -> str:
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case int() | float():
            return "a number" if abs(value) >= _RANGES["int64"] else f"the number {value}"
        case str():
            return "this text"
        case list():
            return "a list"
    return "an object"


def plain_reply(message: str, reply: Any) -> dict[str, Any]:
    """Return a reply in the plain form."""
    document = json_format.MessageToDict(reply, always_print_fields_with_no_presence=True)
    return _plain(message, document)


def _plain(message: str, document: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field in fields_of(message):
        value = document.get(proto_name(field))
        if value is None or (is_left_out(message, field) and value in ("", "0")):
            continue
        plain[plain_name(field)] = (
            [_shown(field, item) for item in value] if field.is_repeated else _shown(field, value)
        )
    return plain


def _shown(field: Field, value: Any) -> Any:
    if field.is_time:
        return format_rfc3339(Instant(int(value) * MICROSECOND))
    return _plain(field.kind, value) if field.is_message else value


def is_left_out(message: str, field: Field) -> bool:
    """Return whether a member is left out of a plain reply while it is empty.

    These are objects, times, 64-bit numbers, and texts of a fixed set. Other texts, numbers, truth values and lists are
    always there.
    """
    if field.is_repeated:
        return False
    return field.is_message or field.kind in ("int64", "Struct") or f"{message}.{field.name}" in ENUMS
