"""The problems in a config, collected in one pass, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from luci_scheduler.config.places import Place
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import quote

__all__ = ["Problem", "Report", "Severity"]

_MAX_TEXT = 1000
"""The longest message, in characters: a message quotes the file, whose texts may be long."""


class Severity(StrEnum):
    """Whether a config with the problem can become active."""

    ERROR = "error"
    WARNING = "warning"


@frozen
class Problem:
    """An error, or a warning about something that should change. As a text: ``FILE:LINE: path: message``."""

    severity: Severity
    file: str
    line: int
    """The line of the field, or of the enclosing definition; counts from 1."""
    column: int
    """The column; counts from 1, 0 if unknown."""
    path: tuple[str, ...]
    """Nested elements, named as in the original: ``job`` or ``trigger``, the ID or ``(empty)``, then e.g. ``task``.

    Empty for a problem of the whole file.
    """
    message: str

    def __str__(self) -> str:
        parts = [f"{_plain(self.file)}:{self.line}", _shown(self.path), self.message]
        if self.severity is Severity.WARNING:
            parts.insert(1, "warning")
        return ": ".join(part for part in parts if part)


class Report:
    """Collects the problems of one file. ``at`` opens a nested element, which becomes part of each problem's path."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._path: tuple[str, ...] = ()
        self.problems: list[Problem] = []

    @contextmanager
    def at(self, *elements: str) -> Iterator[None]:
        """Append elements to the path of every problem that is reported inside the ``with`` block."""
        outer = self._path
        self._path = (*outer, *elements)
        try:
            yield
        finally:
            self._path = outer

    def error(self, place: Place, message: str) -> None:
        """Report an error."""
        self._add(Severity.ERROR, place, message)

    def errors(self, place: Place, messages: Iterable[str]) -> None:
        """Report several errors at one place."""
        for message in messages:
            self.error(place, message)

    def warning(self, place: Place, message: str) -> None:
        """Report a problem that does not prevent the use of the config."""
        self._add(Severity.WARNING, place, message)

    def _add(self, severity: Severity, place: Place, message: str) -> None:
        text = _plain(message)
        if len(text) > _MAX_TEXT:
            text = f"{text[:_MAX_TEXT]}..."
        self.problems.append(Problem(severity, self._file, place.line, place.column, self._path, text))


def _shown(path: tuple[str, ...]) -> str:
    kind_and_id = [f"{path[0]} {quote(path[1][:_MAX_TEXT])}"] if path[1:] else list(path[:1])
    return " / ".join([*kind_and_id, *(_plain(element)[:_MAX_TEXT] for element in path[2:])])


def _plain(text: str) -> str:
    """Escape unprintable characters, so that a text is safe on a terminal and in a log."""
    return "".join(character if character.isprintable() else quote(character)[1:-1] for character in text)
