"""Fixtures of the tests of the GitHub server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator.clock import SteppedClock
from emulator.github import GitHubServer, RateLimits
from tests.unit.emulator.github.support import World, build, stepped


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The repository that most tests read."""
    return build(tmp_path_factory.mktemp("github"))


@pytest.fixture(scope="session")
def clock() -> SteppedClock:
    """The time of the server."""
    return stepped()


@pytest.fixture(scope="session", name="running")
def _running(world: World, clock: SteppedClock) -> Iterator[GitHubServer]:
    server = GitHubServer(world.root, clock=clock)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running: GitHubServer) -> Iterator[GitHubServer]:
    """The one server of all tests, without faults, usage, statuses and records."""
    yield running
    running.faults.clear()
    running.clear_requests()
    running.meter.reset()
    running.statuses.clear()
    running.deliveries.clear()
    running.webhook = None
    running.strict_auth = False
    limits = RateLimits()
    for name in RateLimits.__dataclass_fields__:
        setattr(running.meter.limits, name, getattr(limits, name))
