"""Creates git repositories for tests and demos, without the user's git settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import LocalCloudError
from emulator.gitiles.git import GitError, git
from emulator.gitiles.projects import is_read_only, read_only_sentence
from luci_scheduler.core.instants import SECOND

__all__ = ["Entry", "Person", "Repository"]

REGULAR, EXECUTABLE, SYMLINK, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o160000


@dataclass(frozen=True, slots=True)
class Person:
    """An author or committer; ``offset`` is the time zone in minutes east of UTC."""

    name: str = "Ana Example"
    email: str = "ana@example.com"
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A file with its mode. The content of a submodule is the commit's hash."""

    content: bytes
    mode: int = REGULAR


class Repository:
    """A git repository on disk. Each method runs one or two git processes; refs move at once.

    A repository that is a symbolic link, or below one in ``root``, belongs to its user: methods that would write raise
    `LocalCloudError`.
    """

    def __init__(self, path: Path, root: Path | None = None) -> None:
        self.path = path
        self._root = root or path.parent

    @classmethod
    def create(cls, path: Path, *, bare: bool = True, branch: str = "main") -> Repository:
        """Create an empty repository at ``path``, including parent folders, with ``HEAD`` on ``branch``."""
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
        """Add a commit to a branch, which is created if necessary, and return the commit's hash.

        Args:
            message: the whole message; bytes are stored unchanged.
            files: the changes against the first parent: contents by path, None to delete.
            branch: a branch's short name, or a full name below ``refs/``.
            author: the author; Ana Example by default.
            committer: the committer; the author by default.
            at: the instant in nanoseconds; git stores whole seconds.
            parents: hashes; the branch's tip by default. Several parents make a merge; no parents make a root commit,
                which replaces the branch.
            encoding: the charset that the commit declares.
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
        output = self._write("fast-import", "--quiet", "--force", "--done", stdin=b"".join(stream))
        return output.decode().strip()

    def tag(self, name: str, target: str, message: str | None = None, *, at: int = 0) -> str:
        """Tag a commit and return the hash of the ref: the tag object's if there is a message, else the commit's."""
        value = target
        if message is not None:
            header = f"object {target}\ntype commit\ntag {name}\n".encode() + _signature("tagger", Person(), at)
            value = self._write("mktag", stdin=header + b"\n" + message.encode() + b"\n").decode().strip()
        self.force_push(f"refs/tags/{name}", value)
        return value

    def force_push(self, ref: str, target: str) -> None:
        """Point a ref at a commit. A short name is the name of a branch."""
        self._write("update-ref", _full_name(ref), target)

    def delete_ref(self, ref: str) -> None:
        """Delete a ref. A short name is the name of a branch.

        Raises:
            GitError: the ref does not exist.
        """
        name = _full_name(ref)
        if not self.resolve(name):
            raise GitError(f"no ref {name}")
        self._write("update-ref", "-d", name)

    def prune(self) -> None:
        """Remove all unreachable commits, like the service's garbage collection after a force push."""
        self._write("reflog", "expire", "--expire=now", "--all")
        self._write("repack", "-a", "-d", "--quiet")
        self._write("prune", "--expire=now")

    def branches(self) -> list[str]:
        """Return the full names of the branches, sorted."""
        return (
            git(self.path, "for-each-ref", "--format=%(refname)", "refs/heads")
            .decode(errors="replace")
            .split("\n")[:-1]
        )

    def can_hold(self, ref: str) -> bool:
        """Return whether git accepts the full name of a ref."""
        try:
            git(self.path, "check-ref-format", ref)
        except GitError:
            return False
        return True

    def _write(self, *arguments: str, stdin: bytes = b"") -> bytes:
        if is_read_only(self.path, self._root):
            raise LocalCloudError(read_only_sentence(self.path))
        return git(self.path, *arguments, stdin=stdin)

    def head(self) -> str:
        """Return the full name of the branch of ``HEAD``, or an empty string."""
        try:
            return git(self.path, "symbolic-ref", "--quiet", "HEAD").decode().strip()
        except GitError:
            return ""

    def resolve(self, revision: str) -> str:
        """Return the hash of a revision, or an empty string."""
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
