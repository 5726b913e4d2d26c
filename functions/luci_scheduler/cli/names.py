"""Names of projects and jobs: the nearest names to a typing error, and completion for shells."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.session import Session
from luci_scheduler.cli.tables import plain

__all__ = ["cached_names", "hint", "missing_job", "missing_project", "nearest"]

_LIMIT = 3.0  # seconds for the names in an error: the error itself is known
_MOST = 3
_FEW = 8  # projects that an error lists if none is near
_KEPT = 60.0  # seconds for which a shell completes the same names


def nearest(word: str, known: Sequence[str]) -> list[str]:
    """Return the names that a mistyped word may mean, the likeliest first."""
    lower = {name.lower(): name for name in reversed(known)}
    return [lower[name] for name in get_close_matches(word.lower(), list(lower), _MOST)]


def hint(word: str, known: Sequence[str]) -> str:
    """Return the end of an error text that asks for the nearest names; empty if none is near."""
    found = nearest(word, known)
    return _question(found)


def _question(found: Sequence[str]) -> str:
    *others, last = map(plain, found) if found else ("",)
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if last else ""


def missing_project(session: Session, project: str) -> CommandError:
    """Return the error for a project without visible jobs, with the nearest names."""
    text, known = plain(f"no job in the project {project}, or no permission to see its jobs"), _names(session, "")
    shown = f"; the projects are {', '.join(map(plain, known))}" if 0 < len(known) <= _FEW else ""
    return CommandError(text + (hint(project, known) or shown), Exit.NOT_FOUND)


def missing_job(session: Session, job: str) -> str:
    """Return the nearest names to those of a job that was not found, as the end of an error text."""
    project, _, name = job.partition("/")
    known = _names(session, project)
    if not known:
        return hint(project, _names(session, ""))
    found = [f"{project}/{item}" for item in nearest(name, known)]
    return _question(found)


def _names(session: Session, project: str) -> list[str]:
    """Return the names of the visible jobs of a project, or of the projects; none if the console does not answer."""
    try:
        return [str(name) for name in session.call("GetNames", {"project": project}, limit=_LIMIT).get("names", [])]
    except CommandError:
        return []


def cached_names(session: Session, project: str, who: str) -> list[str]:
    """Return the same names for a shell; they are kept for a minute, because a shell asks again with every key.

    Args:
        session: the session.
        project: the project, or empty for the projects.
        who: a text that differs for different callers, such as the token.
    """
    key = hashlib.sha256(f"{session.url}\0{who}\0{project}".encode()).hexdigest()[:32]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "luci-scheduler" / f"names-{key}.json"
    with contextlib.suppress(OSError, ValueError):
        if time.time() - path.stat().st_mtime < _KEPT:
            return [str(name) for name in json.loads(path.read_text(encoding="utf-8"))]
    names = _names(session, project)
    with contextlib.suppress(OSError):
        _keep(path, names)
    return names


def _keep(path: Path, names: Sequence[str]) -> None:
    """Write a file of names that only its owner may read, in one step."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(list(names), file)
    fresh.replace(path)
