"""Shared by the tests of the pages: a console in memory, visited as a browser does, and a parser for its pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from werkzeug.test import TestResponse

from tests.unit.api.support import OWNER, Client
from tests.unit.engine.world import World

_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Element:
    """An element with its children."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    inside: list[Element] = field(default_factory=list)


class Page(HTMLParser):
    """A page as a browser parses it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {[element.tag for element in self._open]}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """Record an element."""
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if self._open:
            self._open[-1].inside.append(element)
        if tag not in _VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        """Record an element that closes itself."""
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """Close an element; elements must be nested correctly."""
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        """Record text in every element around it."""
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Return the elements with this tag and these attributes."""
        return [
            element
            for element in self.elements
            if element.tag == tag and attributes.items() <= element.attributes.items()
        ]

    @property
    def text(self) -> str:
        """The text of the whole page."""
        return self.all("body")[0].text

    def form(self, action: str) -> dict[str, str] | None:
        """Return the fields of the form that posts to ``action``, or None if the page has no such form."""
        for element in self.all("form", action=action, method="post"):
            return {
                item.attributes["name"]: item.attributes.get("value", "")
                for item in _descendants(element)
                if item.tag == "input"
            }
        return None


def _descendants(element: Element) -> list[Element]:
    return [item for child in element.inside for item in (child, *_descendants(child))]


class Visitor:
    """A user who visits the pages of a world."""

    def __init__(self, world: World, who: str = OWNER) -> None:
        self._client = Client(world)
        self._who = who

    def get(self, path: str) -> TestResponse:
        """Request a page."""
        return self._client.http(path, who=self._who, method="GET")

    def page(self, path: str) -> Page:
        """Return a page that must exist."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return Page(answer.text)

    def json(self, path: str) -> Any:
        """Return the JSON twin of a page."""
        answer = self.get(f"{path}{'&' if '?' in path else '?'}format=json")
        assert answer.status_code == 200, answer.text
        return answer.json

    def post(self, path: str, fields: dict[str, str], **headers: str) -> TestResponse:
        """Send a form."""
        body = urlencode(fields).encode()
        kind = "application/x-www-form-urlencoded"
        return self._client.http(path, body, self._who, Content_Type=kind, **headers)

    def submit(self, path: str, action: str, **fields: str) -> TestResponse:
        """Fill in a form of the page at ``path`` and send it."""
        form = self.page(path).form(action)
        assert form is not None, f"{path} has no form for {action}"
        return self.post(action, {**form, **fields})
