"""Errors of GitHub's REST API: statuses, texts and headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from werkzeug.wrappers import Response

__all__ = ["JSON", "ApiError", "bad_credentials", "error_response", "html_failure", "not_accessible"]

JSON = "application/json; charset=utf-8"
_DOCUMENTATION = "https://docs.github.com/rest"
_PAGE = "<!DOCTYPE html><html><title>Unicorn! &middot; GitHub</title></html>"
_SERVER_ERROR = 500
_TEXTS = {
    400: "Bad Request",
    401: "Bad credentials",
    403: "Resource not accessible by integration",
    404: "Not Found",
    409: "Git Repository is empty.",
    422: "Validation Failed",
    429: "You have exceeded a secondary rate limit.",
    451: "Repository access blocked",
}
_LEGAL = {"reason": "dmca", "created_at": "2026-01-05T10:00:00Z", "html_url": "https://github.com/github/dmca"}


class ApiError(Exception):
    """A failed request of the API.

    Args:
        status: the HTTP status.
        message: the member ``message``; by default the usual text of the status.
        headers: further headers.
        documentation: the member ``documentation_url``.
        more: further members of the body.
    """

    def __init__(
        self,
        status: int,
        message: str = "",
        headers: Mapping[str, str] | None = None,
        documentation: str = _DOCUMENTATION,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = message or _TEXTS.get(status, "Server Error")
        super().__init__(self.message)
        self.status = status
        self.headers = dict(headers or {})
        self.documentation = documentation
        self.more = dict(more or {})


def bad_credentials() -> ApiError:
    """Return the error about a token that is unknown, expired or revoked."""
    return ApiError(401)


def not_accessible(permission: str) -> ApiError:
    """Return the error about a token without a permission, such as ``statuses=write``."""
    return ApiError(403, headers={"X-Accepted-GitHub-Permissions": permission})


def error_response(error: ApiError) -> Response:
    """Return the response to a failed request. Failures of the service itself have nothing but a text."""
    body: dict[str, Any] = {"message": error.message}
    if error.status == 451:  # noqa: PLR2004 - unavailable for legal reasons: another shape
        body["block"] = _LEGAL
    elif error.status < _SERVER_ERROR:
        body |= {**error.more, "documentation_url": error.documentation, "status": str(error.status)}
    return Response(json.dumps(body), error.status, error.headers, content_type=JSON)


def html_failure(status: int) -> Response:
    """Return a page instead of JSON, as an overloaded front end sends it."""
    return Response(_PAGE, status, content_type="text/html; charset=utf-8")
