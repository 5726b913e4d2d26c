"""Commits in Gitiles' format, read from git, and the differences of their trees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from emulator.gitiles.git import git

__all__ = ["Commit", "Signature", "commit_to_json", "parse_signature", "read_commits", "tree_diffs"]

_WHEN = re.compile(rb" ([0-9]{1,12}) ([+-])([0-9]{2})([0-9]{2})")
_LAST_SECOND = 253_402_214_400  # the last day of the year 9999, so that each zone has a date
_DAY_MINUTES = 24 * 60
_NO_OBJECT = "0" * 40
_NO_PATH = "/dev/null"
_TYPES = {"A": "add", "M": "modify", "D": "delete", "R": "rename", "C": "copy"}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Signature:
    """The author or committer of a commit, or the tagger of a tag.

    Attributes:
        name: the name.
        email: the e-mail address.
        seconds: the time in seconds since the epoch.
        offset: the time zone in minutes east of UTC.
    """

    name: str
    email: str
    seconds: int
    offset: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A decoded commit."""

    id: str
    tree: str
    parents: tuple[str, ...]
    author: Signature
    committer: Signature
    message: str


def read_commits(repository: Path, ids: Sequence[str]) -> list[Commit]:
    """Return the commits of full hashes, in the same order."""
    if not ids:
        return []
    output = git(repository, "cat-file", "--batch", stdin="\n".join(ids).encode() + b"\n")
    commits, position = [], 0
    for identifier in ids:
        end = output.index(b"\n", position)
        size = int(output[position:end].split()[2])
        commits.append(_parse(identifier, output[end + 1 : end + 1 + size]))
        position = end + size + 2
    return commits


def commit_to_json(commit: Commit, diff: list[dict[str, Any]] | None, *, zones: bool) -> dict[str, Any]:
    """Return a commit's JSON.

    Args:
        commit: the commit.
        diff: its ``tree_diff``; None to leave it out.
        zones: whether each time is shown in its own zone.
    """
    message: dict[str, Any] = {
        "commit": commit.id,
        "tree": commit.tree,
        "parents": list(commit.parents),
        "author": _person(commit.author, zones=zones),
        "committer": _person(commit.committer, zones=zones),
        "message": commit.message,
    }
    return message if diff is None else {**message, "tree_diff": diff}


def tree_diffs(repository: Path, commits: Iterable[Commit]) -> dict[str, list[dict[str, Any]]]:
    """Return each commit's differences from its parent.

    A root commit adds all its files; a merge has no differences.
    """
    diffs: dict[str, list[dict[str, Any]]] = {commit.id: [] for commit in commits}
    if diffs:
        arguments = ("diff-tree", "--stdin", "-r", "-M", "-z", "--raw", "--root", "--no-abbrev", "--no-ext-diff")
        output = git(repository, *arguments, stdin="\n".join(diffs).encode() + b"\n")
        _read_diffs(iter(output.decode(errors="replace").split("\0")), diffs)
    return diffs


def _read_diffs(words: Iterator[str], diffs: dict[str, list[dict[str, Any]]]) -> None:
    current: list[dict[str, Any]] = []
    for word in words:
        if not word.startswith(":"):
            current = diffs.get(word.strip(), current)
            continue
        old_mode, new_mode, old_id, new_id, status = word[1:].split(" ")
        old_path = next(words)
        new_path = next(words) if status[0] in "RC" else old_path
        old = {"old_id": old_id, "old_mode": int(old_mode, 8), "old_path": old_path}
        new = {"new_id": new_id, "new_mode": int(new_mode, 8), "new_path": new_path}
        if status[0] == "T":  # the type changed, such as from file to link: shown as two changes
            current.append(_change("D", old, new))
            current.append(_change("A", old, new))
        else:
            change = _change(status[0], old, new)
            current.append({**change, "score": int(status[1:])} if status[0] in "RC" else change)


def _change(status: str, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    if status == "A":
        old = {"old_id": _NO_OBJECT, "old_mode": 0, "old_path": _NO_PATH}
    elif status == "D":
        new = {"new_id": _NO_OBJECT, "new_mode": 0, "new_path": _NO_PATH}
    return {"type": _TYPES[status], **old, **new}


def _parse(identifier: str, raw: bytes) -> Commit:
    header, _, message = raw.partition(b"\n\n")
    fields: dict[str, list[bytes]] = {}
    for line in header.split(b"\n"):
        if not line.startswith(b" "):
            name, _, value = line.partition(b" ")
            fields.setdefault(name.decode(errors="replace"), []).append(value)
    encoding = fields.get("encoding", [b"utf-8"])[0].decode("ascii", errors="replace")
    return Commit(
        id=identifier,
        tree=fields["tree"][0].decode(),
        parents=tuple(parent.decode() for parent in fields.get("parent", [])),
        author=parse_signature(fields.get("author", [b""])[0], encoding),
        committer=parse_signature(fields.get("committer", [b""])[0], encoding),
        message=_decode(message, encoding),
    )


def _decode(raw: bytes, encoding: str) -> str:
    """Decode text in the commit's charset; invalid bytes become U+FFFD, and half of a surrogate pair ``?``."""
    try:
        text = raw.decode(encoding, errors="replace")
    except (LookupError, ValueError):  # no such charset, or it cannot replace invalid bytes
        text = raw.decode(errors="replace")
    return text.encode(errors="replace").decode()


def parse_signature(raw: bytes, encoding: str = "utf-8") -> Signature:
    """Parse an author, committer or tagger. Git also stores malformed ones; they have no name, or the time zero."""
    who, _, when = raw.rpartition(b">")
    name, _, email = who.partition(b"<")
    seconds, offset = _time(when)
    return Signature(_decode(name, encoding).strip(), _decode(email, encoding), seconds, offset)


def _time(when: bytes) -> tuple[int, int]:
    """Return the seconds since the epoch and the minutes east of UTC; zeros for a time that has no date."""
    match = _WHEN.match(when)
    seconds = int(match[1]) if match else 0
    if match is None or seconds > _LAST_SECOND:
        return 0, 0
    minutes = int(match[3]) * 60 + int(match[4])
    offset = -minutes if match[2] == b"-" else minutes
    return seconds, offset if minutes < _DAY_MINUTES else 0


def _person(signature: Signature, *, zones: bool) -> dict[str, str]:
    zone = timezone(timedelta(minutes=signature.offset)) if zones else UTC
    moment = datetime.fromtimestamp(signature.seconds, zone)
    # Not strftime, because the names of days and months are English in any locale.
    text = f"{_DAYS[moment.weekday()]} {_MONTHS[moment.month - 1]} {moment:%d %H:%M:%S %Y}"
    return {"name": signature.name, "email": signature.email, "time": f"{text} {moment:%z}" if zones else text}
