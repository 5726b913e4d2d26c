"""Untrusted input: the errors that reading it raises, base64, and texts that can be stored. Pure.

`foreign_json` reads JSON.
"""

from __future__ import annotations

import base64

__all__ = ["MAX_VALUES", "PARSER_ERRORS", "check_values", "decode_base64", "storable"]

PARSER_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
"""All errors that Python raises when it reads a value of an unexpected type, size, depth or encoding."""

MAX_VALUES = 500_000
"""The JSON values of one message or answer. Ten megabytes hold up to five million values, each takes up to 200 bytes of
memory, and a function has 256 MiB. The 50,000 refs of a Gerrit event of ten megabytes take 200,000 values."""


def check_values(data: bytes) -> None:
    """Check, before a JSON document is parsed, that it has at most `MAX_VALUES` values.

    Commas and brackets inside texts count as well, so the check errs on the safe side.

    Raises:
        ValueError: it may have more.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES} values")


def decode_base64(text: str) -> bytes:
    """Decode base64 like Go: line ends inside the text are ignored, any other foreign character is an error.

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
