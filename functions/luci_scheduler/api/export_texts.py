"""Names that patterns of a config cover, for refs and paths that a debug log does not name. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from luci_scheduler.core.path_filter import PathFilter
from luci_scheduler.core.ref_validation import REGEXP
from luci_scheduler.core.regexps import literal_prefix

__all__ = ["sample_path", "sample_refs"]

_FILLINGS = ("", "x", "0", "x/x", "main", "x.x", "x-0", "1.0", "0.0.0")
_GAP = re.compile(
    r"""\(\?:?(?P<flags>[a-z]*)\)         # flags
    |\[[^\]]*\][*+?]?                     # a class
    |\\[dwsDWS][*+?]?|\.[*+?]             # any character
    |\{[0-9,]*\}|[*+?]""",
    re.VERBOSE,
)
_ALTERNATIVES = re.compile(r"\(\??:?([^()|]*)(?:\|[^()]*)*\)")
_ESCAPED = re.compile(r"\\([^A-Za-z0-9])")


def sample_path(include: Sequence[str], paths: PathFilter) -> str:
    """Return a path that a filter accepts; empty if none is found."""
    for pattern in include:
        for text in _samples(pattern):
            if text and paths.interesting([(text, text)]):
                return text
    return ""


def sample_refs(known: Iterable[str], entries: Iterable[str]) -> Callable[[int], Iterator[str]]:
    """Return a generator of names of refs that may lie in a set: known names, and names made from them.

    The generated names sort before and after the names that they are made from.
    """
    patterns = [entry.removeprefix(REGEXP) for entry in entries]
    starts = [*known, *(text for pattern in patterns for text in _samples(pattern) if text)]

    def generate(count: int) -> Iterator[str]:
        yield from dict.fromkeys(starts)
        for number in range(count):
            for start in starts:
                yield from (f"{start}-{number}", f"{start}{number}", f"{start}~{number}", f"{start[:-1]}-{number}")

    return generate


def _samples(pattern: str) -> list[str]:
    """Return texts that a simple pattern may match: its gaps filled with the same text."""
    literal, is_all = literal_prefix(pattern)
    if is_all:
        return [literal]
    plain = pattern
    while (chosen := _ALTERNATIVES.sub(r"\1", plain)) != plain:
        plain = chosen
    texts = [_ESCAPED.sub(r"\1", _GAP.sub(filling, plain)) for filling in _FILLINGS]
    return [text.strip("^$") for text in texts] + [literal + filling for filling in _FILLINGS]
