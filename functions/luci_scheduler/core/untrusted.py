"""Reading input that anybody may have written: every parser fails in one way. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["PARSER_ERRORS", "read_json"]

PARSER_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
"""Everything that reading a value of an unexpected type, size, depth or encoding raises in Python."""

_MAX_INTEGER = 1 << 63  # 64-bit integers are the largest that any member holds


def read_json(data: bytes) -> Any:
    """Return a JSON document that the store and the queue can hold: UTF-8 throughout, finite numbers, 64-bit integers.

    Raises:
        ValueError: it is not such a document; nested too deeply; or it holds half of a surrogate pair.
    """
    try:
        document = json.loads(data.decode(), parse_constant=_refuse, parse_int=_integer, parse_float=_float)
        # Escapes may stand for half of a surrogate pair, which is no text: nothing can store or send it.
        json.dumps(document, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return document


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
