"""The refs of a repository, and how they change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from emulator.gitiles.git import git

__all__ = ["Push", "RefChange", "git_folder", "read_refs", "read_typed_refs", "ref_changes", "refs_stamp"]

# Git's own book-keeping in a work tree. A repository on a server has none of them.
_PRIVATE = ("bisect", "notes", "original", "prefetch", "remotes", "rewritten", "stash", "worktree")
_PRIVATE_REFS = tuple(f"refs/{name}" for name in _PRIVATE)

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, time of change in nanoseconds, size and inode of each file that holds refs."""


@dataclass(frozen=True, slots=True)
class RefChange:
    """A ref that was created, moved or deleted."""

    ref: str
    """The full name."""
    old: str
    """The hash before; empty if the ref is new."""
    new: str
    """The hash after; empty if the ref was deleted."""


@dataclass(frozen=True, slots=True)
class Push:
    """The refs that a ``git push`` has changed."""

    host: str
    name: str
    """The repository's name on its host."""
    path: Path
    """The repository's folder."""
    changes: tuple[RefChange, ...]


def read_refs(repository: Path) -> dict[str, str]:
    """Return the hash of each branch, tag and other public ref, by full name.

    Raises:
        GitError: git does not run, or refuses the repository.
    """
    return {name: value for name, (value, _) in read_typed_refs(repository).items()}


def read_typed_refs(repository: Path) -> dict[str, tuple[str, str]]:
    """Return the hash of each public ref and the type of its object (``commit``, ``tag``), by full name.

    Raises:
        GitError: git does not run, or refuses the repository.
    """
    output = git(repository, "for-each-ref", "--format=%(objectname) %(objecttype) %(refname)").decode(errors="replace")
    rows = (line.split(" ", 2) for line in output.split("\n") if line)
    return {name: (value, kind) for value, kind, name in rows if not name.startswith(_PRIVATE_REFS)}


def ref_changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[RefChange, ...]:
    """Return the changes from one state of the refs to another, sorted by name."""
    names = sorted({*before, *after})
    changes = (RefChange(name, before.get(name, ""), after.get(name, "")) for name in names)
    return tuple(change for change in changes if change.old != change.new)


def refs_stamp(repository: Path) -> Stamp:
    """Return a value that changes with the refs, without starting git: the states of the files that hold them."""
    folder = git_folder(repository)
    packed = (folder / "packed-refs", folder / "reftable" / "tables.list")
    return tuple(sorted([*_states(packed), *_loose(folder / "refs", top=True)]))


def git_folder(repository: Path) -> Path:
    """Return the folder that holds refs and objects."""
    inner = repository / ".git"
    return inner if inner.is_dir() else repository


def _loose(folder: Path, *, top: bool = False) -> Iterator[tuple[str, int, int, int]]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return  # git has removed an empty folder
    for entry in entries:
        if top and entry.name in _PRIVATE:
            continue
        if entry.is_dir():
            yield from _loose(entry)
        elif not entry.name.endswith(".lock"):
            yield from _states([entry])


def _states(paths: Iterator[Path] | tuple[Path, ...] | list[Path]) -> Iterator[tuple[str, int, int, int]]:
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        yield str(path), found.st_mtime_ns, found.st_size, found.st_ino
