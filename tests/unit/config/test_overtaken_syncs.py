"""Configs never go backwards: of two concurrent syncs, the first to read its source never overwrites the other."""

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Request, Response

from emulator.gitiles import GitilesServer, Repository
from emulator.serving.local_server import LocalServer
from luci_scheduler.adapters.config_sources import BucketSource, GitilesSource
from luci_scheduler.adapters.http import sessions
from luci_scheduler.config.folder import FILE, FolderSource
from luci_scheduler.config.sync import sync_sources
from luci_scheduler.core.errors import ComeAgainError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.ports import ConfigFile, ConfigSource
from tests.unit.engine.world import World

HOST = "dawn.googlesource.com"
OLD = 'job { id: "old" noop {} }'
NEW = 'job { id: "old" noop {} } job { id: "added" noop {} }'
NEWEST = 'job { id: "last" noop {} }'
OPEN = sessions(authenticated=False)


class Held:
    """A source whose content the test changes."""

    def __init__(self, **texts: str) -> None:
        self.texts = texts

    def configs(self, active_revision: Callable[[str], str]) -> Sequence[ConfigFile]:
        for project in self.texts:
            active_revision(project)
        return [ConfigFile(project, text, str(hash(text))) for project, text in self.texts.items()]


class Interrupted:
    """A source that runs a callback between the read and the use of the config."""

    def __init__(self, source: ConfigSource, *events: Callable[[], Any]) -> None:
        self._source, self._events = source, list(events)

    def configs(self, active_revision: Callable[[str], str]) -> Sequence[ConfigFile]:
        files = self._source.configs(active_revision)
        if self._events:
            self._events.pop(0)()
        return files


def enabled(world: World, project: str = "tint") -> list[str]:
    """Return the enabled jobs of a project."""
    found = world.store.project(project)
    names = found.value.job_ids if found else ()
    jobs = world.store.jobs([JobId(f"{project}/{name}") for name in ("old", "added", "last")])
    assert sorted(names) == sorted(job.id for job in jobs if job.enabled)
    return [name.partition("/")[2] for name in names]


# The sources: a place, and a function that changes its text -----------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> tuple[ConfigSource, Callable[[str], None]]:
    (tmp_path / "tint").mkdir()
    return FolderSource(tmp_path), lambda text: (tmp_path / "tint" / FILE).write_text(text, encoding="utf-8") and None


@pytest.fixture
def gitiles(tmp_path: Path) -> Iterator[tuple[ConfigSource, Callable[[str], None]]]:
    repository = Repository.create(tmp_path / HOST / "tint")
    server = GitilesServer(tmp_path)
    server.start()
    moments = iter(range(1, 100))

    def put(text: str) -> None:
        repository.commit("Config\n", {FILE: text}, branch="main", at=next(moments))

    repo = parse_repo_url(f"https://{HOST}/tint")
    yield GitilesSource("tint", repo, "refs/heads/main", FILE, server.url_of(HOST), OPEN), put
    server.stop()


@pytest.fixture
def bucket() -> Iterator[tuple[ConfigSource, Callable[[str], None]]]:
    stored: list[str] = []

    def serve(request: Request) -> Response:
        if request.args.get("alt") == "media":
            assert request.args.get("generation") == str(len(stored))
            return Response(gzip.compress(stored[-1].encode()), headers={"Content-Encoding": "gzip"})
        return Response(json.dumps({"generation": str(len(stored)), "size": str(len(stored[-1]))}))

    server = LocalServer(Request.application(serve), "127.0.0.1", 0)
    server.start()
    yield BucketSource("tint", "configs", FILE, server.url, OPEN), stored.append
    server.stop()


@pytest.fixture(params=["folder", "gitiles", "bucket"])
def place(request: pytest.FixtureRequest) -> tuple[ConfigSource, Callable[[str], None]]:
    """Run the test with each kind of source."""
    source: tuple[ConfigSource, Callable[[str], None]] = request.getfixturevalue(request.param)
    return source


@pytest.mark.parametrize("first", ["", OLD])
def test_an_older_config_does_not_become_active_again(
    place: tuple[ConfigSource, Callable[[str], None]], first: str
) -> None:
    """A slow sync has read the old text when a fast sync activates the new text. For a new and a known project."""
    source, put = place
    world = World("")
    if first:
        put('job { id: "last" noop {} }')
        sync_sources(world.runtime, [source], "k0")
    put(OLD)
    seen: list[list[str]] = []

    def overtake() -> None:
        put(NEW)
        sync_sources(world.runtime, [source], "quick")
        seen.append(enabled(world))

    sync_sources(world.runtime, [Interrupted(source, overtake)], "slow")
    assert seen == [["added", "old"]]
    assert enabled(world) == ["added", "old"]


def test_the_newer_config_of_a_slower_sync_becomes_active(place: tuple[ConfigSource, Callable[[str], None]]) -> None:
    """The slower sync cannot know which text is newer, so it reads its source again."""
    source, put = place
    world = World("")
    put(NEW)
    old = Held(tint=OLD)
    sync_sources(world.runtime, [Interrupted(source, lambda: sync_sources(world.runtime, [old], "quick"))], "slow")
    assert enabled(world) == ["added", "old"]


def test_a_project_that_reappears_during_its_removal_is_kept() -> None:
    """A sync finds the project gone; before it removes the project, another sync activates it again."""
    world = World("")
    sync_sources(world.runtime, [Held(tint=OLD, other=OLD)], "k0")
    now = Held(other=OLD)

    def come_back() -> None:
        now.texts = {"tint": NEW, "other": OLD}
        sync_sources(world.runtime, [now], "quick")

    sync_sources(world.runtime, [Interrupted(now, come_back)], "slow")
    assert enabled(world) == ["added", "old"]


def test_a_project_removed_during_its_sync_does_not_reappear() -> None:
    """A sync reads the project's text; before it activates it, another sync finds the project gone."""
    world = World("")
    sync_sources(world.runtime, [Held(tint=OLD, other=OLD)], "k0")
    now = Held(tint=NEW, other=OLD)

    def vanish() -> None:
        now.texts = {"other": OLD}
        sync_sources(world.runtime, [now], "quick")

    sync_sources(world.runtime, [Interrupted(now, vanish)], "slow")
    assert enabled(world) == []
    assert enabled(world, "other") == ["old"]


def test_an_old_problem_does_not_replace_a_new_config() -> None:
    """The problems of the older text disappear."""
    world = World("")
    now = Held(tint="job {")

    def mend() -> None:
        now.texts = {"tint": NEW}
        sync_sources(world.runtime, [now], "quick")

    sync_sources(world.runtime, [Interrupted(now, mend)], "slow")
    found = world.store.project("tint")
    assert found is not None
    assert found.value.problems == ()


def test_a_sync_that_loses_races_repeatedly_is_retried_later() -> None:
    """The other projects become active."""
    world = World("")
    now = Held(tint=OLD, other=OLD)

    def overtake(number: int) -> Callable[[], None]:
        def event() -> None:
            sync_sources(world.runtime, [Held(tint=f"{OLD} # {number}")], f"quick{number}")

        return event

    source = Interrupted(now, *map(overtake, range(5)))
    with pytest.raises(ComeAgainError, match="another sync has changed project tint in the meantime"):
        sync_sources(world.runtime, [source], "slow")
    assert enabled(world, "other") == ["old"]


def test_in_a_race_at_the_commit_the_older_text_loses() -> None:
    """The other sync may also run between the read of the record and the commit."""
    world = World("")
    now = Held(tint=OLD)
    done: list[int] = []

    def before_commit(_: Any) -> None:
        if not done:
            done.append(1)
            now.texts = {"tint": NEW}
            sync_sources(world.runtime, [now], "quick")

    world.store.before_commit = before_commit
    sync_sources(world.runtime, [Interrupted(now)], "slow")
    assert enabled(world) == ["added", "old"]
