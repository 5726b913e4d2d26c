"""Passes a request on to an HTTP server on this machine, within a total time and with bounded sizes."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

from emulator.front_end.exchange import ANSWERED_BY, Answer, Message, page, without

__all__ = ["MAX_BODY", "Forward"]

MAX_BODY = 32 << 20
"""Bytes of a request or an answer: Cloud Run's limit for HTTP/1."""

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})
_LENGTH = "content-length"


@dataclass(frozen=True, slots=True)
class Forward:
    """Sends requests to the server at ``url``, which may answer for ``seconds`` in total, up to the last byte.

    Each answer has the header `ANSWERED_BY`, unless the server is another part of the front end and set it.

    Attributes:
        url: the server's ``http://host:port``.
        seconds: the limit, as the timeout of the service.
        answered_by: names the server.
    """

    url: str
    seconds: float
    answered_by: str = "function"

    def __call__(self, message: Message) -> Answer:
        """Return the server's answer; 504 if it takes too long, 503 if it breaks off, 500 if it is too large."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=self.seconds)
        try:
            connection.connect()
            with _deadline(connection.sock, self.seconds) as has_passed:
                try:
                    return self._exchange(connection, message)
                except (OSError, http.client.HTTPException):
                    # The end of a connection has the same error whether the deadline or the server cut it.
                    if has_passed.is_set():
                        raise TimeoutError from None
                    raise
        except TimeoutError:
            return page(504, "Gateway timeout", "The upstream request timed out.", "cloud run")
        except (OSError, http.client.HTTPException):
            return page(503, "Service unavailable", "The container did not answer.", "cloud run")
        finally:
            connection.close()

    def _exchange(self, connection: http.client.HTTPConnection, message: Message) -> Answer:
        connection.putrequest(message.method, message.target, skip_host=True, skip_accept_encoding=True)
        for name, value in without(message.headers, {*_HOP_BY_HOP, _LENGTH}).items():
            connection.putheader(name, value)
        if message.body or message.method not in ("GET", "HEAD"):
            connection.putheader("Content-Length", str(len(message.body)))
        connection.endheaders(message.body)
        response = connection.getresponse()
        body = response.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            return page(500, "Server error", "The answer is too large.", "cloud run")
        if response.length:
            raise http.client.IncompleteRead(body)
        headers = Headers(response.getheaders())
        headers.setdefault(ANSWERED_BY, self.answered_by)
        # The length of an answer to HEAD is that of the body that GET would get.
        dropped = _HOP_BY_HOP if message.method == "HEAD" else _HOP_BY_HOP | {_LENGTH}
        return Answer(response.status, without(headers, dropped), body)


@contextmanager
def _deadline(connection: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Cut a connection when the block takes longer than ``seconds``; the event says whether it was cut.

    A socket's own timeout restarts with each byte, so a slow server could take forever.
    """
    passed = threading.Event()

    def cut() -> None:
        passed.set()
        with contextlib.suppress(OSError):  # the server may have closed it
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield passed
    finally:
        timer.cancel()
