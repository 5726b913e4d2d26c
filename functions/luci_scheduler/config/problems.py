"""What a reading of a config finds: problems, each with its place, gathered all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from luci_scheduler.config.places import Place
from luci_scheduler.core.go_text import quote

__all__ = ["Problem", "Report", "Severity"]

_MAX_TEXT = 1000
"""Characters of a message: it quotes what stands in the file, which may be long."""


class Severity(StrEnum):
    """Whether a config with the problem can be put in force."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or (a warning) that should be changed. As a text: ``FILE:LINE: path: message``."""

    severity: Severity
    file: str
    line: int
    """From 1: the offending field's, or that of the definition around it."""
    column: int
    """From 1; 0 if unknown."""
    path: tuple[str, ...]
    """Nested elements as the original names them: kind, id or ``(empty)``, then e.g. ``task``, ``refs``; empty: the file."""
    message: str

    def __str__(self) -> str:
        parts = [f"{_plain(self.file)}:{self.line}", _shown(self.path), self.message]
        if self.severity is Severity.WARNING:
            parts.insert(1, "warning")
        return ": ".join(part for part in parts if part)


class Report:
    """Gathers the problems of one file; ``at`` opens an element, so that each problem gets its path."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._path: tuple[str, ...] = ()
        self.problems: list[Problem] = []

    @contextmanager
    def at(self, *elements: str) -> Iterator[None]:
        """Put ``elements`` behind the path of every problem told within."""
        outer = self._path
        self._path = (*outer, *elements)
        try:
            yield
        finally:
            self._path = outer

    def error(self, place: Place, message: str) -> None:
        """Tell an error."""
        self._add(Severity.ERROR, place, message)

    def errors(self, place: Place, messages: Iterable[str]) -> None:
        """Tell several errors of one place."""
        for message in messages:
            self.error(place, message)

    def warning(self, place: Place, message: str) -> None:
        """Tell what should be changed but can be used."""
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
    """Return a text that is safe on a terminal and in a log: what cannot be printed is escaped."""
    return "".join(character if character.isprintable() else quote(character)[1:-1] for character in text)
