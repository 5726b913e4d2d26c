"""Finds the repositories below a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["find_repository", "projects"]

_MAX_DEPTH = 5
_NO_DESCRIPTION = "Unnamed repository"


def find_repository(root: Path, name: str) -> Path | None:
    """Return the folder of a repository, or None. The name may be nested and may end in ``.git``."""
    segments = name.strip("/").removesuffix(".git").split("/")
    if any(segment in {"", ".", ".."} or segment.startswith(".") for segment in segments):
        return None
    path = root.joinpath(*segments)
    return next(
        (candidate for candidate in (path, path.with_name(f"{path.name}.git")) if _is_repository(candidate)), None
    )


def projects(root: Path, base: str) -> dict[str, dict[str, Any]]:
    """Return the project list: names, clone URLs below ``base``, and descriptions if they exist."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(_repositories(root, 0)):
        name = path.relative_to(root).as_posix().removesuffix(".git")
        found[name] = {"name": name, "clone_url": f"{base}{name}"}
        if description := _description(path):
            found[name]["description"] = description
    return found


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


def _description(path: Path) -> str:
    files = (path / "description", path / ".git" / "description")
    text = next((file.read_text(encoding="utf-8", errors="replace").strip() for file in files if file.is_file()), "")
    return "" if text.startswith(_NO_DESCRIPTION) else text
