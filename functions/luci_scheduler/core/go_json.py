"""JSON as the original's Go code prints it: for request bodies and for the debug log, where every byte shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["compact", "indented", "message", "struct"]

_HTML = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
_SHORT = re.compile(r"\\\\|\\b|\\f")  # an escaped backslash is matched so that the letter behind it is not
_LONG = {"\\b": "\\u0008", "\\f": "\\u000c"}
_LARGE, _SMALL = 1e21, 1e-6  # beyond these Go writes an exponent


def compact(value: Any) -> str:
    """Print without spaces, every object's keys sorted by their bytes."""
    match value:
        case Mapping():
            members = (f"{_text(key)}:{compact(value[key])}" for key in sorted(value, key=str.encode))
            return "{" + ",".join(members) + "}"
        case list() | tuple():
            return "[" + ",".join(compact(item) for item in value) + "]"
        case _:
            return _scalar(value)


def indented(value: Any, indent: str = "") -> str:
    """Print with two spaces an indentation, keys in their own order; empty objects and lists on one line."""
    return _indented(value, indent, empty_object="{}")


def message(value: Mapping[str, Any], indent: str = "") -> str:
    """Print a protocol buffer message: as ``indented``, but a set, empty message takes three lines."""
    return _indented(value, indent, empty_object="{\n\n" + indent + "}")


class struct(dict[str, Any]):  # noqa: N801 - a marker, named as the protocol buffer type
    """A free-form value (``google.protobuf.Struct``) inside a message; it is printed in a layout of its own."""


def _indented(value: Any, indent: str, *, empty_object: str) -> str:
    inner = indent + "  "
    match value:
        case struct():
            return _free_form(value, indent, 0)
        case Mapping():
            if not value:
                return "{\n\n" + indent + "}" if empty_object != "{}" else "{}"
            members = (
                f"{inner}{_text(key)}: {_indented(item, inner, empty_object=empty_object)}"
                for key, item in value.items()
            )
            return "{\n" + ",\n".join(members) + f"\n{indent}}}"
        case list() | tuple():
            if not value:
                return "[]"
            items = (inner + _indented(item, inner, empty_object=empty_object) for item in value)
            return "[\n" + ",\n".join(items) + f"\n{indent}]"
        case _:
            return _scalar(value)


def _free_form(value: Any, indent: str, depth: int) -> str:
    """Print a value of a Struct; ``indent`` is two deeper than the closing brace of the message around the Struct."""
    base = indent[:-2] if depth == 0 else indent
    inner, closing = base + " " * (6 * (depth + 1)), base + " " * (6 * depth + 4)
    match value:
        case Mapping():
            items = [
                f"{_text(key)}: {_free_form(value[key], base, depth + 1)}" for key in sorted(value, key=str.encode)
            ]
            brackets = "{}"
        case list() | tuple():
            items = [_free_form(item, base, depth + 1) for item in value]
            brackets = "[]"
        case _:
            return _scalar(value)
    body = ",\n".join(inner + item for item in items)
    return brackets[0] + "\n" + (f"{body}\n" if body else "") + closing + brackets[1]


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case int():
            return str(value)
        case float():
            return _float(value)
    raise TypeError(f"not a JSON value: {type(value).__name__}")


def _text(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False).translate(_HTML)
    return _SHORT.sub(lambda match: _LONG.get(match[0], match[0]), quoted)


def _float(value: float) -> str:
    if value == int(value) and abs(value) < _LARGE:
        return str(int(value))
    if _SMALL <= abs(value) < _LARGE:
        digits = repr(value)
        return digits if "e" not in digits else f"{value:.20f}".rstrip("0")
    mantissa, _, exponent = repr(value).partition("e")
    return f"{mantissa.removesuffix('.0')}e{'+' if int(exponent) > 0 else '-'}{abs(int(exponent)):02d}"
