"""Faults of the Gitiles server's answers, commits that are not there yet, and the request log."""

from __future__ import annotations

import fnmatch
import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

__all__ = ["GitilesFault", "GitilesFaults", "RequestRecord"]

_LOG_SIZE = 10_000


@dataclass(slots=True)
class GitilesFault:
    """Something that goes wrong with requests.

    Attributes:
        effect: ``error`` answers ``status`` (401, 403, 404, 429, 500, 502, 503) with the service's text; ``slow`` answers ``seconds``
            later (of real time); ``cut`` closes the connection without an answer, ``cut_body`` half-way.
        path: which requests, by their path without ``/h/<host>`` and ``/a``: ``/tint/+log/*``; may hold ``*`` and ``?``.
        times: how many requests it affects; None is all of them until it is removed.
    """

    effect: Literal["error", "slow", "cut", "cut_body"]
    path: str = "*"
    times: int | None = 1
    status: int = 503
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request and its answer; ``status`` is 0 if the connection was cut. ``authenticated``: the path began with ``/a``."""

    path: str
    query: str
    host: str
    authenticated: bool
    status: int
    answer: str


class GitilesFaults:
    """What is switched on. Safe to use from several threads."""

    def __init__(self) -> None:
        self._faults: list[GitilesFault] = []
        self._hidden: dict[str, int | None] = {}
        self._records: deque[RequestRecord] = deque(maxlen=_LOG_SIZE)
        self._lock = threading.Lock()

    def add(self, fault: GitilesFault) -> None:
        """Switch a fault on."""
        with self._lock:
            self._faults.append(fault)

    def hide(self, commit: str, times: int | None = None) -> None:
        """Let a commit (full hash) not be found by the next ``times`` requests for it, or until `reveal`; refs still show it."""
        with self._lock:
            self._hidden[commit] = times

    def reveal(self, commit: str) -> None:
        """Let a commit be found again."""
        with self._lock:
            self._hidden.pop(commit, None)

    def clear(self) -> None:
        """Switch all faults off and reveal all commits."""
        with self._lock:
            self._faults.clear()
            self._hidden.clear()

    def active(self) -> list[GitilesFault]:
        """Return the faults that have not been used up."""
        with self._lock:
            return list(self._faults)

    def take(self, path: str) -> list[GitilesFault]:
        """Return the faults that hit a request, and count it."""
        with self._lock:
            hits = [fault for fault in self._faults if fnmatch.fnmatchcase(path, fault.path)]
            for fault in hits:
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
            return hits

    def hidden(self) -> frozenset[str]:
        """Return the commits that are not to be found now."""
        with self._lock:
            return frozenset(self._hidden)

    def count_hidden(self, commits: set[str]) -> None:
        """Count a request that looked for hidden commits; those whose number is used up can be found by the next one."""
        with self._lock:
            for commit in commits & self._hidden.keys():
                left = self._hidden[commit]
                if left is not None and left <= 1:
                    del self._hidden[commit]
                elif left is not None:
                    self._hidden[commit] = left - 1

    def log(self, record: RequestRecord) -> None:
        """Note a request."""
        with self._lock:
            self._records.append(record)

    def records(self) -> list[RequestRecord]:
        """Return the requests, oldest first."""
        with self._lock:
            return list(self._records)

    def clear_records(self) -> None:
        """Forget the requests."""
        with self._lock:
            self._records.clear()
