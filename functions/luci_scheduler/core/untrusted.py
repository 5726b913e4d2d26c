"""Input that a stranger may have written: the errors that reading it raises, base64, and texts that can be stored. Pure.

`foreign_json` reads JSON.
"""

from __future__ import annotations

import base64

__all__ = ["PARSER_ERRORS", "decode_base64", "storable"]

PARSER_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
"""Everything that reading a value of an unexpected type, size, depth or encoding raises in Python."""


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
