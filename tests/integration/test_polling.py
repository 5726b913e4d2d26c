"""Gitiles jobs on a real repository of thousands of commits, against a model that is independent of their creation.

The repository is served by the local Gitiles server and polled by the whole engine, including ticks. Commits are pushed
singly, in bursts and over several refs at once, with merges, force pushes, deletions and tags between the polls.
"""

import random
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from emulator.gitiles import GitilesServer, Repository
from emulator.gitiles.faults import GitilesFault
from luci_scheduler.adapters.gitiles import GitilesClient, host_urls
from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.invocation import Status
from tests.unit.engine.world import HOST, REPO, World

STEPS = 60
FAULTS = range(5, STEPS, 17)
"""Polls that the server does not answer."""
HEADS = "refs/heads/"
BUILDBUCKET = f'buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }}'
TARGET = f"triggering_policy {{ max_concurrent_invocations: 10 }} {BUILDBUCKET}"
CONFIG = f"""
trigger {{
  id: "all" gitiles {{ repo: "{REPO}" refs: "regexp:refs/heads/.+" refs: "regexp:refs/tags/.+" }} triggers: "every"
}}
trigger {{ id: "code" gitiles {{ repo: "{REPO}" refs: "refs/heads/main" path_regexps: "src/.+" }} triggers: "build" }}
job {{ id: "every" {TARGET} }}
job {{ id: "build" {TARGET} }}
"""


@dataclass
class History:
    """The real repository, written through ``git fast-import``, and its commits."""

    repository: Repository
    parents: dict[str, list[str]] = field(default_factory=dict)
    age: dict[str, int] = field(default_factory=dict)
    """Commit → its place in the order of creation: commits are a second apart."""
    is_code: dict[str, bool] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    """Ref → its hash."""
    peeled: dict[str, str] = field(default_factory=dict)
    """Tag object → the tagged commit."""
    gone: set[str] = field(default_factory=set)
    """Commits that the server no longer shows."""

    def add(self, ref: str, count: int, parents: Iterable[str] = (), *, code: bool = True) -> list[str]:
        """Add a chain of commits and point the ref to its end; return the hashes, oldest first."""
        stream, above = [], [self.heads[ref]] if ref in self.heads and not parents else list(parents)
        first = above
        for number in range(count):
            at = len(self.age) + number
            path = f"{'src' if code else 'docs'}/{at}"
            stream += [
                f"commit refs/stock\nmark :{number + 1}\ncommitter C <c@e.x> {1_700_000_000 + at} +0000\ndata 1\nx\n"
            ]
            stream += [f"{'merge' if place else 'from'} {parent}\n" for place, parent in enumerate(above)]
            stream += [f"M 100644 inline {path}\ndata 1\nx\n"]
            above = [f":{number + 1}"]
        stream += [f"get-mark :{number + 1}\n" for number in range(count)]
        ran = subprocess.run(
            ["git", "-C", str(self.repository.path), "fast-import", "--quiet", "--force", "--done"],
            input=("reset refs/stock\n\n" + "".join(stream) + f"reset {ref}\nfrom :{count}\n\ndone\n").encode(),
            capture_output=True,
            check=True,
        )
        hashes = ran.stdout.decode().split()
        for number, identifier in enumerate(hashes):
            self.parents[identifier] = [hashes[number - 1]] if number else list(first)
            self.age[identifier] = len(self.age)
            self.is_code[identifier] = code and len(self.parents[identifier]) < 2
        self.heads[ref] = hashes[-1]
        return hashes

    def point(self, ref: str, to: str) -> None:
        """Point a ref at a commit."""
        self.repository.force_push(ref, to)
        self.heads[ref] = to

    def delete(self, ref: str) -> None:
        """Delete a ref."""
        self.repository.delete_ref(ref)
        del self.heads[ref]

    def tag(self, name: str, commit: str, message: str | None) -> None:
        """Tag a commit."""
        value = self.repository.tag(name, commit, message, at=1_700_000_000 * SECOND)
        self.heads[f"refs/tags/{name}"] = value
        self.peeled[value] = commit

    def commit_of(self, value: str) -> str:
        """Return the commit that a ref's value names."""
        return self.peeled.get(value, value)

    def ancestors(self, commit: str) -> set[str]:
        """Return a commit and all its ancestors."""
        found: set[str] = set()
        waiting = [commit]
        while waiting:
            current = waiting.pop()
            if current not in found:
                found.add(current)
                waiting += self.parents[current]
        return found


class Model:
    """The rules of a gitiles job, as a plain model: the commits that each job got after each poll."""

    def __init__(self, history: History, *, only_main_code: bool) -> None:
        self.history = history
        self.only_main_code = only_main_code
        self.known: dict[str, str] = {}
        self.polled_before = False
        self.accepted: dict[tuple[str, str], list[int]] = {}

    def poll(self, now: int) -> None:
        """Poll."""
        history = self.history
        actual = {ref: head for ref, head in history.heads.items() if not self.only_main_code or ref == f"{HEADS}main"}
        self.known = {ref: head for ref, head in self.known.items() if ref in actual}
        emitted = 0
        for ref in sorted(actual):
            head = actual[ref]
            if self.known.get(ref) != head:
                commits = self.new_commits(ref, head)
                self.known[ref] = head
                if ref.startswith("refs/tags/") and not self.polled_before:
                    continue
                for commit in commits:
                    self.accept(ref, commit, now)
                emitted += len(commits)
            if emitted > 50:
                break
        self.polled_before = True

    def new_commits(self, ref: str, head: str) -> list[str]:
        """Return the commits of a ref that get triggers."""
        history, tip = self.history, self.history.commit_of(head)
        old = history.commit_of(self.known[ref]) if ref in self.known else None
        if old is None:
            found = [tip]
        elif old in history.gone:
            found = [] if self.only_main_code else [tip]
        else:
            found = sorted(history.ancestors(tip) - history.ancestors(old), key=history.age.__getitem__)[-50:]
        return [commit for commit in found if not self.only_main_code or history.is_code[commit]]

    def accept(self, ref: str, commit: str, now: int) -> None:
        """Count a trigger, unless the same trigger was counted within the last half hour."""
        times = self.accepted.setdefault((ref, commit), [])
        if not times or now - times[-1] >= 30 * MINUTE:
            times.append(now)


class Chaos:
    """The changes that people make to a repository between two polls: random, but equal in every run."""

    def __init__(self, history: History, server: GitilesServer) -> None:
        self.history = history
        self.server = server
        self.random = random.Random(20260317)  # noqa: S311 - nothing secret
        self.tags = 0

    def step(self) -> None:
        """Do something."""
        self.random.choice(
            [self.one, self.one, self.burst, self.busy, self.merge, self.force, self.delete, self.tag, self.rest]
        )()

    def branch(self) -> str:
        return f"{HEADS}{self.random.choice('abcde')}"

    def main(self) -> str:
        return f"{HEADS}main"

    def one(self) -> None:
        self.history.add(self.main(), 1, code=self.random.random() < 0.5)

    def burst(self) -> None:
        self.history.add(self.main(), self.random.choice([20, 49, 50, 51, 130]), code=self.random.random() < 0.7)

    def busy(self) -> None:
        for name in self.random.sample("abcde", 3):
            ref = f"{HEADS}{name}"
            start = () if ref in self.history.heads else (self.history.heads[self.main()],)
            self.history.add(ref, self.random.choice([2, 40, 50]), start)

    def merge(self) -> None:
        ref = self.branch()
        if ref in self.history.heads:
            self.history.add(self.main(), 1, (self.history.heads[self.main()], self.history.heads[ref]))

    def force(self) -> None:
        ref = self.random.choice([self.branch(), self.main()])
        if ref not in self.history.heads:
            return
        old = self.history.heads[ref]
        back = self.history.parents[old][:1] or [old]
        match self.random.choice(["back", "aside", "gone"]):
            case "back":
                self.history.point(ref, back[0])
            case "aside":
                self.history.add(ref, 3, back)
            case "gone":
                if any(
                    old in self.history.ancestors(h)
                    for r, v in self.history.heads.items()
                    if (h := self.history.commit_of(v)) and r != ref
                ):
                    return
                self.history.add(ref, 4, back)
                self.history.gone.add(old)
                self.server.faults.hide(old)

    def delete(self) -> None:
        ref = self.branch()
        if ref in self.history.heads:
            self.history.delete(ref)

    def tag(self) -> None:
        self.tags += 1
        commit = self.history.heads[self.main()]
        self.history.tag(f"v{self.tags}", commit, None if self.tags % 2 else "annotated")

    def rest(self) -> None:
        """Nothing is pushed."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitilesServer]:
    """The local Gitiles server."""
    server = GitilesServer(tmp_path)
    server.start()
    yield server
    server.stop()


def polling_world(server: GitilesServer) -> World:
    """Return a scheduler that polls the server; its builds succeed at once."""
    urls = host_urls({"r.googlesource.com": server.url_of("r.googlesource.com")})
    client = GitilesClient(urls, sessions(authenticated=False), 30 * SECOND, authenticated=False, clock=SystemClock())
    world = World(CONFIG, client)

    def succeed() -> None:
        for build in world.buildbucket.builds.values():
            build["status"] = "SUCCESS"

    world.buildbucket.on_schedule = succeed
    return world


def taken(world: World, job: str) -> Counter[tuple[str, str]]:
    """Return the triggers that a job's invocations took, by ref and commit."""
    found = world.invocations(JobId(f"proj/{job}"))
    assert {item.status for item in found} == {Status.SUCCEEDED}
    return Counter(
        (trigger.payload["ref"], trigger.payload["revision"]) for item in found for trigger in item.incoming_triggers
    )


@pytest.mark.timeout(240)
def test_every_commit_triggers_once(server: GitilesServer, tmp_path: Path) -> None:
    """The job gets exactly the triggers of the rules: each once, or again half an hour later."""
    history = History(Repository.create(tmp_path / "r.googlesource.com" / "repo"))
    history.add(f"{HEADS}main", 1500)
    for number in range(20):
        history.tag(f"old{number}", history.heads[f"{HEADS}main"], None)
    world, chaos = polling_world(server), Chaos(history, server)
    models = {"every": Model(history, only_main_code=False), "build": Model(history, only_main_code=True)}
    for step in range(STEPS):
        if step in FAULTS:
            # Each job calls before it polls, and again in the poll that fails: neither call may succeed.
            server.faults.add(GitilesFault("error", path="/repo/+refs/heads", times=4, status=503))
        world.tick(31)
        while world.tick():
            pass
        assert not server.faults.active()
        if step not in FAULTS:
            for model in models.values():
                model.poll(world.clock.now())
        chaos.step()
    assert Counter(item.status for item in world.invocations(JobId("proj/all")))[Status.FAILED] == len(FAULTS)
    assert len(history.age) > 2500
    for job, model in models.items():
        wanted = Counter({key: len(times) for key, times in model.accepted.items()})
        assert taken(world, job) == wanted, job
        assert sum(wanted.values()) > 300
