"""The check of a URL in a task block, close to Go's URL parser."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from luci_scheduler.core.go_text import quote

__all__ = ["url_problem"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def url_problem(url: str, name: str) -> str:
    """Return why a text is not an absolute URL, in the original's words; empty if it is one.

    ``name`` is the original's name of the field, which an error about a missing value quotes.
    """
    if not url:
        return f"field '{name}' is required"
    if fault := _fault(url):
        return f"invalid URL {quote(url)}: {fault}"
    return "" if _SCHEME.match(url) else f"not an absolute url: {quote(url)}"


def _fault(url: str) -> str:
    """Return why Go's URL parser would refuse a text; empty if it would not."""
    if not url.isprintable():
        return "invalid control character in URL"
    path = url.partition("?")[0].partition("#")[0]
    if _BAD_ESCAPE.search(path):
        return "invalid URL escape"
    if path.startswith(":"):
        return "missing protocol scheme"
    if not _SCHEME.match(path) and ":" in path.partition("/")[0]:
        return "first path segment in URL cannot contain colon"
    return _authority_fault(url)


def _authority_fault(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading the port validates it
    except ValueError as error:
        return str(error)
    return "invalid character in host name" if any(character in parts.netloc for character in ' <>"') else ""
