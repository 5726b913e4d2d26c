"""An HTTP server in a thread: it writes no log, picks a free port, and closes its connections when stopped."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from emulator.loopback import OwnSiteOnly
from luci_scheduler.core.foreign_text import escaped

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["LocalServer"]

_POLL_SECONDS = 0.02


class _Handler(WSGIRequestHandler):
    """Handles requests without writing to the terminal."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug gives the name
        """Write nothing; the servers keep a request log."""


class _Server(ThreadedWSGIServer):
    """Tracks its open connections, so that stopping it also closes those of running requests and idle clients."""

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

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002, ARG002 - werkzeug gives the names
        """Write a fault of the application to standard error; its text may hold foreign text."""
        sys.stderr.write(escaped(f"{message % args if args else message}\n", lines=True))

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver gives the names
        """Write what failed outside the application, unless the client is gone."""
        if not isinstance(sys.exception(), OSError):
            self.log("error", "%s", traceback.format_exc())

    def cut_connections(self) -> None:
        """Close all open connections."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class LocalServer:
    """Serves a WSGI application from a thread.

    Port 0 picks a free port; `url` contains it once the server runs. All HTTP servers of the local cloud in this
    process use this class, so pages of other sites cannot reach any of them.
    """

    def __init__(self, app: WSGIApplication, host: str, port: int) -> None:
        self._app = OwnSiteOnly(app)
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind the port and serve. Connections are accepted when this returns.

        Raises:
            OSError: the port is taken.
            RuntimeError: the server runs already.
        """
        if self._server is not None:
            raise RuntimeError("the server is running already")
        self._server = _Server(self._host, self._port, self._app)
        self._port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close all connections; a no-op if the server does not run.

        A later `start` uses the same port.
        """
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.cut_connections()
        self._server = self._thread = None

    @property
    def netloc(self) -> str:
        """``host:port``.

        Raises:
            RuntimeError: the port is not known yet.
        """
        if self._port == 0:
            raise RuntimeError("the server has not been started, so its port is not known")
        return f"{self._host}:{self._port}"

    @property
    def url(self) -> str:
        """``http://host:port``, without a trailing slash."""
        return f"http://{self.netloc}"
