"""A repository with every kind of history, made by two git processes, and requests to the server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from emulator.clock import SteppedClock
from emulator.github import GitHubServer
from emulator.gitiles.git import git
from emulator.gitiles.repository import Repository
from luci_scheduler.core.instants import SECOND, Instant

__all__ = [
    "NOW",
    "OWNER",
    "TOKEN",
    "WIDGET",
    "Stream",
    "World",
    "build",
    "get",
    "read_sample",
    "shape_differences",
    "stepped",
]

OWNER = "example-org"
WIDGET = f"{OWNER}/widget"
NOW = Instant(1_773_756_297 * SECOND)
LONG, BIG = 102, 3_001
SAMPLES = Path(__file__).parents[3] / "samples" / "github"
_AT = 1_773_756_000
_TIMEOUT = 30
TOKEN = "secret"
_TEXT = "".join(f"line {number}\n" for number in range(30))


@dataclass
class Stream:
    """Commits and refs of a repository, which one git process makes."""

    _text: list[str] = field(default_factory=list)
    _marks: int = 0

    def commit(self, ref: str, message: str, files: Mapping[str, str | None], parents: Sequence[int] = ()) -> int:
        """Add a commit, and return its number. A file named with ``!`` at the end of its path is executable."""
        self._marks += 1
        lines = [f"commit {ref}", f"mark :{self._marks}", f"committer Ana <ana@example.com> {_AT + self._marks} +0000"]
        lines += [f"data {len(message.encode())}", message]
        lines += [f"{'merge' if index else 'from'} :{parent}" for index, parent in enumerate(parents)]
        if not parents:
            lines.insert(0, f"reset {ref}")
        for path, content in files.items():
            if content is None:
                lines.append(f"D {path}")
            else:
                mode = "100755" if path.endswith("!") else "100644"
                lines += [f"M {mode} inline {path.rstrip('!')}", f"data {len(content.encode())}", content]
        self._text += lines
        return self._marks

    def ref(self, name: str, commit: int) -> None:
        """Point a ref at a commit."""
        self._text += [f"reset {name}", f"from :{commit}"]

    def tag(self, name: str, commit: int) -> None:
        """Make an annotated tag of a commit."""
        self._text += [f"tag {name}", f"from :{commit}", f"tagger Ana <ana@example.com> {_AT} +0000", "data 12"]
        self._text += ["Version 1.0\n"]

    def write(self, repository: Repository) -> list[str]:
        """Make everything, and return the hashes of the commits by number; index 0 is unused."""
        asked = [f"get-mark :{number}" for number in range(1, self._marks + 1)]
        text = "\n".join([*self._text, *asked, "done\n"])
        output = git(repository.path, "fast-import", "--quiet", "--force", "--done", stdin=text.encode())
        return ["", *output.decode().split()]


@dataclass
class World:
    """The repository ``example-org/widget`` and its commits by name."""

    root: Path
    repository: Repository
    commits: dict[str, str]
    long: list[str]
    """The commits of the branch ``long`` behind ``c1``, the oldest first."""

    def __getitem__(self, name: str) -> str:
        return self.commits[name]


def build(root: Path) -> World:
    """Make the repository below ``root/github.com``."""
    repository = Repository.create(root / "github.com" / WIDGET)
    stream = Stream()
    first = {"src/core.py": "one\n", "old.txt": "old\n", "lib/a.py": _TEXT, "run.sh": "true\n"}
    c1 = stream.commit("refs/heads/main", "Change c1", first)
    c2 = stream.commit("refs/heads/main", "Change c2\n\nA body.\n", {"src/core.py": "two\n"}, [c1])
    every = {"src/core.py": "three\n", "docs/new.md": "new\n", "old.txt": None, "lib/a.py": None}
    every |= {"lib/b.py": f"{_TEXT}b\n", "lib/copy.py": _TEXT, "run.sh!": "true\n"}
    c3 = stream.commit("refs/heads/main", "Change c3", every, [c2])
    f1 = stream.commit("refs/heads/feature", "Change f1", {"src/feature.py": "f\n"}, [c1])
    f2 = stream.commit("refs/heads/feature", "Change f2", {"src/feature.py": "ff\n"}, [f1])
    merge = stream.commit("refs/heads/merged", "Merge feature", {"src/feature.py": "ff\n"}, [c1, f2])
    x1 = stream.commit("refs/heads/other", "Change x1", {"x": "1"}, [c1])
    x2 = stream.commit("refs/heads/other", "Change x2", {"x": "2"}, [x1])
    alone = stream.commit("refs/heads/unrelated", "Another beginning", {"y": "1"})
    big = stream.commit("refs/heads/big", "Change big", {f"big/{n:04}": f"{n}\n" for n in range(BIG)}, [c3])
    long = [c1]
    for number in range(LONG):
        long.append(stream.commit("refs/heads/long", f"Change n{number}", {"n": str(number)}, long[-1:]))
    stream.ref("refs/heads/release/1.0", c1)
    stream.ref("refs/heads/release-notes", c2)
    stream.ref("refs/tags/v1.1", c3)
    stream.tag("v1.0", c3)
    ids = stream.write(repository)
    names = {"c1": c1, "c2": c2, "c3": c3, "f1": f1, "f2": f2, "merge": merge}
    names |= {"x1": x1, "x2": x2, "alone": alone, "big": big}
    commits = {name: ids[number] for name, number in names.items()}
    commits["tag"] = repository.resolve("refs/tags/v1.0")
    return World(root, repository, commits, [ids[number] for number in long[1:]])


def get(server: GitHubServer, path: str, *, token: str | None = TOKEN, **headers: str) -> requests.Response:
    """Send a GET to the API, without following redirects; without a token if it is None."""
    sent = {"Authorization": f"Bearer {token}"} if token else {}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(f"{server.url}{path}", headers=sent, timeout=_TIMEOUT, allow_redirects=False)


def read_sample(name: str) -> Any:
    """Return a recorded exchange."""
    return json.loads((SAMPLES / f"{name}.http.json").read_text(encoding="utf-8"))


def shape_differences(wanted: Any, found: Any, place: str = "") -> list[str]:
    """Return where two JSON values differ in members or types; empty lists and abridged texts match any list.

    The first entry of a list stands for all.
    """
    if isinstance(wanted, dict) and isinstance(found, dict):
        differences = [f"{place}: {name}" for name in sorted(wanted.keys() ^ found.keys())]
        for name in wanted.keys() & found.keys():
            differences += shape_differences(wanted[name], found[name], f"{place}.{name}")
        return differences
    if isinstance(found, list) and (isinstance(wanted, list) or str(wanted).startswith("(")):
        return (
            shape_differences(wanted[0], found[0], f"{place}[]")
            if isinstance(wanted, list) and wanted and found
            else []
        )
    return [] if type(wanted) is type(found) else [f"{place}: {type(wanted).__name__}, not {type(found).__name__}"]


def stepped() -> SteppedClock:
    """Return a clock that stands at `NOW`."""
    return SteppedClock(NOW)
