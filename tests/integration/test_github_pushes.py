"""The webhook and the commit statuses against the local GitHub server: real git, real signatures, real requests."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.clock import SteppedClock
from emulator.github import GitHubServer, Webhook
from emulator.gitiles.git import git
from emulator.gitiles.repository import Repository
from emulator.serving.local_server import LocalServer
from luci_scheduler import entry
from luci_scheduler.adapters.github_api import GitHubApi
from luci_scheduler.adapters.github_credentials import TokenCredentials
from luci_scheduler.adapters.github_statuses import GitHubStatuses
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.commit_hosts import CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.instants import MINUTE, SECOND, format_rfc3339, parse_rfc3339
from tests.pushes import Hooked, hooked, server_app
from tests.unit.engine.world import REPO, World, config
from tests.waiting import until

_NAME = "example-org/widget"
_REPO = f"https://github.com/{_NAME}"
_SECRET = "the secret of the local webhook"
_NOW = parse_rfc3339("2026-03-01T12:00:00Z")


@pytest.fixture(name="github")
def _github(tmp_path: Path) -> Iterator[GitHubServer]:
    Repository.create(tmp_path / "github.com" / _NAME)
    server = GitHubServer(tmp_path, clock=SteppedClock(_NOW))
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="hook")
def _hook(github: GitHubServer) -> Iterator[Hooked]:
    """The function behind an HTTP server, as the webhook of all repositories."""
    with hooked(_SECRET, now=_NOW) as served:
        server = LocalServer(server_app(), "127.0.0.1", 0)
        server.start()
        github.webhook = Webhook(f"{server.url}/github", _SECRET)
        yield served
        server.stop()


def _delivered(github: GitHubServer, count: int) -> list[int]:
    """Wait for the deliveries, and return their statuses."""
    until(lambda: github.deliveries.is_idle and len(github.deliveries.all()) >= count, "the deliveries")
    return [delivery.status for delivery in github.deliveries.all()]


def _commit(github: GitHubServer, text: str, branch: str = "main") -> str:
    return github.service.commit(_NAME, branch, f"Change {text}", {"file": text}, None)


def test_each_kind_of_push_has_its_event(github: GitHubServer, hook: Hooked, tmp_path: Path) -> None:
    """A deletion and a ping have none. A redelivery repeats its event, if the event is ten minutes old."""
    first, second = _commit(github, "one"), _commit(github, "two")
    github.service.move_ref(_NAME, "refs/heads/new", first)
    github.service.move_ref(_NAME, "refs/heads/main", first)
    other = _commit(github, "three", "new")
    github.service.move_ref(_NAME, "refs/heads/main", other)
    folder = tmp_path / "github.com" / _NAME
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "-m", "v1", "v1", first)
    tag = git(folder, "rev-parse", "v1").decode().strip()
    git(folder, "tag", "-d", "v1")
    github.service.move_ref(_NAME, "refs/tags/v1", tag)
    github.service.move_ref(_NAME, "refs/heads/new", "")
    github.ping()
    assert set(_delivered(github, 9)) == {200}
    main, new = "refs/heads/main", "refs/heads/new"
    expected = [(main, first), (main, second), (new, first), (new, other), (main, other), ("refs/tags/v1", first)]
    assert [(event["ref"], event["revision"]) for event in hook.published] == expected
    assert {event["repo"] for event in hook.published} == {_REPO}
    github.deliveries.redeliver(github.deliveries.all()[0].id)
    assert _delivered(github, 10)[-1] == 200
    assert len(hook.published) == len(expected)
    hook.clock.advance(10 * MINUTE)
    github.deliveries.redeliver(github.deliveries.all()[0].id)
    assert _delivered(github, 11)[-1] == 200
    assert hook.published[len(expected) :] == hook.published[:1]


def test_a_wrong_secret_is_shown_beside_the_delivery(github: GitHubServer, hook: Hooked) -> None:
    assert github.webhook is not None
    github.webhook = Webhook(github.webhook.url, "another secret")
    _commit(github, "one")
    assert _delivered(github, 1) == [401]
    assert hook.published == []


def test_a_push_becomes_a_build_and_its_commit_shows_the_end(github: GitHubServer, hook: Hooked) -> None:
    """The real clients of GitHub go the whole way: webhook, topic, trigger, build, status."""
    hosts = CommitHosts({"github.com": ConfiguredHost(HostKind.GITHUB, github.url, credentials=True)})
    api = GitHubApi(hosts, sessions(authenticated=False), TokenCredentials("a-token"), SteppedClock(_NOW))
    world = World(config().replace(REPO, _REPO), statuses=GitHubStatuses(hosts, api))
    revision = _commit(github, "one")
    assert _delivered(github, 1) == [200]
    _deliver(world, hook)
    world.tick()
    world.finish("FAILURE")
    world.notify("n")
    world.tick()
    shown = [(status.state, status.context, status.description) for status in github.statuses.of(_NAME, revision)]
    assert shown == [
        ("failure", "scheduler/proj/job", "Failed after 1s"), ("pending", "scheduler/proj/job", "Running"),
    ]  # fmt: skip
    (invocation,) = world.invocations()
    link = github.statuses.of(_NAME, revision)[0].target_url
    assert link == f"https://luci-scheduler.appspot.com/jobs/proj/job/{invocation.id}"
    assert world.works() == []


def _deliver(world: World, hook: Hooked) -> None:
    world.clock.advance(SECOND)
    (event,) = hook.published
    message = {
        "data": base64.b64encode(json.dumps(event).encode()).decode(),
        "messageId": "1",
        "publishTime": format_rfc3339(world.clock.now()),
    }
    given: Any = type("Event", (dict,), {"data": {"message": message}})({"id": "1", "time": ""})
    assert entry.commit(world.app, given) == ("OK\n", 200)
