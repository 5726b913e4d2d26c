"""Requests and answers as the parts of the front end pass them on."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from werkzeug.datastructures import Headers

__all__ = ["ANSWERED_BY", "Answer", "Handler", "Message", "page", "with_headers", "without"]

ANSWERED_BY = "X-Local-Answered-By"
"""The header of each answer that names the part that made it: ``cloud run``, ``iap`` or ``function``. The platform has
no such header. It exists so that people and tests see which lock refused."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request."""

    method: str
    target: str
    """Path and query, exactly as the client sent them."""
    headers: Headers
    body: bytes
    client: str
    """The client's IP address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer."""

    status: int
    headers: Headers
    body: bytes = b""


Handler = Callable[[Message], Answer]
"""A part of the front end: it answers a request, or passes it on and returns the answer of the next part."""


def without(headers: Headers, names: Iterable[str] = (), prefixes: tuple[str, ...] = ()) -> Headers:
    """Return a copy of headers without those of the names, or with one of the prefixes, in lower case."""
    dropped = frozenset(names)
    kept = [
        (name, value)
        for name, value in headers.items()
        if name.lower() not in dropped and not (prefixes and name.lower().startswith(prefixes))
    ]
    return Headers(kept)


def with_headers(message: Message, headers: Headers) -> Message:
    """Return the request with other headers."""
    return replace(message, headers=headers)


def page(status: int, title: str, text: str, answered_by: str, **headers: str) -> Answer:
    """Return an error page; each ``headers`` name has underscores in the place of hyphens."""
    head = f"<head><title>{status} {title}</title></head>"
    body = f"<html>{head}<body><h1>Error: {title}</h1>{html.escape(text)}</body></html>"
    shown = Headers({"Content-Type": "text/html; charset=UTF-8", ANSWERED_BY: answered_by})
    for name, value in headers.items():
        shown.set(name.replace("_", "-"), value)
    return Answer(status, shown, body.encode())
