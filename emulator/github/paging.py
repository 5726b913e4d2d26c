"""Pages of lists: their parameters and the header ``Link``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict

__all__ = ["Page", "is_paged", "page_of"]

T = TypeVar("T")
_DEFAULT, _MOST = 30, 100
_LAST_PAGE = 1_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """The requested part of a list.

    Attributes:
        number: the number of the page, from 1.
        size: the entries of a page.
    """

    number: int
    size: int

    @property
    def first(self) -> int:
        """The index of the page's first entry."""
        return (self.number - 1) * self.size

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return the page's entries."""
        return items[self.first : self.first + self.size]

    def last(self, total: int) -> int:
        """Return the number of the last page of a list with ``total`` entries."""
        return max(1, -(-total // self.size))

    def link(self, url: str, query: MultiDict[str, str], *, has_next: bool, last: int | None = None) -> dict[str, str]:
        """Return the header ``Link``; nothing for the only page.

        Args:
            url: the address of the list without a query.
            query: the request's query, which the links keep.
            has_next: whether a later page exists.
            last: the number of the last page, if it is known.
        """
        pages = {"prev": self.number - 1, "first": 1} if self.number > 1 else {}
        if has_next:
            pages |= {"next": self.number + 1} | ({"last": last} if last else {})
        kept = [(name, value) for name, value in query.items(multi=True) if name != "page"]
        links = (f'<{url}?{urlencode([*kept, ("page", number)])}>; rel="{name}"' for name, number in pages.items())
        return {"Link": ", ".join(links)} if pages else {}


def is_paged(query: MultiDict[str, str]) -> bool:
    """Return whether a request has a parameter of pages."""
    return "page" in query or "per_page" in query


def page_of(query: MultiDict[str, str], default: int = _DEFAULT) -> Page:
    """Return the requested page; a parameter that is no number has no effect."""
    size = _number(query.get("per_page", ""), default)
    return Page(min(_number(query.get("page", ""), 1), _LAST_PAGE), size if size == default else min(size, _MOST))


def _number(text: str, default: int) -> int:
    return (
        int(text) if text.isascii() and text.isdecimal() and len(text) < len(str(_LAST_PAGE)) and int(text) else default
    )
