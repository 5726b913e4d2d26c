"""The cost while nothing happens: an unchanged poll, counted through the engine and the gitiles manager."""

from __future__ import annotations

from collections import Counter

from emulator.clock import SteppedClock
from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.adapters.github import GitHubClient
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import Gitiles
from tests.scripted_github import Exchange, ScriptedGitHub
from tests.unit.engine.world import REPO, World, config

POLLER = JobId("proj/poller")
PERIOD = 30
AN_HOUR = 3_600 // PERIOD


def _polling_world(text: str, git: Gitiles) -> World:
    """Return a world whose poller knows the main branch; the build of its first commit has ended."""
    world = World(text.replace('schedule: "triggered" gitiles', f'schedule: "with {PERIOD}s interval" gitiles'), git)
    for _ in range(3):  # the first poll finds the branch, and its triggers are dispatched
        world.tick(PERIOD)
    world.finish()
    world.notify("end")
    world.tick(PERIOD)
    return world


def _poll_for_an_hour(world: World) -> None:
    """Poll, and check that each poll costs two reads, one write in one commit and one task. No invocation is kept."""
    kept = len(world.invocations(POLLER))
    world.counted()
    tasks: Counter[str] = Counter()
    for _ in range(AN_HOUR):
        (due,) = (task for task in world.queue.tasks if task.kind == "cron")
        world.clock.move_to(Instant(due.eta))
        tasks.update(task.kind for task in world.tick() if task.kind == "cron")
    assert world.counted() == f"{2 * AN_HOUR}R/{AN_HOUR}W/{AN_HOUR}c"
    assert tasks == {"cron": AN_HOUR}
    assert len(world.invocations(POLLER)) == kept


def test_an_hour_of_unchanged_polls() -> None:
    """Each poll is one listing. An empty sweep: three reads."""
    git = MemoryGitiles()
    git.push("refs/heads/main")
    world = _polling_world(config(), git)
    git.calls.clear()
    _poll_for_an_hour(world)
    assert Counter(git.calls) == {"refs refs/heads": AN_HOUR}
    sweep(world.runtime)
    assert world.counted() == "3R/0W/0c"


def test_an_hour_of_unchanged_polls_on_github() -> None:
    """Each poll is one conditional request, which GitHub does not count. The documents cost the same as on Gitiles."""
    head = {"sha": "a" * 40, "parents": [], "commit": {"committer": {"date": "2026-03-01T11:00:00Z"}}}
    listing = "GET /repos/team/app/git/matching-refs/heads"
    refs = [{"ref": "refs/heads/main", "object": {"sha": "a" * 40, "type": "commit"}}]
    unchanged = Exchange(listing, 304, None, {"ETag": "tag"})
    first = Exchange(f"GET /repos/team/app/commits/{'a' * 40}?per_page=1&page=1", 200, head)
    github = ScriptedGitHub(Exchange(listing, 200, refs, {"ETag": "tag"}), first, *[unchanged] * 9)
    client = GitHubClient(github.api(SteppedClock(Instant(0))))
    world = _polling_world(config().replace(REPO, "https://github.com/Team/App"), client)
    github.sent.clear()
    github.expected = [unchanged] * AN_HOUR
    _poll_for_an_hour(world)
    assert [item["headers"].get("If-None-Match") for item in github.sent] == ["tag"] * AN_HOUR
    assert github.expected == []
