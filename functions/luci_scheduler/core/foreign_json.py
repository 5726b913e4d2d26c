"""JSON from another party: a reader for servers' answers, which repairs, and one for requests, which refuses."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from luci_scheduler.core.go_text import valid_text

__all__ = ["MAX_DEPTH", "read_answer", "read_object", "read_value"]

MAX_DEPTH = 100
"""The limit of nested objects and lists, the same as in protocol buffers' own JSON parsers."""

_GUARD = b")]}'"
_MAX_DIGITS = 400  # of a whole number; a double has at most 309
_MAX_INTEGER = 1 << 63  # no member of a request holds more than 64 bits
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_answer(body: bytes, *, needs_guard: bool = False) -> dict[str, Any]:
    """Read the JSON object in a server's answer, with or without a leading guard line ``)]}'``.

    Bytes that are not UTF-8 and halves of surrogate pairs become U+FFFD, as in Go. Whole numbers keep all their digits.

    Raises:
        ValueError: the answer cannot be read. The text gives the reason and quotes nothing from the answer.
    """
    if needs_guard and not body.startswith(_GUARD):
        raise ValueError("the answer lacks the guard line")
    document = read_value(body.removeprefix(_GUARD))
    if not isinstance(document, dict):
        raise ValueError("the answer is not a JSON object")  # noqa: TRY004 - callers expect one error
    return document


def read_value(body: bytes) -> Any:
    """Read the JSON value in a server's answer, for example a list, with the repairs of `read_answer`.

    Raises:
        ValueError: the answer cannot be read. The text gives the reason and quotes nothing from the answer.
    """
    text = body.decode(errors="replace")
    try:
        document = _load(text, _integer)
    except ValueError as error:
        raise ValueError(f"the answer {error}") from error
    return _repaired(document) if _SURROGATE.search(text) else document


def read_object(data: bytes, *, wide_integers: bool = False) -> dict[str, Any]:
    """Read a JSON object that the store and the queue can hold: valid UTF-8, finite numbers, 64-bit integers.

    It also reads answers that prove an identity, where a repair could turn two names into one.

    Args:
        data: the object.
        wide_integers: accept integers of more than 64 bits, as for messages of protocol buffers, whose numbers may be
            doubles.

    Raises:
        ValueError: the data is not such an object. The text gives the reason and quotes nothing from the data.
    """
    try:
        text = data.decode()
        document = _object(_load(text, _integer if wide_integers else _integer_of_64_bits))
        if _SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode()  # half of a surrogate pair can be neither stored nor sent
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of a surrogate pair") from error
    except ValueError as error:
        raise ValueError(f"it {error}") from error
    return document


def _load(text: str, read_integer: Callable[[str], int]) -> Any:
    """Parse a text. An error's text is a predicate, to which the caller adds the subject."""
    try:
        document = json.loads(text, parse_constant=_no_number, parse_float=_float, parse_int=read_integer)
    except json.JSONDecodeError as error:
        raise ValueError("is not JSON") from error
    except RecursionError as error:
        raise _too_deep() from error
    # The count is an upper bound of the depth, and spares most documents the walk.
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(document)
    return document


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - callers expect one error
    return document


def _check_depth(document: Any) -> None:
    level = _containers([document])
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [child for part in level for child in _containers(_children(part))]
    if level:
        raise _too_deep()


def _children(part: Mapping[str, Any] | list[Any]) -> list[Any]:
    return list(part.values()) if isinstance(part, Mapping) else part


def _containers(values: list[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


def _repaired(value: Any) -> Any:
    """Return a value with all halves of surrogate pairs replaced. Its depth has been checked."""
    match value:
        case str():
            return valid_text(value)
        case dict():
            return {valid_text(name): _repaired(part) for name, part in value.items()}
        case list():
            return [_repaired(part) for part in value]
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _out_of_range()
    return number


def _integer(text: str) -> int:
    """Read an integer that a double can approximate."""
    # Python's conversion takes time quadratic in the digits.
    if len(text) > _MAX_DIGITS:
        raise _out_of_range()
    number = int(text)
    try:
        float(number)
    except OverflowError as error:
        raise _out_of_range() from error
    return number


def _integer_of_64_bits(text: str) -> int:
    number = _integer(text)
    if not -_MAX_INTEGER <= number < _MAX_INTEGER:
        raise ValueError("holds an integer of more than 64 bits")
    return number


def _out_of_range() -> ValueError:
    return ValueError("holds a number that is out of range")


def _too_deep() -> ValueError:
    return ValueError(f"is nested more than {MAX_DEPTH} levels deep")
