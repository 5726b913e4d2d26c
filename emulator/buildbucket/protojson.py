"""JSON of protocol buffers: decoding requests by a small schema, and the values of ``Struct``.

A schema is a mapping from the camelCase name of a field to its type. A type is the name of a scalar
(``string``, ``int64``, ``int32``, ``bool``, ``bytes``, ``enum``, ``timestamp``, ``duration``, ``fieldmask``,
``struct``, ``json``), the name of another message in `MESSAGES`, a one-element list for a repeated field, or a pair
``("map", type)``.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from typing import Any

from emulator.buildbucket.schema import MESSAGES, STATUS_NUMBERS, FieldType
from emulator.building.wire_time import parse_duration, parse_timestamp

__all__ = ["DecodeError", "camel_case", "decode_message", "normalize_struct"]

_INT_RANGES = {"int64": (-(2**63), 2**63 - 1), "int32": (-(2**31), 2**31 - 1)}
_FLOAT_INTEGER_LIMIT = 1e21
_STATUS_NAMES = {number: name for name, number in STATUS_NUMBERS.items()}


class DecodeError(ValueError):
    """The JSON does not match the message; the text is the parser's error."""


def camel_case(name: str) -> str:
    """Return the JSON name of a field, given its JSON name or its proto name."""
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


def decode_message(message: str, value: object) -> dict[str, Any]:
    """Check ``value`` against a message's schema and return it in canonical form.

    The result has camelCase keys and no unknown keys. An int64 is an integer, bytes are bytes, timestamps and durations
    are nanoseconds, and field masks are lists of camelCase paths. Nulls and default scalars are left out, as in binary
    messages.

    Raises:
        DecodeError: a value has the wrong type, or a field appears under both of its names.
    """
    if not isinstance(value, Mapping):
        raise DecodeError(f"unexpected token {_short(value)} for message buildbucket.v2.{message}")
    schema = MESSAGES[message]
    decoded: dict[str, Any] = {}
    for key, item in value.items():
        name = camel_case(key)
        if name not in schema or item is None:
            continue
        if name in decoded:
            raise DecodeError(f'duplicate field "{key}"')
        result = _decode(schema[name], item, name)
        if not _is_default(result):
            decoded[name] = result
    return decoded


def normalize_struct(value: Any) -> Any:
    """Return JSON as a ``Struct`` returns it: each number is a double.

    Whole numbers have no fraction, as in Go's JSON.
    """
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < _FLOAT_INTEGER_LIMIT else number
    if isinstance(value, Mapping):
        return {key: normalize_struct(item) for key, item in value.items()}
    return [normalize_struct(item) for item in value]


def _is_default(value: object) -> bool:
    return not isinstance(value, dict) and value in ("", 0, False, [], b"")


def _decode(kind: FieldType, value: object, name: str) -> Any:
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise DecodeError(f"unexpected token {_short(value)} for repeated field {name}")
        return [_decode(kind[0], item, name) for item in value]
    if isinstance(kind, tuple):
        if not isinstance(value, Mapping):
            raise DecodeError(f"unexpected token {_short(value)} for map field {name}")
        return {key: _decode(kind[1], item, name) for key, item in value.items()}
    if kind in MESSAGES:
        return decode_message(kind, value)
    return _decode_scalar(kind, value, name)


def _decode_scalar(kind: str, value: object, name: str) -> Any:
    if kind == "json":
        return value
    if kind == "struct":
        return _decode_struct(value, name)
    if kind in _INT_RANGES:
        return _decode_integer(kind, value, name)
    if kind == "bool":
        return _decode_bool(value, name)
    if kind == "enum" and isinstance(value, int) and not isinstance(value, bool):
        return _STATUS_NAMES.get(value, value)
    if not isinstance(value, str):
        raise _invalid(kind, value, name)
    try:
        return _decode_text(kind, value)
    except ValueError as error:
        raise DecodeError(f"{error} for field {name}") from error


def _decode_text(kind: str, value: str) -> Any:
    if kind == "bytes":
        return _decode_bytes(value)
    if kind == "timestamp":
        return parse_timestamp(value)
    if kind == "duration":
        return parse_duration(value)
    if kind == "fieldmask":
        return [camel_case(path) for path in value.split(",")] if value else []
    return value


def _decode_struct(value: object, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise DecodeError(f"unexpected token {_short(value)} for google.protobuf.Struct field {name}")
    return normalize_struct(value)


def _decode_bool(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise _invalid("bool", value, name)
    return value


def _decode_integer(kind: str, value: object, name: str) -> int:
    low, high = _INT_RANGES[kind]
    if isinstance(value, str):
        if not re.fullmatch(r"-?(0|[1-9]\d*)", value):
            raise _invalid(kind, value, name)
        number = int(value)
    elif (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value)
    ):
        raise _invalid(kind, value, name)
    else:
        number = int(value)
    if not low <= number <= high:
        raise _invalid(kind, value, name)
    return number


def _decode_bytes(value: str) -> bytes:
    """Decode base64 of either alphabet, padded or not, like protocol buffer parsers."""
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"invalid value for bytes type: {_short(value)}") from error


def _invalid(kind: str, value: object, name: str) -> DecodeError:
    return DecodeError(f"invalid value for {kind} field {name}: {_short(value)}")


def _short(value: object) -> str:
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    return text or (f'"{value[:40]}"' if isinstance(value, str) else str(value)[:40])
