"""Bodies of requests, read up to a limit whether or not the sender announces their length."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import HTTPException

from luci_scheduler.core.errors import MalformedError

__all__ = ["discard_body", "read_body"]

_CHUNK_BYTES = 1 << 16
_CUT_SHORT = "the request's body is shorter than announced"


def read_body(request: Any, max_bytes: int) -> bytes:
    """Read a request's body, with or without ``Content-Length``.

    At most ``max_bytes`` and one more byte are read: a result longer than ``max_bytes`` means that the body is too
    long.

    Raises:
        MalformedError: the body ends before the announced length.
    """
    body = bytearray()
    try:
        while len(body) <= max_bytes and (chunk := request.stream.read(min(max_bytes + 1 - len(body), _CHUNK_BYTES))):
            body += chunk
    except (HTTPException, OSError) as error:
        raise MalformedError(_CUT_SHORT) from error
    if len(body) < min(request.content_length or 0, max_bytes):
        raise MalformedError(_CUT_SHORT)
    return bytes(body)


def discard_body(request: Any) -> None:
    """Read the rest of a request's body and keep none of it.

    The framework would read the rest into memory, all at once, before it answers.
    """
    try:
        while request.stream.read(_CHUNK_BYTES):
            pass
    except (HTTPException, OSError):
        return
