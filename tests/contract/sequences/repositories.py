"""Sequences for Gitiles and GitHub: pushes, merges, force pushes, tags, deletions and all reads, against git itself."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha1
from pathlib import Path

from emulator.github import GitHubServer
from emulator.gitiles import Person, Repository
from emulator.gitiles.server import GitilesServer
from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.adapters.github import GitHubClient
from luci_scheduler.adapters.gitiles import GitilesClient
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import Gitiles, GitilesError, LogPage
from tests.contract.sequences.harness import Operation, Side

__all__ = ["GITHUB", "HOST", "draw", "github_sides", "gitiles_sides"]

HOST = "r.googlesource.com"
GITHUB = "github.com"
_START = 1_773_756_297 * SECOND
_MAIN, _SIDE = "refs/heads/main", "refs/heads/a/b"
_REFS = (_MAIN, _MAIN, _MAIN, _SIDE, "refs/heads/v1", "refs/other/x")
_TAGS = ("refs/tags/v1", "refs/tags/é")
_FILES = ("file", "src/é.c", "src/b c.h", "docs/x")
_STEPS = (0, 1, 1, 1, 5, -1)  # minutes from the commit before: clocks of committers differ
_UNKNOWN = "f" * 40
_UNKNOWN_NUMBER = -1

Change = tuple[str, str, str]
"""``write``, ``delete`` or ``rename``, the path, and the new path of a renamed file."""
Name = tuple[str, object]
"""A ref; or the hash of a commit by its number, of which the given number of digits is written."""


def _commit(entropy: random.Random) -> int:
    """Draw the number of a commit, counted round the commits so far."""
    return entropy.choice([*range(12), _UNKNOWN_NUMBER])


def _revision(entropy: random.Random) -> Name:
    if entropy.random() < 0.4:
        return ("ref", entropy.choice([*_REFS, _MAIN, _MAIN, *_TAGS]))
    return ("hash", (_commit(entropy), 40))


def _push(entropy: random.Random) -> Operation:
    changes = []
    for path in entropy.sample(_FILES, entropy.randint(1, 2)):
        kind = entropy.choice(["write", "write", "write", "delete", "rename"])
        changes.append((kind, path, entropy.choice(_FILES)))
    author = entropy.choice(["Ada Author", "é", "A" * 100])
    return Operation("push", (entropy.choice(_REFS), tuple(changes[:2]), entropy.choice(_STEPS), author))


def _change(entropy: random.Random) -> Operation:
    ref, tag, number = entropy.choice(_REFS), entropy.choice(_TAGS), _commit(entropy)
    choices: list[tuple[str, tuple[object, ...]]] = [
        ("merge", (ref, number, entropy.choice(_STEPS))),
        ("force", (ref, number)),
        ("delete", (entropy.choice([ref, tag]),)),
        ("tag", (tag, number, entropy.random() < 0.5)),
        ("collect", ()),
    ]
    return Operation(*entropy.choices(choices, [5, 3, 2, 4, 1])[0])


def _read(entropy: random.Random) -> Operation:
    start = entropy.choice([None, None, None, _commit(entropy)])
    exclude = entropy.choice([None, _revision(entropy), _revision(entropy)])
    log = (_revision(entropy), exclude, entropy.choice([1, 2, 3, 50]), start, entropy.random() < 0.5)
    prefix = entropy.choice(["refs/heads", "refs/tags", "refs/heads/a", _MAIN, "refs/none", "refs/heads/mai"])
    short = entropy.choice(["main", "v1", "a/b", "heads/main", "tags/v1", "HEAD", "none", _MAIN, "refs/tags/v1"])
    name: Name = entropy.choice([("ref", short), ("hash", (_commit(entropy), entropy.choice([8, 12, 39, 40])))])
    suffix = entropy.choice(["", "", "~1", "~2", "^", "^2", "^0", "~0", "~1^2", "^3"])
    choices = [("log", log), ("refs", (prefix,)), ("resolve", (name, suffix, entropy.random() < 0.1))]
    return Operation(*entropy.choices(choices, [5, 1, 4])[0])


def draw(entropy: random.Random) -> Operation:
    """Draw an operation."""
    return entropy.choices([_push, _change, _read], [5, 3, 6])[0](entropy)


class _GitilesSide(Side):
    """A repository, with the numbers of its commits."""

    def __init__(self, gitiles: Gitiles, repo: RepoUrl) -> None:
        self._gitiles = gitiles
        self._repo = repo
        self._commits: list[str] = []
        self._trees: dict[str, dict[str, str]] = {}
        self._names: dict[str, str] = {}
        """Hash → its name in answers, since the hashes of both sides differ."""
        self._at = _START

    def do_push(self, ref: str, changes: Sequence[Change], minutes: int, author: str) -> object:
        """Push a commit to a ref."""
        parent = self._head(ref)
        return self._pushed(ref, [parent] if parent else [], changes, minutes, author)

    def do_merge(self, ref: str, number: int, minutes: int) -> object:
        """Push a merge of a ref with a commit; without the ref or the commit, a root commit or an empty one."""
        parent, other = self._head(ref), self._known(number)
        if other:
            self._gitiles.resolve(self._repo, other)  # fails if the commit was collected
        parents = list(dict.fromkeys(item for item in (parent, other) if item))
        return self._pushed(ref, parents, [("write", "merged", "")], minutes, "Ada Author")

    def _pushed(self, ref: str, parents: list[str], changes: Sequence[Change], minutes: int, author: str) -> str:
        self._at += minutes * MINUTE
        tree = dict(self._trees.get(parents[0], {})) if parents else {}
        before, subject = dict(tree), f"Change {len(self._commits)}"
        for kind, path, new in changes:
            _apply(tree, kind, path, new, subject)
        identifier = self._write(ref, parents, (before, tree), author, subject)
        self._trees[identifier] = tree
        self._commits.append(identifier)
        return self._name(identifier, f"commit {len(self._commits)}")

    @abstractmethod
    def _write(
        self, ref: str, parents: list[str], trees: tuple[dict[str, str], dict[str, str]], author: str, subject: str
    ) -> str:
        """Create a commit that changes the first tree to the second, and point a ref at it."""

    @abstractmethod
    def _head(self, ref: str) -> str:
        """Return the commit of a branch; empty without one."""

    @abstractmethod
    def _point(self, ref: str, target: str) -> None:
        """Point a ref at a commit; an empty target deletes it."""

    def _known(self, number: int) -> str:
        is_known = self._commits and number != _UNKNOWN_NUMBER
        return self._commits[number % len(self._commits)] if is_known else ""

    def _name(self, identifier: str, new: str = "") -> str:
        return self._names.setdefault(identifier, new or identifier)

    def do_force(self, ref: str, number: int) -> object:
        """Force-push a commit."""
        if not (target := self._known(number)):
            return "no such commit"
        self._gitiles.resolve(self._repo, target)
        return self._point(ref, target)

    def do_delete(self, ref: str) -> None:
        """Delete a ref."""
        self._point(ref, "")

    def do_tag(self, ref: str, number: int, annotated: bool) -> object:
        """Tag a commit."""
        if not (target := self._known(number)):
            return "no such commit"
        self._gitiles.resolve(self._repo, target)
        if not annotated:
            return self._point(ref, target)
        return self._name(self._tag(ref, target), f"{ref} of {self._name(target)}")

    @abstractmethod
    def _tag(self, ref: str, target: str) -> str:
        """Make an annotated tag; return its hash."""

    @abstractmethod
    def do_collect(self) -> None:
        """Remove what no ref reaches."""

    def do_refs(self, prefix: str) -> object:
        """List refs."""
        return {ref: self._name(head) for ref, head in self._gitiles.refs(self._repo, prefix).items()}

    def do_resolve(self, name: Name, suffix: str, upper: bool) -> object:
        """Resolve an expression."""
        text = self._text(name)
        text = text.upper() if upper and name[0] == "hash" else text
        return self._name(self._gitiles.resolve(self._repo, text + suffix))

    def _text(self, name: Name | None) -> str:
        match name:
            case None:
                return ""
            case ("hash", (int(number), int(digits))):
                return (self._known(number) or _UNKNOWN)[:digits]
            case _:
                return str(name[1])

    def do_log(self, name: Name, exclude: Name | None, limit: int, start: int | None, diffs: bool) -> object:
        """Read a log to its end, or one page from a given commit."""
        first = "" if start is None else self._text(("hash", (start, 40)))
        pages = [self._page(name, exclude, limit, first, diffs=diffs)]
        while pages[-1].next and start is None:
            pages.append(self._page(name, exclude, limit, pages[-1].next, diffs=diffs))
        return [self._plain(page) for page in pages]

    def _page(self, name: Name, exclude: Name | None, limit: int, start: str, *, diffs: bool) -> LogPage:
        revision, hidden = self._text(name), self._text(exclude)
        return self._gitiles.log(self._repo, revision, limit=limit, exclude=hidden, start=start, diffs=diffs)

    def _plain(self, page: LogPage) -> object:
        return [replace(commit, id=self._name(commit.id)) for commit in page.commits], self._name(page.next)

    def state(self) -> object:
        """Return all refs."""
        return self.do_refs("refs/heads"), self.do_refs("refs/tags")


def _apply(tree: dict[str, str], kind: str, path: str, new: str, subject: str) -> None:
    """Change a tree. Only a whole file without changes counts as renamed."""
    if kind == "rename" and path in tree and new not in tree:
        tree[new] = tree.pop(path)
    elif kind == "delete" and path in tree:
        del tree[path]
    else:
        tree[path] = sha1(f"{path} {subject}".encode(), usedforsecurity=False).hexdigest()


class _MemorySide(_GitilesSide):
    _gitiles: MemoryGitiles

    def _write(
        self, ref: str, parents: list[str], trees: tuple[dict[str, str], dict[str, str]], author: str, subject: str
    ) -> str:
        diff, at = _diff(*trees), Instant(self._at)
        return self._gitiles.push(ref, parents=parents, diff=diff, at=at, author=author, subject=subject)[0]

    def _head(self, ref: str) -> str:
        return self._gitiles.heads.get(ref, "")

    def _point(self, ref: str, target: str) -> None:
        if target:
            self._gitiles.heads[ref] = target
        else:
            self._gitiles.heads.pop(ref, None)

    def _tag(self, ref: str, target: str) -> str:
        return self._gitiles.tag(ref, target)

    def do_collect(self) -> None:
        self._gitiles.collect()


class _GitSide(_GitilesSide):
    def __init__(self, gitiles: Gitiles, repo: RepoUrl, repository: Repository) -> None:
        super().__init__(gitiles, repo)
        self._repository = repository

    def _write(
        self, ref: str, parents: list[str], trees: tuple[dict[str, str], dict[str, str]], author: str, subject: str
    ) -> str:
        before, after = trees
        files: dict[str, str | None] = {path: None for path in before if path not in after}
        files |= {path: text for path, text in after.items() if before.get(path) != text}
        person = Person(author)
        return self._repository.commit(f"{subject}\n\nbody\n", files, ref, author=person, at=self._at, parents=parents)

    def _head(self, ref: str) -> str:
        return self._repository.resolve(ref)

    def _point(self, ref: str, target: str) -> None:
        if target:
            self._repository.force_push(ref, target)
        elif self._head(ref):
            self._repository.delete_ref(ref)

    def _tag(self, ref: str, target: str) -> str:
        return self._repository.tag(ref.removeprefix("refs/tags/"), target, "message")

    def do_collect(self) -> None:
        self._repository.prune()


def _diff(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the changes between two trees as git lists them: by path, a renamed file at its new path."""
    gone = {text: path for path, text in before.items() if path not in after}
    changes = {}
    for path, text in after.items():
        if path not in before:
            changes[path] = (gone.pop(text, ""), path)
        elif before[path] != text:
            changes[path] = (path, path)
    changes |= {path: (path, "") for path in gone.values()}
    return [changes[path] for path in sorted(changes, key=str.encode)]


@contextmanager
def gitiles_sides(server: GitilesServer, client: GitilesClient, root: Path, name: str) -> Iterator[tuple[Side, Side]]:
    """Yield both repositories, empty; ``root`` is the server's folder, and ``name`` names no repository there."""
    repo = RepoUrl(HOST, name)
    repository = Repository.create(root / HOST / name)
    yield _MemorySide(MemoryGitiles(), repo), _GitSide(client, repo, repository)
    with suppress(OSError):
        server.clear_requests()


class _LineSide(_GitilesSide):
    """A repository on GitHub, whose logs are first-parent lines. ``start`` may only be a commit of the line."""

    def apply(self, operation: Operation) -> object:
        """Run an operation; an error of GitHub counts as any error with the same code."""
        outcome, answer, events = super().apply(operation)  # type: ignore[misc] # a tuple of three
        is_failure = outcome == "raised" and len(answer) == len(_FAILURE)
        return outcome, (GitilesError.__name__, *answer[1:]) if is_failure else answer, events

    def do_log(self, name: Name, exclude: Name | None, limit: int, start: int | None, diffs: bool) -> object:
        """Read a line to its end, or one page from one of its commits."""
        if exclude and self._text(name) == self._text(exclude):
            return "nothing is asked for"
        if start is None:
            return super().do_log(name, exclude, limit, None, diffs)
        line = self._page(name, exclude, _WHOLE, "", diffs=False).commits
        if not line:
            return "the line is empty"
        return self._plain(self._page(name, exclude, limit, line[start % len(line)].id, diffs=diffs))


_FAILURE = ("class", "code", "transient", "throttled", "retry_after")
_WHOLE = 500  # commits; no sequence has as many


class _MemoryLineSide(_LineSide, _MemorySide):
    pass


class _GitHubSide(_LineSide, _GitSide):
    pass


@contextmanager
def github_sides(server: GitHubServer, client: GitHubClient, root: Path, name: str) -> Iterator[tuple[Side, Side]]:
    """Yield both repositories, empty; the arguments are those of `gitiles_sides`."""
    repo = RepoUrl(GITHUB, f"owner/{name}")
    repository = Repository.create(root / GITHUB / "owner" / name)
    yield _MemoryLineSide(MemoryGitiles(), repo), _GitHubSide(client, repo, repository)
    server.clear_requests()
