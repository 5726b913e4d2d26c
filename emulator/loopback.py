"""The guard around each HTTP server of the local cloud, which keeps pages of other sites out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import EnvironHeaders, Headers
from werkzeug.wrappers import Response

from luci_scheduler.core.loopback import foreign_request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["OwnSiteOnly"]

_EACH_ANSWER = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_EACH_PAGE = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
}


class OwnSiteOnly:
    """A WSGI application that guards another one.

    It answers 403 with ``{"error": "..."}`` to a request that a page of another site may have sent, without calling the
    inner application. It adds protective headers to every answer, unless the inner application sets them.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        reason = foreign_request(environ["REQUEST_METHOD"], EnvironHeaders(environ).get)
        app = _refusal(reason) if reason else self._app

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            return start_response(status, _protected(headers), exc_info)

        return app(environ, start)


def _refusal(reason: str) -> Response:
    return Response(f"{json.dumps({'error': reason})}\n", 403, content_type="application/json")


def _protected(given: list[tuple[str, str]]) -> list[tuple[str, str]]:
    headers = Headers(given)
    is_page = headers.get("Content-Type", "").startswith("text/html")
    for name, value in {**_EACH_ANSWER, **(_EACH_PAGE if is_page else {})}.items():
        headers.setdefault(name, value)
    return headers.to_wsgi_list()
