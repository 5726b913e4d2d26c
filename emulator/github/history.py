"""Reads commits, ranges, differences and tags of a repository with git."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from emulator.gitiles.commits import Commit, Signature, parse_signature, read_commits
from emulator.gitiles.git import GitError, git, git_beginning
from emulator.gitiles.pages import is_plain_revision

__all__ = ["MOST_FILES", "ChangedFile", "History", "Range", "TagObject"]

MOST_FILES = 3_000
"""GitHub lists no more files of a commit."""

_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_HASH = re.compile(r"[0-9a-f]{40}")
_SECTION = re.compile(r"^diff --git ", re.MULTILINE)
_STATUSES = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}
_PATCHES = 1 << 20  # bytes of all patches of a commit
_KEPT = 16  # ranges and differences; they never change


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file that differs between two trees.

    Attributes:
        blob: the hash of the new content; of the old content if the file was removed.
        name: the path.
        status: added, removed, modified, renamed, copied or changed (the mode or the type).
        additions: the added lines.
        deletions: the removed lines.
        previous: the old path of a renamed or copied file; otherwise empty.
        patch: the hunks; empty for no text and for a difference that is too large.
    """

    blob: str
    name: str
    status: str
    additions: int = 0
    deletions: int = 0
    previous: str = ""
    patch: str = ""


@dataclass(frozen=True, slots=True)
class Range:
    """The comparison of two commits.

    Attributes:
        base: the hash of the older end.
        head: the hash of the newer end.
        merge_base: the best common ancestor; empty if the histories have nothing in common.
        ahead: the commits that lead to ``head`` and not to ``base``, the oldest first.
        behind: the number of commits that lead to ``base`` and not to ``head``.
    """

    base: str
    head: str
    merge_base: str
    ahead: tuple[str, ...]
    behind: int

    @property
    def status(self) -> str:
        """``ahead``, ``behind``, ``diverged`` or ``identical``."""
        if self.ahead:
            return "diverged" if self.behind else "ahead"
        return "behind" if self.behind else "identical"


@dataclass(frozen=True, slots=True)
class TagObject:
    """An annotated tag: its fields ``object``, ``type``, ``tag`` and ``message``, and its tagger."""

    fields: dict[str, str]
    tagger: Signature | None


class History:
    """The history of one repository.

    Args:
        path: the folder.
        hidden: commits that are not found yet.

    Attributes:
        missed: the hidden commits that a call looked for.
    """

    def __init__(self, path: Path, hidden: Collection[str]) -> None:
        self._path = path
        self._hidden = hidden
        self.missed: set[str] = set()

    def resolve(self, *revisions: str) -> list[str]:
        """Return the commits of hashes and names of refs; an empty text for a missing or hidden commit.

        A tag's name leads to its commit, but the hash of a tag object does not.
        """
        plain = [revision for revision in revisions if is_plain_revision(revision)]
        names = "".join(f"{one}\n" if _HASH.fullmatch(one) else f"{one}^{{commit}}\n" for one in plain)
        lines = (
            git(self._path, "cat-file", "--batch-check", stdin=names.encode()).decode(errors="replace") if plain else ""
        )
        found = dict(zip(plain, lines.split("\n"), strict=False))
        return [self._visible(found.get(revision, "")) for revision in revisions]

    def _visible(self, line: str) -> str:
        """Return the commit in git's line for a name: hash, type, size."""
        value, _, rest = line.partition(" ")
        if not rest.startswith("commit "):
            return ""
        if value in self._hidden:
            self.missed.add(value)
            return ""
        return value

    def compare(self, base: str, head: str) -> Range:
        """Compare two commits, which must exist."""
        return _compare(self._path, base, head)

    def commits(self, ids: Sequence[str]) -> list[Commit]:
        """Return the commits of full hashes, in the same order."""
        return read_commits(self._path, ids)

    def leading_to(self, head: str, skip: int, count: int, path: str = "") -> list[str]:
        """Return the commits that lead to a commit, the newest first; with a path only the commits that changed it."""
        arguments = ("rev-list", f"--skip={skip}", f"--max-count={count}", head, "--", *([path] if path else []))
        return git(self._path, *arguments).decode().split()

    def files(self, base: str, head: str) -> list[ChangedFile]:
        """Return the files that differ between two commits, at most 3,000; an empty ``base`` is the empty tree."""
        return list(_files(self._path, base or _EMPTY_TREE, head))

    def tag(self, value: str) -> TagObject | None:
        """Return a tag object by its hash; None if there is none."""
        try:
            raw = git(self._path, "cat-file", "tag", value)
        except GitError:
            return None
        header, _, message = raw.partition(b"\n\n")
        fields = dict(line.partition(b" ")[::2] for line in header.split(b"\n"))
        texts = {name: fields.get(name.encode(), b"").decode(errors="replace") for name in ("object", "type", "tag")}
        tagger = parse_signature(fields[b"tagger"]) if b"tagger" in fields else None
        return TagObject({**texts, "message": message.decode(errors="replace")}, tagger)


@lru_cache(maxsize=_KEPT)
def _compare(path: Path, base: str, head: str) -> Range:
    try:
        merge_base = git(path, "merge-base", base, head).decode().strip()
    except GitError:
        merge_base = ""
    lines = git(path, "rev-list", "--reverse", "--left-right", f"{base}...{head}", "--").decode().split()
    ahead = tuple(line[1:] for line in lines if line.startswith(">"))
    return Range(base, head, merge_base, ahead, len(lines) - len(ahead))


@lru_cache(maxsize=_KEPT)
def _files(path: Path, base: str, head: str) -> tuple[ChangedFile, ...]:
    common = ("diff-tree", "-r", "-C", "--no-ext-diff", "--no-textconv")
    words = git(path, *common, "-z", "--raw", "--numstat", "--no-abbrev", base, head).decode(errors="replace")
    found = list(_with_numbers(iter(words.split("\0"))))[:MOST_FILES]
    raw = git_beginning(path, _PATCHES, *common, "-p", "--no-color", base, head)
    patches = _patches(raw.decode(errors="replace"), is_cut=len(raw) == _PATCHES)
    return tuple(replace(file, patch=_next_patch(file, patches)) for file in found)


def _with_numbers(words: Iterator[str]) -> Iterator[ChangedFile]:
    """Yield the files of git's output: first a raw line for each file, then the number of lines for each."""
    files: list[ChangedFile] = []
    for word in words:
        if word.startswith(":"):
            files.append(_file(word, words))
        elif word:
            file = files[0]
            added, deleted, name = word.split("\t", 2)
            if not name:  # a renamed or copied file: both paths follow
                next(words), next(words)
            yield replace(files.pop(0), name=file.name, additions=_lines(added), deletions=_lines(deleted))


def _file(word: str, words: Iterator[str]) -> ChangedFile:
    old_mode, new_mode, old, new, letter = word[1:].split(" ")
    previous = next(words) if letter[0] in "RC" else ""
    is_mode = letter == "M" and old == new and old_mode != new_mode
    status = "changed" if is_mode else _STATUSES.get(letter[0], "modified")
    return ChangedFile(old if letter == "D" else new, next(words), status, previous=previous)


def _lines(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _patches(text: str, *, is_cut: bool) -> Iterator[str]:
    """Yield the hunks of each section of a difference; a cut difference lacks its last sections."""
    sections = _SECTION.split(text)[1:]
    for section in sections[:-1] if is_cut else sections:
        _, start, hunks = f"\n{section}".partition("\n@@")
        yield f"{start[1:]}{hunks}".rstrip("\n")


def _next_patch(file: ChangedFile, patches: Iterator[str]) -> str:
    """Return the hunks of the next file; a change of a file's type has two sections."""
    patch = next(patches, "")
    if file.status == "changed" and file.additions + file.deletions:
        next(patches, "")
    return patch
