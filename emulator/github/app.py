"""The GitHub server's WSGI application."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request

from emulator.github.errors import ApiError, error_response
from emulator.github.service import GitHubService
from emulator.gitiles.smart_http import split_service

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["GitHubApp"]


class GitHubApp:
    """Serves the API, git clients, pages and the control endpoint."""

    def __init__(self, service: GitHubService) -> None:
        self._service = service

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = Request(environ)
        if service := split_service(request.path):
            return self._service.serve_git(request, *service)(environ, start_response)
        return error_response(ApiError(404))(environ, start_response)
