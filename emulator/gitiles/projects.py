"""Finds the repositories below a folder."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Any

__all__ = [
    "description",
    "find_repository",
    "is_read_only",
    "projects",
    "read_only_sentence",
    "repositories",
    "repository_path",
]

_MAX_DEPTH = 5
_NO_DESCRIPTION = "Unnamed repository"


def find_repository(root: Path, name: str) -> Path | None:
    """Return the folder of a repository, or None. The name may be nested and may end in ``.git``."""
    path = repository_path(root, name)
    candidates = (path, path.with_name(f"{path.name}.git")) if path else ()
    return next((candidate for candidate in candidates if _is_repository(candidate)), None)


def repository_path(root: Path, name: str) -> Path | None:
    """Return where a repository is or would be; None if its name is not allowed, as with a leading dot in a part."""
    segments = name.strip("/").removesuffix(".git").split("/")
    if any(not segment or segment.startswith(".") for segment in segments):
        return None
    return root.joinpath(*segments)


def is_read_only(repository: Path, root: Path) -> bool:
    """Return whether a repository belongs to its user, so that the local cloud writes nothing into it.

    Its folder then is a link, or is reached through one: a linked repository may hold others, such as the submodules in
    its folder ``modules``.

    Args:
        repository: the folder, which need not exist.
        root: a folder above it; links that lead to this folder do not count.
    """
    folders = takewhile(lambda folder: folder != root, (repository, *repository.parents))
    return any(folder.is_symlink() for folder in folders)


def read_only_sentence(repository: Path) -> str:
    """Return why the local cloud writes nothing into a repository, and what to do instead."""
    place = repository.resolve()
    where = place.parent if place.name == ".git" else place
    return f"{where} is watched in place, and the local cloud writes nothing into it: commit there with git"


def projects(root: Path, base: str) -> dict[str, dict[str, Any]]:
    """Return the project list: names, clone URLs below ``base``, and descriptions if they exist."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(repositories(root)):
        name = path.relative_to(root).as_posix().removesuffix(".git")
        found[name] = {"name": name, "clone_url": f"{base}{name}"}
        if text := description(path):
            found[name]["description"] = text
    return found


def repositories(root: Path) -> list[Path]:
    """Return the folders of all repositories below a folder."""
    return _repositories(root, 0)


def _repositories(folder: Path, depth: int) -> list[Path]:
    if depth > _MAX_DEPTH or not folder.is_dir():
        return []
    if _is_repository(folder):
        return [folder]
    return [
        found
        for child in folder.iterdir()
        if not child.name.startswith(".")
        for found in _repositories(child, depth + 1)
    ]


def _is_repository(path: Path) -> bool:
    return any((folder / "HEAD").is_file() and (folder / "objects").is_dir() for folder in (path, path / ".git"))


def description(path: Path) -> str:
    """Return a repository's description; empty if it has only git's default."""
    files = (path / "description", path / ".git" / "description")
    text = next((file.read_text(encoding="utf-8", errors="replace").strip() for file in files if file.is_file()), "")
    return "" if text.startswith(_NO_DESCRIPTION) else text
