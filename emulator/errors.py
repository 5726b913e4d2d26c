"""The error of the local cloud: one line that names the remedy."""

from __future__ import annotations

__all__ = ["LocalCloudError", "one_line", "printable"]

_LONGEST = 400


class LocalCloudError(Exception):
    """A part of the local cloud cannot run; the text is one line and names the remedy."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text, longest=2000))


def one_line(text: str, longest: int = _LONGEST) -> str:
    """Return ``text`` as one printable line of at most ``longest`` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def printable(text: str) -> str:
    """Replace the characters that could control a terminal by spaces: texts of git and of commits are foreign."""
    return "".join(mark if mark.isprintable() else " " for mark in text)
