"""Responses of the pages, and the headers that all of them carry."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["PageError", "PageResponse", "file_response", "html_response", "json_response", "redirect", "unchanged"]

PageResponse = tuple[str, int, dict[str, str]]
"""Body, status code, headers."""

_HEADERS = {
    # Pages use only our own style sheet, script and icon. The script may call this host only. Nothing is inline or
    # framed.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class PageError(Exception):
    """A page or an action is refused or has failed; the text is for people."""

    def __init__(self, code: int, message: str, hint: str | None = None) -> None:
        """Make the error.

        Args:
            code: the HTTP status.
            message: the text.
            hint: the visitor's next step; None: the default hint for the status.
        """
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def html_response(html: str, status: int) -> PageResponse:
    """Return a page."""
    return _response(html, status, {"Content-Type": "text/html; charset=utf-8"})


def json_response(document: Any, status: int) -> PageResponse:
    """Return a JSON document."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return _response(text, status, {"Content-Type": "application/json; charset=utf-8"})


def file_response(text: str, content_type: str) -> PageResponse:
    """Return a static file. Its address depends on its content, so browsers may cache it forever."""
    headers = {"Content-Type": content_type, "Cache-Control": "public, max-age=31536000, immutable"}
    return _response(text, 200, headers)


def redirect(to: str) -> PageResponse:
    """Redirect the browser after a successful action (302, the original's code; browsers then send a GET)."""
    return _response("", 302, {"Location": to, "Content-Type": "text/plain; charset=utf-8"})


def unchanged() -> PageResponse:
    """Answer a request for a page whose visitor has the present version: 204, without a body."""
    return _response("", 204, {})


def _response(body: str, status: int, headers: dict[str, str]) -> PageResponse:
    return body, status, {**_HEADERS, **headers}
