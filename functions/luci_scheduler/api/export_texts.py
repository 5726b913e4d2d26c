"""Names that patterns of a config cover, for refs and paths that a debug log does not name. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from luci_scheduler.core.path_filter import PathFilter
from luci_scheduler.core.ref_validation import REGEXP
from luci_scheduler.core.regexps import PatternReader

__all__ = ["sample_path", "sample_refs"]

_REPETITIONS = (0, 1, 2)
"""How often a sample repeats a piece that may be repeated."""
_REPEAT = re.compile(r"\{(\d+)(,(\d*))?\}|([*+?])")
_FILLERS = ("x", "a", "0", "-")
"""The characters that a sample takes where any character fits: a pattern of excluded paths may cover some."""
_GROUP = re.compile(r"\?(?:P?<\w+>|[imsU-]*:)|\?[imsU-]*(?=\))")
_CLASSES = {"d": "0", "w": "x", "s": " ", "D": "x", "W": "-", "S": "x", "b": "", "B": "", "A": "", "z": ""}
_CANDIDATES = "0-_.X "
_LONGEST = 500  # characters of a sample
_DEEPEST = 50  # nested groups


def sample_path(include: Sequence[str], paths: PathFilter) -> str:
    """Return a path that a filter accepts; empty if none is found."""
    for text in _samples(include):
        if text and paths.interesting([(text, text)]):
            return text
    return ""


def sample_refs(known: Iterable[str], entries: Iterable[str]) -> Callable[[int], Iterator[str]]:
    """Return a generator of names of refs that may lie in a set: known names, and names made from them.

    The generated names sort before and after the names that they are made from.
    """
    starts = [*known, *filter(None, _samples([entry.removeprefix(REGEXP) for entry in entries]))]

    def generate(count: int) -> Iterator[str]:
        yield from dict.fromkeys(starts)
        for number in range(count):
            for start in starts:
                yield from (f"{start}-{number}", f"{start}{number}", f"{start}~{number}", f"{start[:-1]}-{number}")

    return generate


def _samples(patterns: Sequence[str]) -> list[str]:
    return [
        _Sampler(pattern, times, filler).sample()
        for pattern in patterns
        for filler in _FILLERS
        for times in _REPETITIONS
    ]


class _Sampler(PatternReader):
    """Reads a valid pattern from left to right, and makes a text that it probably matches. The caller checks it."""

    def __init__(self, pattern: str, times: int, filler: str) -> None:
        super().__init__(pattern)
        self._times = times
        self._any = filler

    def sample(self) -> str:
        """Return the text."""
        return self._alternation()[:_LONGEST]

    def _alternation(self) -> str:
        first = self._sequence()
        while self._take("|"):
            self._sequence()
        return first

    def _sequence(self) -> str:
        found = ""
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            found = (found + self._repeated(self._atom()))[:_LONGEST]
        return found

    def _atom(self) -> str:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        return {".": self._any, "^": "", "$": ""}.get(character, character)

    def _group(self) -> str:
        if match := _GROUP.match(self._text, self._at):
            self._at = match.end()
        self._depth += 1
        if self._depth > _DEEPEST:
            self._at = len(self._text)
            return ""
        inner = self._alternation()
        self._take(")")
        self._depth -= 1
        return inner

    def _class(self) -> str:
        is_negated = self._take("^")
        members: list[str] = []
        while self._at < len(self._text) and (not members or self._text[self._at] != "]"):
            character = self._next()
            members.append(self._escape() if character == "\\" else character)
        self._take("]")
        if not is_negated:
            return members[0] if members else ""
        return next((character for character in self._any + _CANDIDATES if character not in members), "")

    def _escape(self) -> str:
        character = self._next()
        return _CLASSES.get(character, character)

    def _repeated(self, piece: str) -> str:
        match = _REPEAT.match(self._text, self._at)
        if match is None:
            return piece
        self._at = match.end()
        self._take("?")
        least, most = int(match[1] or (match[4] == "+")), self._times
        if match[1] and not match[2]:
            most = least
        elif match[3]:
            most = min(most, int(match[3]))
        elif match[4] == "?":
            most = min(most, 1)
        return piece * min(max(least, most), _LONGEST)
