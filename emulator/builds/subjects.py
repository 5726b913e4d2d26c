"""The first lines of commits in the local repositories."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from emulator.buildbucket.state import CommitKey
from emulator.gitiles.git import GitError, git
from emulator.gitiles.projects import find_repository
from luci_scheduler.core.foreign_text import escaped
from luci_scheduler.core.git_names import is_hash

__all__ = ["Subjects"]

_LONGEST = 160
_KEPT = 10_000  # a commit never changes


class Subjects:
    """Finds the first lines of commits, with one git process for each repository, and remembers them. Thread-safe.

    Args:
        repositories: holds a repository in ``<host>/<project>`` each.
    """

    def __init__(self, repositories: Path) -> None:
        self._repositories = repositories
        self._known: dict[CommitKey, str] = {}
        self._lock = threading.Lock()

    def __call__(self, commits: Collection[CommitKey]) -> Mapping[CommitKey, str]:
        """Return the first lines of commits; commits that the repositories do not have are left out."""
        with self._lock:
            missing = [key for key in commits if key not in self._known and is_hash(key[2])]
            for place in {key[:2] for key in missing}:
                hashes = [key[2] for key in missing if key[:2] == place]
                self._known |= {(*place, revision): subject for revision, subject in self._read(place, hashes)}
            found = {key: self._known[key] for key in commits if key in self._known}
            if len(self._known) > _KEPT:
                self._known.clear()
            return found

    def _read(self, place: tuple[str, str], hashes: list[str]) -> Iterable[tuple[str, str]]:
        path = find_repository(self._repositories, "/".join(place))
        if path is None:
            return []
        try:
            listed = git(path, "log", "--no-walk=unsorted", "--ignore-missing", "--format=%H %s", *hashes)
        except GitError:
            return []
        lines = (line.partition(" ") for line in listed.decode(errors="replace").split("\n"))
        return [(revision, escaped(text)[:_LONGEST]) for revision, _, text in lines if revision in hashes]
