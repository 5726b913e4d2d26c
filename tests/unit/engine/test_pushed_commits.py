"""From a push of GitHub to its build: the webhook, the topic and the scheduler, in memory."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from emulator.memory.gitiles import MAIN, MemoryGitiles
from luci_scheduler import entry
from luci_scheduler.core.instants import MINUTE, SECOND, format_rfc3339
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.trigger_record import TriggerRecord
from tests.pushes import Hooked, hooked, payload
from tests.unit.engine.world import JOB, REPO, World, config

_REPO = "https://github.com/Example-Org/Widget"
"""The spelling of the config. GitHub sends the repository's own spelling."""
_PAGE = "https://github.com/example-org/widget"


@pytest.fixture(name="git")
def _git() -> MemoryGitiles:
    git = MemoryGitiles()
    git.push(MAIN)
    return git


@pytest.fixture(name="world")
def _world(git: MemoryGitiles) -> World:
    """Return a world whose poller watches a GitHub repository, and has seen its first commit."""
    text = config().replace(REPO, _REPO)
    return World(text.replace('schedule: "triggered" gitiles', 'schedule: "with 5m interval" gitiles'), git)


def _deliver(world: World, served: Hooked, message: str) -> tuple[str, int]:
    """Deliver the last message of the topic to the function of commits, as Pub/Sub does."""
    world.clock.advance(SECOND)
    (_, data) = served.topic.published[-1]
    pushed = {
        "data": base64.b64encode(data).decode(),
        "messageId": message,
        "publishTime": format_rfc3339(world.clock.now()),
    }
    event: Any = type("Event", (dict,), {"data": {"message": pushed}})({"id": message, "time": ""})
    return entry.commit(world.app, event)


def _push(served: Hooked, revision: str, ref: str = MAIN) -> None:
    document = payload({"html_url": _PAGE, "pushed_at": served.clock.now() // SECOND}, ref=ref, after=revision)
    assert served.push(document).code == 200


def _poll(world: World) -> None:
    world.tick(301)
    while world.tick():
        pass


def _triggers(world: World, *revisions: str) -> list[TriggerRecord]:
    with world.uncounted():
        return list(world.store.triggers([(JOB, f"{_REPO}/+/{MAIN}@{revision}") for revision in revisions]))


def test_a_redelivery_is_a_no_op(world: World, git: MemoryGitiles) -> None:
    """GitHub sends the same push again, while its build runs and after: one trigger, one invocation, one build.

    Within ten minutes the webhook publishes it once. Pub/Sub may deliver that message again.
    """
    (revision,) = git.push(MAIN)
    with hooked(now=world.clock.now()) as served:
        document = payload({"html_url": _PAGE, "pushed_at": served.clock.now() // SECOND}, ref=MAIN, after=revision)
        for number in range(3):
            assert served.push(document).code == 200
            assert _deliver(world, served, f"m{number}") == ("OK\n", 200)
        assert served.published == [{"repo": _PAGE, "ref": MAIN, "revision": revision}]
        world.finish()
        world.notify("n")
        for clock in (world.clock, served.clock):
            clock.advance(20 * MINUTE)
        assert served.push(document).code == 200
        assert len(served.published) == 2
        assert _deliver(world, served, "m4") == ("OK\n", 200)
    assert world.buildbucket.calls.count("ScheduleBuild") == 1
    (invocation,) = world.invocations()
    assert invocation.status is Status.SUCCEEDED
    (record,) = _triggers(world, revision)
    assert record.invocation_id == invocation.id


def test_a_poll_finds_the_trigger_of_the_webhook(world: World, git: MemoryGitiles) -> None:
    """The trigger has the spelling of the config, so a poll of the same commit starts nothing, however late."""
    _poll(world)
    builds = len(world.buildbucket.builds)
    (revision,) = git.push(MAIN)
    with hooked(now=world.clock.now()) as served:
        _push(served, revision)
        assert _deliver(world, served, "m1") == ("OK\n", 200)
    assert len(world.buildbucket.builds) == builds  # the build of the first commit runs
    world.finish()
    world.notify("n")
    _poll(world)
    for _ in range(12):
        world.finish()
        _poll(world)
    assert len(world.buildbucket.builds) == builds + 1
    (record,) = _triggers(world, revision)
    assert (record.trigger.job_id, record.trigger.url) == ("", f"{_REPO}/commit/{revision}")


def test_an_event_that_a_leaked_secret_allows_is_checked(world: World, git: MemoryGitiles) -> None:
    """A commit that is not on its ref starts no build: it waits for its day, and is discarded."""
    git.push("refs/heads/other")
    with hooked(now=world.clock.now()) as served:
        _push(served, "e" * 40)
        _deliver(world, served, "m1")
        _push(served, git.heads["refs/heads/other"])
        _deliver(world, served, "m2")
    assert world.buildbucket.builds == {}
    assert [work.kind for work in world.works()] == ["commit", "commit"]


def test_a_push_to_an_unwatched_ref_starts_nothing(world: World, git: MemoryGitiles) -> None:
    (revision,) = git.push("refs/heads/other")
    with hooked(now=world.clock.now()) as served:
        _push(served, revision, "refs/heads/other")
        assert _deliver(world, served, "m1") == ("OK\n", 200)
    assert world.buildbucket.builds == {}
    assert world.works() == []


def test_the_message_holds_no_more_than_the_event(world: World, git: MemoryGitiles) -> None:
    """Names and addresses of people in the payload go nowhere."""
    (revision,) = git.push(MAIN)
    with hooked(now=world.clock.now()) as served:
        _push(served, revision)
        ((attributes, data),) = served.topic.published
    assert attributes == {}
    assert json.loads(data).keys() == {"repo", "ref", "revision"}
