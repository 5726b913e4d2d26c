"""The style sheet, the script and the icon of the pages."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from luci_scheduler.web.response import PageResponse, file_response

__all__ = ["static_address", "static_file"]

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def static_file(name: str) -> PageResponse | None:
    """Return a static file, or None if it does not exist."""
    return file_response(_text(name), _TYPES[name]) if name in _TYPES else None


def static_address(name: str) -> str:
    """Return the address of a static file; it contains a hash of the content."""
    return f"/assets/{name}?v={hashlib.sha256(_text(name).encode()).hexdigest()[:12]}"


@cache
def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
