"""The feed of a local cloud: a numbered line for each commit, build and config, for terminal and start page."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from emulator.errors import one_line, printable
from luci_scheduler.core.instants import Instant, format_rfc3339

__all__ = ["PROBLEMS", "Entry", "Feed", "Kind"]

Kind = Literal[
    "commit",  # a commit event was published, or a poll of a local repository would see a new commit
    "push",  # git push changed refs
    "build_started",
    "build_ended",  # with any status but those of `failure`
    "failure",  # a build failed, or an invocation ended without success
    "config",  # a config is in force, or was removed
    "config_problem",  # a config is not valid, and the last valid one stays
    "problem",  # a part of the local cloud does not do its work
    "note",  # an action on the start page, such as a fault or a change of the time
]
PROBLEMS = frozenset[Kind]({"failure", "config_problem", "problem"})
"""The kinds that ``--quiet`` still prints."""
_KEPT = 1000

FieldValue = str | int | bool | Sequence[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the feed."""

    number: int
    """1, 2, 3, ... in the order of `Feed.post`."""
    at: Instant
    """On the local cloud's clock."""
    kind: Kind
    text: str
    """One line, for people."""
    link: str = ""
    """The address of a page that shows more; empty if there is none."""
    fields: Mapping[str, FieldValue] = field(default_factory=lambda: MappingProxyType({}))
    """The same facts for programs, such as ``repo``, ``revision``, ``job`` and ``status``."""

    def as_json(self) -> dict[str, object]:
        """Return the entry as a JSON object: ``number``, ``time`` (RFC 3339), ``kind``, ``text``, ``link``, fields."""
        own = {"number": self.number, "time": format_rfc3339(self.at), "kind": self.kind, "text": self.text}
        others = {name: value for name, value in self.fields.items() if name not in own}
        return {**own, "link": self.link, **others}


class Feed:
    """The latest 1,000 entries; thread-safe.

    Args:
        now: the local cloud's clock, in nanoseconds.
        kept: the number of entries that stay.
    """

    def __init__(self, now: Callable[[], int], kept: int = _KEPT) -> None:
        self._now = now
        self._entries: deque[Entry] = deque(maxlen=kept)
        self._number = 0
        self._posted = threading.Condition()

    def post(self, kind: Kind, text: str, link: str = "", **fields: FieldValue) -> Entry:
        """Add an entry and return it. Text and link become one line without control characters."""
        line = one_line(text)
        with self._posted:
            self._number += 1
            entry = Entry(self._number, Instant(self._now()), kind, line, printable(link), MappingProxyType(fields))
            self._entries.append(entry)
            self._posted.notify_all()
        return entry

    def after(self, number: int, seconds: float = 0.0) -> list[Entry]:
        """Return the kept entries with larger numbers, oldest first.

        Args:
            number: 0 for all.
            seconds: how long to wait, in real time, while there are none.
        """
        with self._posted:
            self._posted.wait_for(lambda: self._number > number, seconds)
            return [entry for entry in self._entries if entry.number > number]
