"""Commits, files and refs, as GitHub's REST API describes them. Pure.

A list with an entry that cannot be read is an error: leaving the entry out could lose a commit, or take a branch for
deleted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from luci_scheduler.adapters.commit_answers import MAX_AUTHOR, MAX_SUBJECT, broken, line_of, note_unreadable
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import is_hash
from luci_scheduler.core.instants import Instant, in_range, parse_rfc3339
from luci_scheduler.ports import GitCommit

__all__ = [
    "LinkedCommit",
    "Target",
    "changes",
    "files_of",
    "linked",
    "linked_list",
    "refs_below",
    "target",
]

_CONTROL = re.compile("[\x00-\x1f\x7f]")


@frozen
class LinkedCommit:
    """A commit, with its place in the history."""

    commit: GitCommit
    parents: tuple[str, ...]

    @property
    def first_parent(self) -> str:
        """The commit before this one on its line; empty for the first commit."""
        return self.parents[0] if self.parents else ""


@frozen
class Target:
    """The object that a ref or a tag points to."""

    id: str
    type: str
    """``commit``, ``tag``, ``tree`` or ``blob``."""


def linked_list(entries: Any) -> list[LinkedCommit]:
    """Read a list of commits."""
    if not isinstance(entries, list):
        raise broken("the answer is not a list of commits")
    return [linked(entry) for entry in entries]


def linked(entry: Any) -> LinkedCommit:
    """Read a commit. Its time is 0 if it is unreadable; the trigger then gets the time of the delivery."""
    sha = entry.get("sha") if isinstance(entry, dict) else None
    parents = [parent.get("sha") if isinstance(parent, dict) else None for parent in _list(entry, "parents")]
    if not is_hash(sha) or not all(map(is_hash, parents)):
        raise broken("the answer holds a commit without its hash or its parents")
    record = entry.get("commit")
    record = record if isinstance(record, dict) else {}
    author = record.get("author")
    name = author.get("name") if isinstance(author, dict) else ""
    subject = line_of(record.get("message"), MAX_SUBJECT)
    commit = GitCommit(sha, _committed(sha, record), author=line_of(name, MAX_AUTHOR), subject=subject)
    return LinkedCommit(commit, tuple(map(str, parents)))


def changes(sha: str, entry: Any) -> list[tuple[str, str]]:
    """Read the old and the new path of each file in a commit's answer."""
    files = files_of(entry)
    if len(files) < len(_list(entry, "files")):
        note_unreadable(sha, "paths")
    return [_paths(file) for file in files]


def files_of(entry: Any) -> list[Mapping[str, Any]]:
    """Return the readable files in a commit's answer."""
    files = _list(entry, "files")
    return [file for file in files if isinstance(file, dict) and isinstance(file.get("filename"), str)]


def refs_below(folder: str, entries: Any) -> tuple[dict[str, str], list[str]]:
    """Read a list of refs: full name → hash of the refs in a folder, and the hashes among them that are tag objects.

    GitHub also lists refs whose name only begins like the folder's. A ref to a tree or a file is left out.
    """
    if not isinstance(entries, list):
        raise broken("the answer is not a list of refs")
    found, tags = {}, []
    for entry in entries:
        name, aim = entry.get("ref") if isinstance(entry, dict) else None, target(entry)
        if not isinstance(name, str):
            raise broken("the answer holds a ref without a name")
        is_inside = name == folder or name.startswith(f"{folder}/")
        # Git forbids control characters in names. Here they could only forge lines of the log.
        if is_inside and aim.type in ("commit", "tag") and not _CONTROL.search(name):
            found[name] = aim.id
            tags += [aim.id] if aim.type == "tag" else []
    return found, tags


def target(entry: Any) -> Target:
    """Read the object that a ref or a tag points to."""
    aim = entry.get("object") if isinstance(entry, dict) else None
    sha, kind = (aim.get(name) if isinstance(aim, dict) else None for name in ("sha", "type"))
    if not is_hash(sha) or not isinstance(kind, str):
        raise broken("the answer names no object")
    return Target(sha, kind)


def _list(entry: Any, name: str) -> list[Any]:
    values = entry.get(name) if isinstance(entry, dict) else None
    return values if isinstance(values, list) else []


def _committed(sha: str, record: Mapping[str, Any]) -> Instant:
    committer = record.get("committer")
    date = committer.get("date") if isinstance(committer, dict) else None
    try:
        return in_range(parse_rfc3339(date))  # type: ignore[arg-type] # any other value raises
    except (AttributeError, TypeError, ValueError, OverflowError):
        note_unreadable(sha, "time")
        return Instant(0)


def _paths(file: Mapping[str, Any]) -> tuple[str, str]:
    name, previous = str(file["filename"]), file.get("previous_filename")
    match file.get("status"):
        case "added":
            return "", name
        case "removed":
            return name, ""
        case "renamed" | "copied":
            return previous if isinstance(previous, str) else "", name
    return name, name
