"""Making git repositories for tests and demonstrations, quickly and without anybody's git settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.gitiles.git import GitError, git
from luci_scheduler.core.instants import SECOND

__all__ = ["Entry", "Person", "Repository"]

REGULAR, EXECUTABLE, SYMLINK, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o160000


@dataclass(frozen=True, slots=True)
class Person:
    """Who wrote a commit; ``offset`` is the time zone in minutes east of Greenwich."""

    name: str = "Ana Example"
    email: str = "ana@example.com"
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A file with a mode of its own; for a submodule the content is the commit's hash."""

    content: bytes
    mode: int = REGULAR


class Repository:
    """A git repository on disk. Every method runs one or two git processes; refs move at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, *, bare: bool = True, branch: str = "main") -> Repository:
        """Make an empty repository at ``path`` (parents are made, too), with ``HEAD`` on ``branch``."""
        path.mkdir(parents=True, exist_ok=True)
        git(path, "init", "--quiet", f"--initial-branch={branch}", "--template=", *(["--bare"] if bare else []))
        return cls(path)

    def commit(
        self,
        message: str | bytes,
        files: Mapping[str, str | bytes | Entry | None],
        branch: str = "main",
        *,
        author: Person | None = None,
        committer: Person | None = None,
        at: int = 0,
        parents: Sequence[str] | None = None,
        encoding: str = "",
    ) -> str:
        """Add a commit to a branch (made if need be) and return its hash.

        Args:
            message: the whole message; bytes go in as they are.
            files: what changes against the first parent: contents by path, None deletes.
            branch: a branch's short name, or a full name below ``refs/``.
            author: who; Ana Example unless told.
            committer: who; the author unless told.
            at: the instant in nanoseconds; git keeps whole seconds.
            parents: hashes; the branch's tip unless told. Several make a merge, an empty list a root commit that replaces the branch.
            encoding: the charset the commit declares.
        """
        ref = _full_name(branch)
        if parents is None:
            tip = self.resolve(ref)
            parents = [tip] if tip else []
        author = author or Person()
        text = message.encode() if isinstance(message, str) else message
        stream = [
            f"commit {ref}\nmark :1\n".encode(),
            _signature("author", author, at),
            _signature("committer", committer or author, at),
            f"encoding {encoding}\n".encode() if encoding else b"",
            _data(text),
        ]
        stream += [f"{'merge' if index else 'from'} {parent}\n".encode() for index, parent in enumerate(parents)]
        stream += [_change(path, content) for path, content in files.items()]
        stream.append(b"\nget-mark :1\ndone\n")
        output = git(self.path, "fast-import", "--quiet", "--force", "--done", stdin=b"".join(stream))
        return output.decode().strip()

    def tag(self, name: str, target: str, message: str | None = None, *, at: int = 0) -> str:
        """Tag a commit and return the hash the ref then has: the tag object's with a message, else the commit's."""
        value = target
        if message is not None:
            header = f"object {target}\ntype commit\ntag {name}\n".encode() + _signature("tagger", Person(), at)
            value = git(self.path, "mktag", stdin=header + b"\n" + message.encode() + b"\n").decode().strip()
        self.force_push(f"refs/tags/{name}", value)
        return value

    def force_push(self, ref: str, target: str) -> None:
        """Point a ref at a commit, wherever it was; a short name is a branch's."""
        git(self.path, "update-ref", _full_name(ref), target)

    def delete_ref(self, ref: str) -> None:
        """Delete a ref; a short name is a branch's. GitError if there is none."""
        name = _full_name(ref)
        if not self.resolve(name):
            raise GitError(f"no ref {name}")
        git(self.path, "update-ref", "-d", name)

    def prune(self) -> None:
        """Remove every commit that no ref leads to, as the service's garbage collection does after a force push."""
        git(self.path, "reflog", "expire", "--expire=now", "--all")
        git(self.path, "repack", "-a", "-d", "--quiet")
        git(self.path, "prune", "--expire=now")

    def branches(self) -> list[str]:
        """Return the full names of the branches, sorted."""
        return (
            git(self.path, "for-each-ref", "--format=%(refname)", "refs/heads")
            .decode(errors="replace")
            .split("\n")[:-1]
        )

    def can_hold(self, ref: str) -> bool:
        """Return whether git accepts a full name of a ref."""
        try:
            git(self.path, "check-ref-format", ref)
        except GitError:
            return False
        return True

    def resolve(self, revision: str) -> str:
        """Return the hash a revision stands for, or an empty string."""
        try:
            return git(self.path, "rev-parse", "--verify", "--quiet", "--end-of-options", revision).decode().strip()
        except GitError:
            return ""


def _full_name(ref: str) -> str:
    return ref if ref.startswith("refs/") else f"refs/heads/{ref}"


def _signature(role: str, person: Person, at: int) -> bytes:
    hours, minutes = divmod(abs(person.offset), 60)
    sign = "-" if person.offset < 0 else "+"
    name = f"{person.name} " if person.name else ""
    return f"{role} {name}<{person.email}> {at // SECOND} {sign}{hours:02}{minutes:02}\n".encode()


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"


def _change(path: str, content: str | bytes | Entry | None) -> bytes:
    quoted = '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if content is None:
        return f"D {quoted}\n".encode()
    if isinstance(content, str):
        content = content.encode()
    entry = content if isinstance(content, Entry) else Entry(content)
    if entry.mode == SUBMODULE:
        return f"M {entry.mode:o} {entry.content.decode()} {quoted}\n".encode()
    return f"M {entry.mode:o} inline {quoted}\n".encode() + _data(entry.content)
