"""Reading input that anybody may have written: every parser fails in one way. Pure."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from typing import Any

__all__ = ["MAX_VALUES", "PARSER_ERRORS", "check_texts", "check_values", "decode_base64", "read_json", "storable"]

PARSER_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
"""Everything that reading a value of an unexpected type, size, depth or encoding raises in Python."""

_MAX_DEPTH = 100
"""Levels: what protobuf's parsers allow. Deeper documents could be read here and not be written by a later function."""

_MAX_INTEGER = 1 << 63  # 64-bit integers are the largest that any member holds


MAX_VALUES = 500_000
"""Of one message of Pub/Sub. Ten megabytes hold up to five million values, and each takes up to 200 bytes in memory, of which a
function has 512 MB. The 50,000 refs that a Gerrit event of ten megabytes names take 300,000."""


def check_values(data: bytes) -> None:
    """Check that a JSON document has at most `MAX_VALUES` values, before it is read; commas and brackets in texts count, too.

    Raises:
        ValueError: it may have more.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES} values")


def read_json(data: bytes) -> Any:
    """Return a JSON document that the store and the queue can hold: UTF-8 throughout, finite numbers, 64-bit integers.

    Raises:
        ValueError: it is not such a document; nested too deeply; or it holds half of a surrogate pair.
    """
    try:
        document = json.loads(data.decode(), parse_constant=_refuse, parse_int=_integer, parse_float=_float)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_depth(document)
    check_texts(document)
    return document


def check_texts(document: Any) -> None:
    """Check that every text in a JSON document can be encoded: an escape may stand for half of a surrogate pair.

    Nothing can store or send such a text, and protobuf's parser fails on it with an error of its own (``SystemError``).

    Raises:
        ValueError: a text cannot be encoded.
    """
    json.dumps(document, ensure_ascii=False).encode()


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(_MAX_DEPTH):
        level = [item for value in level if isinstance(value, dict | list) for item in _items(value)]
        if not level:
            return
    raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def _integer(text: str) -> int:
    value = int(text)
    if not -_MAX_INTEGER <= value < _MAX_INTEGER:
        raise ValueError("an integer has more than 64 bits")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def decode_base64(text: str) -> bytes:
    """Decode base64 as Go does: line ends inside the text do not count, any other foreign character is an error.

    Raises:
        ValueError: the text is not base64.
    """
    text = text.replace("\r", "").replace("\n", "")
    if len(text) % 4:
        raise ValueError("base64 comes in groups of four characters")
    return base64.b64decode(text, validate=True)


def storable(text: str) -> str:
    """Return a text that can be encoded: each half of a surrogate pair becomes its escape."""
    return text.encode(errors="backslashreplace").decode()
