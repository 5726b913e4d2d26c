"""The places (line and column) of fields in a text proto, for error messages. Protobuf's parser does not keep them.

Use it for texts that the parser has accepted. For any other text, ``find_places`` raises nothing, but places may be
missing; the place of the enclosing field is used instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field

from luci_scheduler.core.frozen import frozen

__all__ = ["Place", "find_places", "strange_escapes"]


@frozen
class Place:
    """The start of a field, and the places of the fields inside it."""

    line: int = 1
    column: int = 0
    fields: dict[str, list[Place]] = field(default_factory=dict)

    def at(self, *names: str, index: int = 0) -> Place:
        """Return the place of the field at the path ``names``; ``index`` selects an entry of a repeated field.

        Without such a field, return the place of the closest enclosing field.
        """
        place = self
        for name in names[:-1]:
            places = place.fields.get(name)
            if not places:
                return place
            place = places[0]
        places = place.fields.get(names[-1], [])
        return places[index] if index < len(places) else place


_TOKEN = re.compile(
    r"""(?P<blank>[\s;]+|\#[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?)
    |(?P<word>[\w.+]+)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)


def find_places(text: str) -> Place:
    """Return the place of the whole text, with the places of all fields inside. Takes time linear in the text."""
    scanner = _Scanner()
    line, line_start = 1, 0
    for token in _TOKEN.finditer(text):
        if not token["blank"]:
            scanner.take(token.lastgroup or "", token[0], line, token.start() - line_start + 1)
        breaks = token[0].count("\n")
        if breaks:
            line += breaks
            line_start = token.start() + token[0].rindex("\n") + 1
    return scanner.root


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_KNOWN_ESCAPES = frozenset("abfnrtv?'\"\\01234567xXuU")
"""The characters that may follow a backslash in the text format. Go refuses others; Python's parser keeps them."""


def strange_escapes(text: str) -> Iterator[tuple[Place, str]]:
    """Yield the first unknown escape in each quoted text, with its place. Takes time linear in the text."""
    line, line_start, counted = 1, 0, 0
    for token in _TOKEN.finditer(text):
        if not token["text"]:
            continue
        strange = next((found for found in _ESCAPE.finditer(token[0]) if found[1] not in _KNOWN_ESCAPES), None)
        if strange is None:
            continue
        start = token.start() + strange.start()
        line += text.count("\n", counted, start)
        line_start, counted = text.rfind("\n", 0, start) + 1, start
        yield Place(line, start - line_start + 1), strange[0]


class _Scanner:
    """Follows the tokens: a name, then a value, a message in braces (either kind), or a list of them."""

    def __init__(self) -> None:
        self.root = Place()
        # The open messages, each with the name of the list field that contains it (or an empty name).
        self._open = [(self.root, "")]
        self._name = ""  # the field whose value comes next
        self._start = (1, 0)
        self._list = ""  # the field whose list is open
        self._awaits_item = False

    def take(self, kind: str, lexeme: str, line: int, column: int) -> None:
        match lexeme:
            case "{" | "<":
                self._enter(line, column)
            case "}" | ">":
                self._leave()
            case "[":
                self._list, self._name, self._awaits_item = self._name, "", True
            case "]":
                self._list = ""
            case ",":
                self._awaits_item = bool(self._list)
            case _ if kind in ("word", "text"):
                self._word_or_text(kind, lexeme, line, column)

    def _word_or_text(self, kind: str, lexeme: str, line: int, column: int) -> None:
        if self._list:
            if self._awaits_item:
                self._put(self._list, line, column)
            self._awaits_item = False
        elif self._name:
            self._put(self._name, *self._start)
            self._name = ""
        elif kind == "word":
            self._name, self._start = lexeme, (line, column)
        # Otherwise it is a quoted text that continues the previous quoted text.

    def _enter(self, line: int, column: int) -> None:
        place = self._put(self._list, line, column) if self._list else self._put(self._name, *self._start)
        self._open.append((place, self._list))
        self._name, self._list = "", ""

    def _leave(self) -> None:
        if len(self._open) > 1:
            _, self._list = self._open.pop()
        self._name, self._awaits_item = "", False

    def _put(self, name: str, line: int, column: int) -> Place:
        place = Place(line, column)
        self._open[-1][0].fields.setdefault(name, []).append(place)
        return place
