"""Finds the repositories of one host: by name in any case, by number, and under names that they once had."""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

from emulator.gitiles.projects import find_repository, is_read_only, read_only_sentence, repositories, repository_path

__all__ = ["Found", "Names"]

_SEGMENTS = 2
_FIRST_ID = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """A repository of the host.

    Attributes:
        id: its number, which a new name does not change.
        name: ``owner/name`` in the spelling of the folders.
        path: its folder.
    """

    id: int
    name: str
    path: Path


class Names:
    """The repositories ``root/<site>/<owner>/<name>``. Thread-safe.

    Args:
        root: the folder with a folder for each host.
        site: the host.
    """

    def __init__(self, root: Path, site: str) -> None:
        self._root = root
        self._base = root / site
        self._ids: dict[str, int] = {}
        self._moved: dict[str, int] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> Found | None:
        """Return a repository by its present name, in any case; None if there is none."""
        if name.strip("/").count("/") != _SEGMENTS - 1:
            return None
        path = find_repository(self._base, name) or self._spelled_otherwise(name.strip("/").removesuffix(".git"))
        return self._found(path) if path else None

    def moved(self, name: str) -> int | None:
        """Return the number of the repository that once had a name; None if there is none."""
        return self._moved.get(name.lower())

    def by_id(self, number: int) -> Found | None:
        """Return a repository by its number; None if there is none."""
        return next((found for found in self.all() if found.id == number), None)

    def all(self) -> list[Found]:
        """Return all repositories, sorted by name."""
        found = [self._found(path) for path in sorted(repositories(self._base))]
        return [one for one in found if one.name.count("/") == _SEGMENTS - 1]

    def rename(self, old: str, new: str) -> tuple[Found, Found]:
        """Move a repository's folder, and return the repository before and after.

        Raises:
            ValueError: there is no repository of the old name, the new name is taken or not allowed, or the
                repository, or the folder of the new name, belongs to its user.
        """
        before = self.find(old)
        place = repository_path(self._base, new)
        if before is None:
            raise ValueError(f"no repository {old}")
        if is_read_only(before.path, self._root):
            raise ValueError(read_only_sentence(before.path))
        if place is None or new.count("/") != _SEGMENTS - 1 or self.find(new):
            raise ValueError(f"a repository cannot be named {new}")
        if is_read_only(place, self._root):
            raise ValueError(read_only_sentence(place))
        place.parent.mkdir(parents=True, exist_ok=True)
        before.path.rename(place)
        with self._lock:
            self._moved[before.name.lower()] = before.id
            self._moved.pop(new.lower(), None)
            self._ids[new.lower()] = before.id
            self._ids.pop(before.name.lower(), None)
        return before, self._found(place)

    def _found(self, path: Path) -> Found:
        name = path.relative_to(self._base).as_posix().removesuffix(".git")
        number = _FIRST_ID + zlib.crc32(name.lower().encode())
        return Found(self._ids.get(name.lower(), number), name, path)

    def _spelled_otherwise(self, name: str) -> Path | None:
        """Return the folder of a repository whose name differs in case only."""
        names = (found.relative_to(self._base).as_posix() for found in repositories(self._base))
        spelled = next((one for one in names if one.removesuffix(".git").lower() == name.lower()), None)
        return self._base / spelled if spelled else None
