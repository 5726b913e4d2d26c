"""How a server compresses a response, cuts a connection, or breaks off a body."""

from __future__ import annotations

import contextlib
import gzip
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["compress", "cut_after", "cut_connection", "truncated"]

_GZIP_FROM = 1024


def compress(request: Request, response: Response) -> None:
    """Compress a response of more than 1024 bytes if the client accepts gzip."""
    if response.is_streamed or request.accept_encodings.quality("gzip") <= 0:
        return
    body = response.get_data()
    if len(body) > _GZIP_FROM:
        response.set_data(gzip.compress(body))
        response.headers["Content-Encoding"] = "gzip"


def cut_connection(environ: WSGIEnvironment) -> NoReturn:
    """Close a request's connection without a response."""
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("cut on purpose")


def cut_after(environ: WSGIEnvironment, body: bytes) -> Iterator[bytes]:
    """Yield the first half of a body, then close the connection."""
    yield body[: len(body) // 2]
    cut_connection(environ)


def truncated(environ: WSGIEnvironment, response: Response) -> Response:
    """Return a response that announces its whole length, but ends halfway because the connection is cut."""
    body = response.get_data()
    headers = response.headers.copy()
    headers["Content-Length"] = str(len(body))
    return Response(cut_after(environ, body), response.status_code, headers)
