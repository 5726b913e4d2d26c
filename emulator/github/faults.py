"""Faults of the GitHub server: failing answers, commits that are not found yet, and refs that lag behind."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from emulator.gitiles.faults import GitilesFaults
from emulator.serving.faults import Faults, use_matching

__all__ = ["EFFECTS", "GitHubFault", "GitHubFaults", "HeldRefs"]

EFFECTS = frozenset({"error", "html", "rate_limit", "secondary_limit", "no_304", "slow", "cut", "cut_body"})


@dataclass(slots=True)
class GitHubFault:
    """A fault of requests to the API.

    Attributes:
        effect: ``error`` answers ``status`` with GitHub's text. ``html`` answers ``status`` with a page instead of
            JSON. ``rate_limit`` answers 403 as if the hourly quota was used up. ``secondary_limit`` answers 403,
            or 429 if ``status`` is 429, with the text about secondary limits, and with ``Retry-After`` unless
            ``seconds`` is 0. ``no_304`` answers
            an unchanged resource in full. ``slow`` answers after ``seconds`` of real time. ``cut`` closes the
            connection without an answer, ``cut_body`` halfway.
        path: the affected paths, such as ``*/compare/*``; may contain ``*`` and ``?``.
        times: how many requests are affected; None means all, until the fault is removed.
        status: the HTTP status.
        seconds: the delay of ``slow``, or the pause that ``secondary_limit`` asks the client to make.
        message: the text of an ``error``; by default the usual text of the status.
    """

    effect: Literal["error", "html", "rate_limit", "secondary_limit", "no_304", "slow", "cut", "cut_body"]
    path: str = "*"
    times: int | None = 1
    status: int = 503
    seconds: float = 0.0
    message: str = ""

    def matches(self, path: str) -> bool:
        """Return whether the fault affects a request."""
        return fnmatch.fnmatchcase(path, self.path)


@dataclass(slots=True)
class HeldRefs:
    """An earlier state of a repository's refs that the API still shows.

    Attributes:
        repository: ``owner/name``, in lower case.
        refs: each ref's hash and the type of its object.
        times: how many requests see it; None means all, until the faults are removed.
    """

    repository: str
    refs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    times: int | None = None


class GitHubFaults(Faults[GitHubFault]):
    """The active faults, the hidden commits and the held refs. Thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = GitilesFaults()
        """The hidden commits (`hide`, `reveal`): refs list them, but no other call finds them."""
        self._held: list[HeldRefs] = []
        self._held_lock = threading.Lock()

    def hide(self, commit: str, times: int | None = None) -> None:
        """Hide a commit (full hash) from the next ``times`` requests for it, or until `reveal`. Refs still show it."""
        self.commits.hide(commit, times)

    def reveal(self, commit: str) -> None:
        """Stop hiding a commit."""
        self.commits.reveal(commit)

    def hold(self, held: HeldRefs) -> None:
        """Show a repository's refs as they were."""
        with self._held_lock:
            self._held.append(held)

    def held(self, repository: str) -> Mapping[str, tuple[str, str]] | None:
        """Return the refs that a request for a repository's refs must see, and count the request; None: the present."""
        with self._held_lock:
            found = use_matching(self._held, lambda held: held.repository == repository.lower())
        return found[0].refs if found else None

    def clear(self) -> None:
        """Remove all faults, reveal all commits and show the present refs."""
        super().clear()
        self.commits.clear()
        with self._held_lock:
            self._held.clear()
