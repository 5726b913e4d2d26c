"""An HTTP server of one's own in a thread: quiet, on a free port, and gone at once when stopped."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request, Response

from emulator.loopback import OwnSiteOnly

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

__all__ = ["LocalServer", "compress", "control_body", "cut_after", "cut_connection"]

_POLL_SECONDS = 0.02
_GZIP_FROM = 1024


def control_body(request: Request) -> Any:
    """Return the JSON of a request to a control endpoint; an empty object if the request has no body.

    Raises:
        werkzeug.exceptions.UnsupportedMediaType: the body is not declared to be JSON.
    """
    if not request.get_data():
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("the body must be application/json")
    return request.get_json()


class _Handler(WSGIRequestHandler):
    """Answers without writing to the terminal."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name is given
        """Say nothing; the servers keep a request log."""


class _Server(ThreadedWSGIServer):
    """Knows its open connections, so that stopping it also ends those kept alive."""

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        super().__init__(host, port, app, handler=_Handler)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """Close every connection that is open."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class LocalServer:
    """Serves a WSGI application from a thread. Port 0 picks a free port, which `url` contains once the server runs.

    Every HTTP server of the local cloud in this process is one of these, so none is open to pages of other sites.
    """

    def __init__(self, app: WSGIApplication, host: str, port: int) -> None:
        self._app = OwnSiteOnly(app)
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind and serve; when this returns connections are accepted. OSError if the port is taken."""
        if self._server is not None:
            raise RuntimeError("the server is running already")
        self._server = _Server(self._host, self._port, self._app)
        self._port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close all connections; again, or before `start`, it does nothing. The port stays the same."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.cut_connections()
        self._server = self._thread = None

    @property
    def netloc(self) -> str:
        """``host:port``; RuntimeError if the port is not known yet."""
        if self._port == 0:
            raise RuntimeError("the server has not been started, so its port is not known")
        return f"{self._host}:{self._port}"

    @property
    def url(self) -> str:
        """``http://host:port``, without a slash at the end."""
        return f"http://{self.netloc}"


def compress(request: Request, response: Response) -> None:
    """Compress an answer of more than 1024 bytes for a client that can read it."""
    if response.is_streamed or request.accept_encodings.quality("gzip") <= 0:
        return
    body = response.get_data()
    if len(body) > _GZIP_FROM:
        response.set_data(gzip.compress(body))
        response.headers["Content-Encoding"] = "gzip"


def cut_connection(environ: WSGIEnvironment) -> NoReturn:
    """Close a request's connection without an answer."""
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("cut on purpose")


def cut_after(environ: WSGIEnvironment, body: bytes) -> Iterator[bytes]:
    """Yield the first half of a body, then close the connection."""
    yield body[: len(body) // 2]
    cut_connection(environ)
