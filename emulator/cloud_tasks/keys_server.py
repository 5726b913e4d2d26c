"""The HTTP server that publishes the public keys."""

from __future__ import annotations

import json

from werkzeug.wrappers import Request, Response

from emulator.cloud_tasks.oidc import TokenIssuer
from emulator.serving.local_server import LocalServer

__all__ = ["KeysServer"]


class KeysServer:
    """Serves ``/oauth2/v3/certs`` (JWK set) and ``/oauth2/v1/certs`` (certificates in PEM by key ID)."""

    def __init__(self, issuer: TokenIssuer, host: str, port: int) -> None:
        self._bodies = {
            "/oauth2/v3/certs": json.dumps(issuer.jwks()),
            "/oauth2/v1/certs": json.dumps(issuer.certificates()),
        }
        self._server = LocalServer(Request.application(self._respond), host, port)

    @property
    def address(self) -> str:
        """The server's ``http://host:port``, known once it was started."""
        return self._server.url

    def start(self) -> None:
        """Start serving.

        Raises:
            OSError: the port is taken.
        """
        self._server.start()

    def stop(self) -> None:
        """Stop serving and release the port."""
        self._server.stop()

    def _respond(self, request: Request) -> Response:
        body = self._bodies.get(request.path)
        response = Response(body or "", 200 if body else 404, content_type="application/json; charset=UTF-8")
        # Each start creates a new key, so a client with a cached key would refuse good tokens.
        response.headers["Cache-Control"] = "no-cache"
        return response
