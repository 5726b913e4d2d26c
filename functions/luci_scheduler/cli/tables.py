"""Plain tables that fit a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["cut", "plain", "show_table"]

_DISPENSABLE = ("SCHEDULE", "AUTHOR", "PAUSED", "CAUSE", "REASON", "ENDED", "TOOK", "BEFORE")
"""Columns that a narrow terminal does not show, the least important first."""
_SHRINKING = "SUBJECT"
_LEAST = 10  # characters of a column that shrinks
_GAP = 2
_NOTHING = ("-", "no", "")

_Rows = Sequence[Sequence[str]]


def show_table(header: Sequence[str], rows: _Rows, width: int = 0) -> str:
    """Return a plain table; control characters in cells become spaces.

    Args:
        header: the names of the columns.
        rows: the cells of each row.
        width: the characters of a line of the terminal; 0 is no limit. A wider table first loses the less important
            columns without any value, then others, then the ends of subjects. Other cells are never cut.
    """
    clean = [list(header), *[[plain(cell) for cell in row] for row in rows]]
    fitting = _fit(clean, width) if width else clean
    return "\n".join(
        "  ".join(cell.ljust(size) for cell, size in zip(row, _widths(fitting), strict=True)).rstrip()
        for row in fitting
    )


def plain(text: str) -> str:
    """Return text without control characters, which could control the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters; an ellipsis stands for the rest."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _fit(table: _Rows, width: int) -> _Rows:
    for name in (*_DISPENSABLE, _SHRINKING, "COMMIT"):
        if _is_empty(table, name) and _excess(table, width) > 0:
            table = _without(table, name)
    for name in _DISPENSABLE:
        if _excess(table, width) > _spare(table):
            table = _without(table, name)
    return _shrunk(table, width)


def _shrunk(table: _Rows, width: int) -> _Rows:
    """Return the table with subjects that are as long as the width allows."""
    excess = _excess(table, width)
    if excess <= 0 or _SHRINKING not in table[0]:
        return table
    place = table[0].index(_SHRINKING)
    most = max(_LEAST, _widths(table)[place] - excess)
    return [[cut(cell, most) if column == place else cell for column, cell in enumerate(row)] for row in table]


def _excess(table: _Rows, width: int) -> int:
    """Return by how many characters a table is too wide."""
    return sum(size + _GAP for size in _widths(table)) - _GAP - width


def _spare(table: _Rows) -> int:
    """Return the number of characters that subjects can lose."""
    return max(0, _widths(table)[table[0].index(_SHRINKING)] - _LEAST) if _SHRINKING in table[0] else 0


def _widths(table: _Rows) -> list[int]:
    return [max(map(len, column)) for column in zip(*table, strict=True)]


def _is_empty(table: _Rows, name: str) -> bool:
    return name in table[0] and all(row[table[0].index(name)] in _NOTHING for row in table[1:])


def _without(table: _Rows, name: str) -> _Rows:
    if name not in table[0]:
        return table
    place = table[0].index(name)
    return [[*row[:place], *row[place + 1 :]] for row in table]
