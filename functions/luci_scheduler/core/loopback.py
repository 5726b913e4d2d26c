"""Requests to servers on a developer's machine: which of them a page of another site may have sent.

A web page has two ways to reach a server on loopback. It can send requests across sites, which a browser marks with
``Origin`` or ``Sec-Fetch-Site``. Or it can give its own host name the address 127.0.0.1 (DNS rebinding); then ``Host``
holds that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["foreign_request"]

_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_OWN_SITES = ("same-origin", "none")  # "none": the user typed the address or opened a bookmark
_READING = ("GET", "HEAD")


def foreign_request(method: str, header: Callable[[str], str | None]) -> str:
    """Return why a request may come from a page of another site; an empty text if it cannot.

    A link on another site that the user follows is allowed: it only reads, and the other site never sees the answer.

    Args:
        method: the HTTP method in upper case.
        header: from a header's name to its value, None if the request lacks it. Programs send none of the browser's
            headers and pass.
    """
    host, origin = header("Host") or "", header("Origin")
    if host and not _LOOPBACK.fullmatch(host):
        return "the local cloud answers to localhost, 127.0.0.1 and [::1] only; open the page under one of these names"
    if origin is not None and origin.lower() != f"http://{host}".lower():
        return "the local cloud does not answer pages of other sites"
    site = header("Sec-Fetch-Site")
    if site is not None and site not in _OWN_SITES and not _follows_a_link(method, header):
        return "the local cloud does not answer requests that a page of another site started"
    return ""


def _follows_a_link(method: str, header: Callable[[str], str | None]) -> bool:
    """Return whether a browser opens a whole page, in a window and not in a frame."""
    is_page = header("Sec-Fetch-Mode") == "navigate" and header("Sec-Fetch-Dest") == "document"
    return method in _READING and is_page
