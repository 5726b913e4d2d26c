"""JSON that a server sent: every client reads it in one way, and every fault is one error."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from luci_scheduler.core.go_text import valid_text

__all__ = ["MAX_DEPTH", "read_object"]

MAX_DEPTH = 100
"""Objects and lists inside each other; the limit of protocol buffers' own JSON parsers."""

_GUARD = b")]}'"
_MAX_DIGITS = 400  # of a whole number; a double has at most 309
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def read_object(body: bytes, *, needs_guard: bool = False, repair: bool = True) -> dict[str, Any]:
    """Read a JSON object, with or without the guard line ``)]}'`` in front of it.

    Bytes that are not UTF-8 and half characters become U+FFFD, as in Go. Whole numbers keep all their digits.

    Args:
        body: the whole answer.
        needs_guard: whether the guard line has to be there.
        repair: whether bytes that are not UTF-8 are replaced; otherwise they are an error, as where a text proves an identity.

    Raises:
        ValueError: the answer cannot be read; the text says why and quotes nothing of it.
    """
    if needs_guard and not body.startswith(_GUARD):
        raise ValueError("the answer lacks the guard line")
    try:
        text = body.removeprefix(_GUARD).decode(errors="replace" if repair else "strict")
        document = json.loads(text, parse_constant=_no_number, parse_float=_float, parse_int=_int)
    except UnicodeDecodeError as error:
        raise ValueError("the answer is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError("the answer is not JSON") from error
    except RecursionError as error:
        raise _too_deep() from error
    if not isinstance(document, dict):
        raise ValueError("the answer is not a JSON object")  # noqa: TRY004 - callers expect one error
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(document)
    return _whole(document) if _HALF.search(text) else document


def _check_depth(document: Mapping[str, Any]) -> None:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [child for part in level for child in _children(part)]
        if not level:
            return
    raise _too_deep()


def _children(part: Any) -> list[Any]:
    parts = part.values() if isinstance(part, dict) else part
    return [child for child in parts if isinstance(child, dict | list)]


def _whole(value: Any) -> Any:
    """Return a value with the half characters in its texts replaced; it is known not to be deep."""
    match value:
        case str():
            return valid_text(value)
        case dict():
            return {valid_text(name): _whole(part) for name, part in value.items()}
        case list():
            return [_whole(part) for part in value]
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"the answer holds {name}, which is no number of JSON")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _too_large()
    return number


def _int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _too_large()
    number = int(text)
    try:
        float(number)
    except OverflowError as error:
        raise _too_large() from error
    return number


def _too_large() -> ValueError:
    return ValueError("the answer holds a number that is out of range")


def _too_deep() -> ValueError:
    return ValueError(f"the answer is nested more than {MAX_DEPTH} levels deep")
