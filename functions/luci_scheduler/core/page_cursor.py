"""Cursors of listed invocations, in the original's encoding: where the next page begins."""

from __future__ import annotations

import base64
import binascii

from luci_scheduler.core.identifiers import InvocationId

__all__ = ["BadCursorError", "decode_cursor", "encode_cursor"]

_TAG = 0x10  # protobuf: field 2, a varint
_MAX_BYTES = 11  # the tag and ten bytes of a 64-bit varint
_MAX_ID = (1 << 63) - 1


class BadCursorError(ValueError):
    """The text is not a cursor."""


def encode_cursor(last: InvocationId) -> str:
    """Return the cursor of the page after ``last``; empty for 0, the last ID of all."""
    if not last:
        return ""
    encoded, rest = bytearray([_TAG]), int(last)
    while rest > 0x7F:  # noqa: PLR2004 - seven bits a byte
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> InvocationId | None:
    """Return the last invocation of the previous page; None for the empty cursor, which means the first page.

    Raises:
        BadCursorError: ``encode_cursor`` does not make such a text.
    """
    if not cursor:
        return None
    try:
        encoded = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadCursorError(f"bad cursor: {error}") from error
    # A varint has the low bits first, seven in each byte.
    value = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded[1 : _MAX_BYTES + 1]))
    # Encoding it again refuses every other spelling: trailing bytes, padding bits, an overlong varint.
    if not 0 < value <= _MAX_ID or encode_cursor(InvocationId(value)) != cursor:
        raise BadCursorError("bad cursor: it does not name an invocation")
    return InvocationId(value)
