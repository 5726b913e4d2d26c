"""Faults of the Gitiles server's responses, and commits that it does not find yet."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from emulator.serving.faults import Faults

__all__ = ["GitilesFault", "GitilesFaults"]


@dataclass(slots=True)
class GitilesFault:
    """A fault of requests.

    Attributes:
        effect: ``error`` responds with ``status`` (401, 403, 404, 429, 500, 502, 503) and the service's text. ``slow``
            responds after ``seconds`` of real time. ``cut`` closes the connection without a response, ``cut_body``
            halfway.
        path: the affected paths, without ``/h/<host>`` and ``/a``, such as ``/tint/+log/*``; may contain ``*`` and
            ``?``.
        times: how many requests are affected; None means all, until the fault is removed.
        status: the HTTP status of an ``error``.
        seconds: the delay of ``slow``.
    """

    effect: Literal["error", "slow", "cut", "cut_body"]
    path: str = "*"
    times: int | None = 1
    status: int = 503
    seconds: float = 0.0

    def matches(self, path: str) -> bool:
        """Return whether the fault affects a request."""
        return fnmatch.fnmatchcase(path, self.path)


class GitilesFaults(Faults[GitilesFault]):
    """The active faults, and the hidden commits. Thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self._hidden: dict[str, int | None] = {}
        self._hidden_lock = threading.Lock()

    def hide(self, commit: str, times: int | None = None) -> None:
        """Hide a commit (full hash) from the next ``times`` requests for it, or until `reveal`. Refs still show it."""
        with self._hidden_lock:
            self._hidden[commit] = times

    def reveal(self, commit: str) -> None:
        """Stop hiding a commit."""
        with self._hidden_lock:
            self._hidden.pop(commit, None)

    def clear(self) -> None:
        """Remove all faults and reveal all commits."""
        super().clear()
        with self._hidden_lock:
            self._hidden.clear()

    def hidden(self) -> frozenset[str]:
        """Return the commits that are hidden now."""
        with self._hidden_lock:
            return frozenset(self._hidden)

    def count_hidden(self, commits: Collection[str]) -> None:
        """Count a request for hidden commits. A commit whose count is used up is visible to the next request."""
        with self._hidden_lock:
            for commit in self._hidden.keys() & set(commits):
                left = self._hidden[commit]
                if left is None:
                    continue
                if left <= 1:
                    del self._hidden[commit]
                else:
                    self._hidden[commit] = left - 1
