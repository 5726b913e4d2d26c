"""JSON in the exact format of the original's Go code, for request bodies and for the debug log.

Values have the types that ``json.loads`` returns. Numbers are doubles, as everywhere in JSON of protocol buffers. They
are printed with the fewest digits that identify them (``1``, not ``1.0``). Every function raises ``ValueError`` for a
number that no double can hold (NaN, infinities), and ``TypeError`` for a value that JSON does not have.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from luci_scheduler.core.go_text import valid_text

__all__ = ["compact", "indented", "message", "struct"]

_PLAIN = re.compile(
    r"[ !#-%'-;=?-\[\]-~]*"
)  # printable ASCII without the escaped characters: the quote, the backslash, <, > and &
_HTML = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
_SHORT = re.compile(r"\\\\|\\b|\\f")  # an escaped backslash also matches, so that the letter after it does not
_LONG = {"\\b": "\\u0008", "\\f": "\\u000c"}
_LARGE, _SMALL = 1e21, 1e-6  # beyond these Go writes an exponent
_MAX_EXACT = 1 << 53  # larger whole numbers lose digits in a double


def compact(value: Any) -> str:
    """Print without spaces, with every object's keys sorted by their bytes."""
    match value:
        case Mapping():
            members = (f"{_text(key)}:{compact(value[key])}" for key in sorted(value, key=_order))
            return "{" + ",".join(members) + "}"
        case list() | tuple():
            return "[" + ",".join(compact(item) for item in value) + "]"
        case _:
            return _scalar(value)


def indented(value: Any) -> str:
    """Print with an indentation of two spaces, keys in their own order, empty objects and lists on one line."""
    return _indented(value, "", is_message=False)


def message(value: Mapping[str, Any]) -> str:
    """Print a protocol buffer message: like ``indented``, but a message that is set and empty takes three lines."""
    return _indented(value, "", is_message=True)


class struct(dict[str, Any]):  # noqa: N801 - a marker, named like the protocol buffer type
    """A free-form value (``google.protobuf.Struct``) inside a message. It has a separate layout."""


def _indented(value: Any, indent: str, *, is_message: bool) -> str:
    inner = indent + "  "
    match value:
        case struct():
            return _free_form(value, indent, 0)
        case Mapping():
            if not value:
                return f"{{\n\n{indent}}}" if is_message else "{}"
            members = (
                f"{inner}{_text(key)}: {_indented(item, inner, is_message=is_message)}" for key, item in value.items()
            )
            return "{\n" + ",\n".join(members) + f"\n{indent}}}"
        case list() | tuple():
            if not value:
                return "[]"
            items = (inner + _indented(item, inner, is_message=is_message) for item in value)
            return "[\n" + ",\n".join(items) + f"\n{indent}]"
        case _:
            return _scalar(value)


def _free_form(value: Any, indent: str, depth: int) -> str:
    """Print a value of a Struct; ``indent`` is two deeper than the closing brace of the message around the Struct."""
    base = indent[:-2] if depth == 0 else indent
    # The odd widths are those of the original's printer. The debug log shows them, so they are kept.
    inner, closing = base + " " * (6 * (depth + 1)), base + " " * (6 * depth + 4)
    match value:
        case Mapping():
            items = [f"{_text(key)}: {_free_form(value[key], base, depth + 1)}" for key in sorted(value, key=_order)]
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
        case int() if abs(value) <= _MAX_EXACT:
            return str(value)
        case int():
            return _float(_double(value))
        case float():
            return _float(value)
    raise TypeError(f"not a JSON value: {type(value).__name__}")


def _order(key: str) -> bytes:
    return valid_text(key).encode()


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text):  # nearly every text, many times per launch
        return f'"{text}"'
    quoted = json.dumps(valid_text(text), ensure_ascii=False).translate(_HTML)
    return _SHORT.sub(lambda match: _LONG.get(match[0], match[0]), quoted)


def _double(value: int) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("a number is out of the range of JSON's doubles") from error


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{value} has no place in JSON")
    shortest = repr(value).removesuffix(".0")
    if value == 0 or _SMALL <= abs(value) < _LARGE:
        # `repr` switches to an exponent earlier than Go, so write the digits out.
        return format(Decimal(shortest), "f")
    # Go writes the sign of the exponent, and no leading zeros: `1e+21`, `1e-7`.
    mantissa, _, exponent = shortest.partition("e")
    return f"{mantissa}e{int(exponent):+d}"
