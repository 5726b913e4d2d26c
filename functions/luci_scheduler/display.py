"""The addresses of foreign web pages, as the current request's answer shows them (`Settings.links`).

Pages and answers of the API show links through `displayed`. Log lines and stored documents keep the real addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from luci_scheduler.core.link_map import LinkMap

__all__ = ["displayed", "displaying"]

_links: ContextVar[LinkMap | None] = ContextVar("links", default=None)


@contextmanager
def displaying(links: Mapping[str, str] | None) -> Iterator[None]:
    """Show links inside ``with`` as the setting ``links`` says; None: as they are."""
    token = _links.set(_link_map(tuple(links.items())) if links else None)
    try:
        yield
    finally:
        _links.reset(token)


def displayed(url: str) -> str:
    """Return the address under which the current answer shows ``url``."""
    links = _links.get()
    return links.shown(url) if links and url else url


@lru_cache(8)
def _link_map(items: tuple[tuple[str, str], ...]) -> LinkMap:
    return LinkMap.of(dict(items))
