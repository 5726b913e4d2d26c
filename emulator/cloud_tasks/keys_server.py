"""The HTTP server that publishes the public keys."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn

from emulator.cloud_tasks.oidc import TokenIssuer

__all__ = ["KeysServer"]


class _Server(ThreadingMixIn, HTTPServer):
    # Threads of requests are joined at the end; the handler's timeout bounds how long that can take.
    daemon_threads = False


class KeysServer:
    """Serves ``/oauth2/v3/certs`` (JWK set) and ``/oauth2/v1/certs`` (certificates in PEM by key ID)."""

    def __init__(self, issuer: TokenIssuer, host: str, port: int) -> None:
        bodies = {
            "/oauth2/v3/certs": json.dumps(issuer.jwks()).encode(),
            "/oauth2/v1/certs": json.dumps(issuer.certificates()).encode(),
        }

        class Handler(BaseHTTPRequestHandler):
            timeout = 2

            def do_GET(self) -> None:
                body = bodies.get(self.path.partition("?")[0])
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                # The key is new at every start: whoever keeps it for longer refuses good tokens.
                self.send_header("Cache-Control", "no-cache")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Say nothing: one line per verification would drown the rest."""

        self._server = _Server((host, port), Handler)
        self._host = host
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="cloud-tasks-keys")

    @property
    def address(self) -> str:
        """The server's ``http://host:port``."""
        return f"http://{self._host}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self.close()
        self._thread.join()

    def close(self) -> None:
        """Free the port of a server that was never started."""
        self._server.server_close()
