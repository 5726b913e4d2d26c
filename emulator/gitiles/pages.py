"""The pages of a repository: logs, refs, commits, trees and files, without HTTP except for the query's values."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkzeug.datastructures import MultiDict

from emulator.gitiles.commits import commit_to_json, read_commits, tree_diffs
from emulator.gitiles.errors import GitilesError
from emulator.gitiles.git import GitError, git, git_beginning

__all__ = ["RefRow", "RepositoryPages", "is_plain_revision"]

_DEFAULT_PAGE, _MAX_PAGE = 100, 10_000
_FORBIDDEN_IN_REVISIONS = ("..", "@{", ":", "\n", "\\", "?", "*", "[", " ")
_SHORT_HASH = re.compile(r"[0-9a-f]{4,39}")
_FLAGS = {
    "first-parent": "--first-parent",
    "topo-order": "--topo-order",
    "reverse": "--reverse",
    "no-merges": "--no-merges",
}


@dataclass(frozen=True, slots=True)
class RefRow:
    """A branch or a tag."""

    ref: str
    """The full name."""
    commit: str
    """The commit's hash, also for an annotated tag."""
    time: str
    """When the commit, or the annotated tag, was made."""
    subject: str


class RepositoryPages:
    """The pages of one repository, as JSON.

    Args:
        path: the repository's folder.
        hidden: commits that no page finds yet, although refs may show them.
        zones: whether each time is shown in its own zone.

    Attributes:
        missed: the hidden commits that a page requested.
    """

    def __init__(self, path: Path, hidden: Collection[str], *, zones: bool) -> None:
        self._path = path
        self._hidden = hidden
        self._zones = zones
        self.missed: set[str] = set()

    def log(self, spec: str, query: MultiDict[str, str]) -> dict[str, Any]:
        """Return ``+log/<rev>`` or ``+log/<old>..<new>``, either with a path after the revision."""
        if ".." in spec:
            old, _, rest = spec.partition("..")
            new, path = self.split_revision(rest or "HEAD")
            ends = self._commits([old, new])
            revisions = [ends[1], f"^{ends[0]}"]
        else:
            revision, path = self.split_revision(spec or "HEAD")
            revisions = self._commits([revision])
        size = _page_size(query.get("n"))
        # One more than the page shows that there is a next one. Another start has to be looked for in the whole log.
        most = None if "s" in query or _is_on(query, "reverse") else size + 1
        return self._page(self._walk(revisions, path, query, most), query, size)

    def refs(self, prefix: str) -> dict[str, dict[str, str]]:
        """Return ``+refs/<prefix>``.

        Names are full without a prefix, and if the prefix is itself a ref; otherwise they are relative to the prefix.
        """
        refs = self._all_refs()
        if not prefix:
            return refs
        full = f"refs/{prefix}"
        if full in refs:
            return {full: refs[full]}
        return {name.removeprefix(f"{full}/"): value for name, value in refs.items() if name.startswith(f"{full}/")}

    def commit(self, revision: str) -> dict[str, Any]:
        """Return ``+/<rev>``: a commit with its differences."""
        commit = read_commits(self._path, self._commits([revision]))[0]
        return commit_to_json(commit, tree_diffs(self._path, [commit])[commit.id], zones=self._zones)

    def raw_commit(self, revision: str) -> bytes:
        """Return a commit as git stores it."""
        return git(self._path, "cat-file", "commit", self._commits([revision])[0])

    def tree(self, revision: str, path: str) -> dict[str, Any]:
        """Return a folder: its ID and its entries. A file has no JSON form: 400."""
        kind, identifier, _ = self.entry(revision, path)
        if kind != "tree":
            raise GitilesError(400, "UNSUPPORTED_RESPONSE_FORMAT")
        entries = []
        for line in git(self._path, "ls-tree", "-z", identifier).decode(errors="replace").split("\0")[:-1]:
            details, name = line.split("\t", 1)
            mode, entry_kind, entry_id = details.split(" ")
            entries.append({"mode": int(mode, 8), "type": entry_kind, "id": entry_id, "name": name})
        return {"id": identifier, "entries": entries}

    def entry(self, revision: str, path: str) -> tuple[str, str, int]:
        """Return type, ID and mode of the entry at ``path``; 404 if there is none."""
        commit = self._commits([revision])[0]
        if not path:
            return "tree", git(self._path, "rev-parse", f"{commit}^{{tree}}").decode().strip(), 0o40000
        output = git(self._path, "ls-tree", "-z", commit, "--", path).decode(errors="replace")
        if not output:
            raise GitilesError(404, "OBJECT_NOT_FOUND")
        mode, kind, identifier = output.split("\t", 1)[0].split(" ")
        return kind, identifier, int(mode, 8)

    def content(self, kind: str, identifier: str) -> bytes:
        """Return the bytes of a file, or the listing of a folder as text, in base64."""
        raw = (
            git(self._path, "cat-file", "blob", identifier)
            if kind == "blob"
            else git(self._path, "ls-tree", identifier)
        )
        return base64.b64encode(raw)

    def head(self) -> str:
        """Return the full name of the branch that ``HEAD`` names, or its hash; empty without a commit."""
        try:
            revision = git(self._path, "rev-parse", "--verify", "--quiet", "HEAD").decode().strip()
        except GitError:
            return ""
        try:
            return git(self._path, "symbolic-ref", "--quiet", "HEAD").decode(errors="replace").strip()
        except GitError:
            return revision

    def latest_refs(self, folder: str, count: int) -> list[RefRow]:
        """Return the refs of a folder, such as ``refs/heads``, with the latest commits or tags first."""
        fields = ("refname", "objectname", "*objectname", "creatordate:format:%Y-%m-%d %H:%M:%S UTC", "subject")
        line_format = "%00".join(f"%({field})" for field in fields)
        arguments = ("--sort=-creatordate", f"--count={count}", f"--format={line_format}", folder)
        rows = (line.split("\0") for line in _lines(git(self._path, "for-each-ref", *arguments)))
        return [RefRow(ref, peeled or value, time, subject) for ref, value, peeled, time, subject in rows]

    def difference(self, revision: str, limit: int) -> tuple[str, bool]:
        """Return a commit's difference from its parent as text, and whether it was cut after ``limit`` bytes."""
        options = ("-p", "-M", "--root", "--no-commit-id", "--no-color", "--no-ext-diff", "--no-textconv")
        raw = git_beginning(self._path, limit + 1, "diff-tree", *options, revision)
        return raw[:limit].decode(errors="replace"), len(raw) > limit

    def beginning(self, blob: str, limit: int) -> tuple[bytes, int]:
        """Return the first ``limit`` bytes of a file, and its size."""
        size = int(git(self._path, "cat-file", "-s", blob))
        return git_beginning(self._path, limit, "cat-file", "blob", blob), size

    def split_revision(self, text: str) -> tuple[str, str]:
        """Split ``<rev>/<path>`` at the shortest existing revision; 404 if there is none."""
        segments = text.strip("/").split("/")
        candidates = ["/".join(segments[:count]) for count in range(1, len(segments) + 1)]
        for index, found in enumerate(self._resolve(candidates), 1):
            if found:
                return candidates[index - 1], "/".join(segments[index:])
        raise GitilesError(404, "OBJECT_NOT_FOUND")

    def _commits(self, revisions: list[str]) -> list[str]:
        found = self._resolve(revisions)
        if not all(found):
            raise GitilesError(404, "OBJECT_NOT_FOUND")
        return found

    def _resolve(self, revisions: list[str]) -> list[str]:
        """Resolve revisions to commits; a missing or hidden commit gives an empty string."""
        plain = [revision for revision in revisions if is_plain_revision(revision)]
        lines = dict(zip(plain, self._look_up([f"{revision}^{{commit}}" for revision in plain]), strict=True))
        # For a peeled short hash, git reports only "missing". Without the peeling it also reports whether the hash is
        # ambiguous.
        short = [name for name, line in lines.items() if line.endswith(" missing") and _SHORT_HASH.fullmatch(name)]
        if any(line.endswith(" ambiguous") for line in self._look_up(short)):
            raise GitilesError(400, "AMBIGUOUS_OBJECT")
        return [self._visible_commit(lines.get(revision, "")) for revision in revisions]

    def _visible_commit(self, line: str) -> str:
        """Return the commit in git's line for a name, or an empty string. Record a hidden commit as missed."""
        words = line.split(" ")
        if len(words) != 3 or words[1] != "commit":  # noqa: PLR2004 - ID, type, size
            return ""
        if words[0] in self._hidden:
            self.missed.add(words[0])
            return ""
        return words[0]

    def _look_up(self, names: list[str]) -> list[str]:
        """Return git's line for each name: hash, type and size, or the name and the problem."""
        if not names:
            return []
        text = "".join(f"{name}\n" for name in names)
        return _lines(git(self._path, "cat-file", "--batch-check", stdin=text.encode()))

    def _walk(self, revisions: list[str], path: str, query: MultiDict[str, str], most: int | None) -> list[str]:
        arguments = [option for name, option in _FLAGS.items() if _is_on(query, name)]
        arguments += [f"--{name}={query[name]}" for name in ("author", "committer") if query.get(name)]
        arguments += [f"--max-count={most}"] if most else []
        command = ["log", "--format=%H", "--follow"] if path and _is_on(query, "follow") else ["rev-list"]
        try:
            return git(self._path, *command, *arguments, *revisions, "--", *([path] if path else [])).decode().split()
        except GitError as error:  # the revisions exist, so the author or committer is an invalid regular expression
            raise GitilesError(400, "INCORECT_PARAMETER") from error

    def _page(self, ids: list[str], query: MultiDict[str, str], size: int) -> dict[str, Any]:
        starts = query.getlist("s")
        position = 0
        if starts:
            if len(starts) > 1:
                raise GitilesError(404, "OBJECT_NOT_FOUND")
            start = self._commits(starts)[0]
            position = ids.index(start) if start in ids else len(ids)
        commits = read_commits(self._path, ids[position : position + size])
        diffs = tree_diffs(self._path, commits) if _is_on(query, "name-status") else {}
        page: dict[str, Any] = {
            "log": [commit_to_json(commit, diffs.get(commit.id), zones=self._zones) for commit in commits]
        }
        if starts and 0 < position < len(ids):
            page["previous"] = ids[max(0, position - size)]
        if position + size < len(ids):
            page["next"] = ids[position + size]
        return page

    def _all_refs(self) -> dict[str, dict[str, str]]:
        refs: dict[str, dict[str, str]] = {}
        line_format = "%(refname)%00%(objectname)%00%(*objectname)%00%(symref)"
        for line in _lines(git(self._path, "for-each-ref", f"--format={line_format}")):
            name, value, peeled, target = line.split("\0")
            refs[name] = _ref(value, peeled, target)
        try:
            target = git(self._path, "symbolic-ref", "--quiet", "HEAD").decode(errors="replace").strip()
            head = refs[target]["value"] if target in refs else ""
        except GitError:
            target, head = "", git(self._path, "rev-parse", "HEAD").decode().strip()
        return {"HEAD": _ref(head, "", target), **refs} if head else refs


def _ref(value: str, peeled: str, target: str) -> dict[str, str]:
    entry = {"value": value, "peeled": peeled, "target": target}
    return {name: text for name, text in entry.items() if text}


def _lines(output: bytes) -> list[str]:
    """Split git's output at line feeds only: a ref's name may contain other line separators."""
    return output.decode(errors="replace").split("\n")[:-1]


def is_plain_revision(revision: str) -> bool:
    """Return whether Gitiles reads the revision: a name or hash, optionally followed by ``~2`` or ``^``."""
    return (
        bool(revision)
        and not revision.startswith("-")
        and not any(part in revision for part in _FORBIDDEN_IN_REVISIONS)
    )


def _is_on(query: MultiDict[str, str], name: str) -> bool:
    return query.get(name) in {"", "1", "true"}


def _page_size(text: str | None) -> int:
    try:
        size = int(text) if text else _DEFAULT_PAGE
    except ValueError:
        return _DEFAULT_PAGE
    if size <= 0:
        raise GitilesError(500, "INTERNAL_SERVER_ERROR")
    return min(size, _MAX_PAGE)
