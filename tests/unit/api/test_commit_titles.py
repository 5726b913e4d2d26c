"""Subjects and authors of commits for lists: few calls, no repetition, and no error."""

from collections.abc import Sequence
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.adapters.gitiles import GitilesClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.api import commit_titles as module
from luci_scheduler.api.commit_titles import MAX_CALLS, commit_titles
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.ports import GitilesError
from tests.outside_calls import OUTSIDE_CALLS, SERVERS
from tests.unit.api.support import STRANGER, context, world_for
from tests.unit.engine.world import REPO, World, config

MAIN = "refs/heads/main"


def world_with(gitiles: Any) -> World:
    """Return a world whose only job watches the repository."""
    world = world_for(config(), gitiles=gitiles)
    world.store.counts.clear()
    return world


def titles(world: World, revisions: Sequence[str], repo: str = REPO, **named: str) -> list[str]:
    """Return the subjects of commits, empty where there is none."""
    found = commit_titles(context(world, **named), [(repo, revision) for revision in revisions])
    return [found[(repo, revision)].subject if (repo, revision) in found else "" for revision in revisions]


def test_one_call_covers_a_history_and_is_made_once() -> None:
    """The newest commit's log has the older ones; a second page asks neither the host nor the store."""
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 30)[::-1]
    world = world_with(gitiles)
    assert titles(world, hashes) == [f"Change {number}" for number in reversed(range(30))]
    assert (gitiles.calls, world.store.counts["R"]) == ([f"log {hashes[0]} n=50"], 1)
    assert titles(world, hashes[3:5], repo=f"{REPO}.git") == ["Change 26", "Change 25"]
    assert (len(gitiles.calls), world.store.counts["R"]) == (1, 1)


def test_calls_are_bounded() -> None:
    """Unrelated commits take one call each, at most eight for a page; the next page asks for the rest."""
    gitiles = MemoryGitiles()
    hashes = [gitiles.push(f"refs/heads/b{number}")[0] for number in range(12)]
    world = world_with(gitiles)
    assert len([title for title in titles(world, hashes) if title]) == MAX_CALLS == len(gitiles.calls)
    assert all(titles(world, hashes))
    assert len(gitiles.calls) == 12


@pytest.mark.parametrize("transient", [True, False])
def test_a_failure_is_no_error_and_is_not_repeated_soon(transient: bool) -> None:
    """For 30 seconds. A host that does not answer is not asked for other commits either."""
    gitiles = MemoryGitiles()
    hashes = [gitiles.push(f"refs/heads/b{number}")[0] for number in range(3)]
    world = world_with(gitiles)

    def fail(_: str) -> None:
        raise GitilesError("UNAVAILABLE", "down", transient=transient)

    gitiles.before_call = fail
    assert titles(world, hashes) == ["", "", ""]
    assert len(gitiles.calls) == (1 if transient else 3)
    gitiles.before_call = lambda _: None
    assert titles(world, hashes) == ["", "", ""]
    world.clock.advance(30 * SECOND)
    assert all(titles(world, hashes))


def test_foreign_repositories_are_not_asked() -> None:
    """The caller must see a project that watches the repository; texts that are no repository or hash are left out."""
    gitiles = MemoryGitiles()
    (revision,) = gitiles.push(MAIN)
    world = world_with(gitiles)
    assert titles(world, [revision], email=STRANGER) == [""]
    assert titles(world, [revision], repo="https://r.googlesource.com/other") == [""]
    assert titles(world, [revision], repo="nonsense") == [""]
    assert titles(world, ["main", "0" * 39]) == ["", ""]
    assert gitiles.calls == []
    assert titles(world, [revision]) == ["Change 0"]
    assert titles(world, [revision], email=STRANGER) == [""]  # not from the cache either


def test_a_repository_that_no_project_watches_any_more_is_forgotten() -> None:
    """A process remembers the watching projects for ten minutes."""
    gitiles = MemoryGitiles()
    (revision,) = gitiles.push(MAIN)
    world = world_with(gitiles)
    assert titles(world, [revision]) == ["Change 0"]
    world.sync("")
    world.clock.advance(10 * MINUTE - SECOND)
    assert titles(world, [revision]) == ["Change 0"]
    world.clock.advance(SECOND)
    assert titles(world, [revision]) == [""]


@pytest.mark.parametrize("server", SERVERS)
def test_a_silent_host_costs_little_time(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All calls of a page share one limit, even if the client's own limit is longer."""
    monkeypatch.setattr(module, "_SECONDS", 0.2)
    (call,) = (item for item in OUTSIDE_CALLS if item.name == "Gitiles: log")
    with SERVERS[server](call) as address:
        opened = sessions(authenticated=False)
        gitiles = GitilesClient(
            lambda _: f"http://{address}", opened, 600 * SECOND, authenticated=False, clock=world_for().clock
        )
        world = world_with(gitiles)
        assert titles(world, [f"{number:040x}" for number in range(1, 20)]) == [""] * 19


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used commits are asked for again."""
    monkeypatch.setattr(module, "_CACHED", 2)
    gitiles = MemoryGitiles()
    hashes = [gitiles.push(f"refs/heads/b{number}")[0] for number in range(3)]
    world = world_with(gitiles)
    for revision in (*hashes[:2], hashes[0], hashes[2]):
        assert titles(world, [revision]) != [""]
    assert len(gitiles.calls) == 3
    assert titles(world, hashes[:1]) == ["Change 0"]
    assert len(gitiles.calls) == 3
    assert titles(world, hashes[1:2]) == ["Change 1"]
    assert len(gitiles.calls) == 4
