"""An entrance: a port on which the front end takes requests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from werkzeug.datastructures import EnvironHeaders, Headers
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from emulator.front_end.exchange import Answer, Handler, Message, page
from emulator.front_end.forward import MAX_BODY
from emulator.serving.local_server import LocalServer
from emulator.tcp_ports import HOST

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Entrance"]

_REQUEST_SECONDS = 60.0
"""Time that a client has to send the body of its request."""


class Entrance:
    """Serves a handler on a port of 127.0.0.1, from `start` to `stop`."""

    def __init__(self, handler: Handler, port: int, *, request_seconds: float = _REQUEST_SECONDS) -> None:
        self._handler = handler
        self._seconds = request_seconds
        self._server = LocalServer(self._serve, HOST, port)

    def start(self) -> None:
        """Start serving.

        Raises:
            OSError: the port is taken.
        """
        self._server.start()

    def stop(self) -> None:
        """Stop serving; may be repeated."""
        self._server.stop()

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = self._answer(environ)
        response = Response([answer.body], answer.status, answer.headers)
        # As the function sent it: werkzeug would make the address of a redirect complete.
        response.autocorrect_location_header = False
        response.automatically_set_content_length = "Content-Length" not in answer.headers
        return response(environ, start_response)

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        request = Request(environ)
        request.max_content_length = MAX_BODY
        try:
            with _reading_within(environ, self._seconds):
                body = request.get_data()
        except RequestEntityTooLarge:
            return page(413, "Request too large", "A request has at most 32 MiB.", "cloud run")
        except (ClientDisconnected, OSError):
            return page(408, "Request timeout", "The request did not arrive in time.", "cloud run")
        target = environ.get("REQUEST_URI") or request.full_path.rstrip("?")
        headers = Headers(EnvironHeaders(environ).items())
        return self._handler(Message(request.method, target, headers, body, request.remote_addr or HOST))


@contextmanager
def _reading_within(environ: WSGIEnvironment, seconds: float) -> Iterator[None]:
    """Stop reading from the client after some seconds, however slowly its bytes arrive."""
    connection = environ.get("werkzeug.socket")

    def cut() -> None:
        if connection is not None:
            with contextlib.suppress(OSError):  # the client may have gone
                connection.shutdown(socket.SHUT_RD)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
