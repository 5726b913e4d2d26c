"""Bodies of requests: so many bytes are read, however the sender transmits them. The rest is thrown away."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import HTTPException

from luci_scheduler.core.errors import MalformedError

__all__ = ["discard_body", "read_body"]

_PIECE = 1 << 16
_CUT_SHORT = "the request's body is shorter than announced"


def read_body(request: Any, max_bytes: int) -> bytes:
    """Read a request's body, with or without ``Content-Length``, up to ``max_bytes`` and one more byte.

    Raises:
        MalformedError: the sender stopped before the announced end.
    """
    body = bytearray()
    try:
        while len(body) <= max_bytes and (piece := request.stream.read(min(max_bytes + 1 - len(body), _PIECE))):
            body += piece
    except (HTTPException, OSError) as error:
        raise MalformedError(_CUT_SHORT) from error
    if len(body) < min(request.content_length or 0, max_bytes):
        raise MalformedError(_CUT_SHORT)
    return bytes(body)


def discard_body(request: Any) -> None:
    """Read the rest of a request's body and keep none of it.

    The framework reads a whole body into memory before it answers. Nothing is left for it after this.
    """
    try:
        while request.stream.read(_PIECE):
            pass
    except (HTTPException, OSError):
        return
