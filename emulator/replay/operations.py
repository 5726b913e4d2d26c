"""The operations of a delivery that take time in a replay."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["OPERATIONS", "Operation", "parse_operation"]

OPERATIONS = ("read", "commit", "enqueue", "call", "gitiles", "fetch", "line", "end")
"""Reads and commits of documents, enqueued tasks, calls of Buildbucket and of Gitiles, and fetches of URLs.

``line`` and ``end`` are the machine's own work: before a line of the debug log, and before the end of an invocation.
"""

_OPERATION = re.compile(rf"({'|'.join(OPERATIONS)})\[(0|[1-9][0-9]{{0,3}})\]")


@dataclass(frozen=True, slots=True)
class Operation:
    """The operation with the number ``index``, from 0, among those of its name in a delivery."""

    name: str
    index: int

    def __str__(self) -> str:
        return f"{self.name}[{self.index}]"


def parse_operation(text: str) -> Operation | None:
    """Read ``call[0]``; None if the text is no operation."""
    match = _OPERATION.fullmatch(text)
    return Operation(match[1], int(match[2])) if match else None
