"""Random sequences of operations: each port behaves in memory as on its emulator.

Both implementations run the same operations. Results, classes of errors, logged events and the final states are equal.
``SEQUENCES`` is the number of sequences over all ports, and ``SEQUENCES_SEED`` the first seed. To repeat a failure,
set ``SEQUENCES=1`` and the seed that it prints.
"""

from __future__ import annotations

import itertools
import os
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.clock import SteppedClock
from emulator.cloud_tasks.server import CloudTasksServer
from emulator.github import GitHubServer
from emulator.gitiles.server import GitilesServer
from emulator.official import OfficialEmulator, clear_documents
from luci_scheduler.adapters.cloud_tasks import make_client
from luci_scheduler.adapters.github import GitHubClient
from luci_scheduler.adapters.github_api import GitHubApi
from luci_scheduler.adapters.github_credentials import TokenCredentials
from luci_scheduler.adapters.gitiles import GitilesClient, host_urls
from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.core.commit_hosts import CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.instants import SECOND
from tests.contract.sequences import builds, queue, repositories, store, topic
from tests.contract.sequences.harness import Operation, Port, Side, difference, drawn, report, shrunk

SHARES = {"store": 49, "large documents": 3, "queue": 33, "topic": 3, "gitiles": 7, "github": 2, "buildbucket": 3}
"""Percentages of all sequences; topics and repositories cost the most time."""
PART = 10
"""Sequences of one test."""
FIRST = int(os.environ.get("SEQUENCES_SEED", "0"))
COUNT = int(os.environ.get("SEQUENCES", "500"))

pytestmark = pytest.mark.timeout(300)


def _parts(name: str) -> list[range]:
    """Return the seeds of each test of a port."""
    last = FIRST + max(1, COUNT * SHARES[name] // 100)
    return [range(start, min(start + PART, last)) for start in range(FIRST, last, PART)]


def _seeds(name: str) -> pytest.MarkDecorator:
    parts = _parts(name)
    return pytest.mark.parametrize("seeds", parts, ids=[f"{part[0]}-{part[-1]}" for part in parts])


def _check(port: Port, seeds: Sequence[int]) -> None:
    reports = [text for seed in seeds if (text := report(port, seed))]
    assert not reports, "\n\n".join(reports)


@pytest.fixture
def fresh_projects(firestore_emulator: OfficialEmulator, firestore_client: Any) -> Callable[[], Any]:
    """A function that makes a client with an empty project, over the same connection."""
    from google.cloud import firestore

    def client() -> Any:
        made = firestore.Client(project=f"t-{uuid.uuid4().hex[:10]}")
        made._firestore_api_internal = firestore_client._firestore_api
        return made

    return client


@pytest.mark.emulators
@_seeds("store")
def test_stores_are_equal(seeds: Sequence[int], fresh_projects: Callable[[], Any]) -> None:
    """Every method and every kind of write, with current, old and foreign versions, and with unreadable documents."""
    _check(Port("store", store.draw, lambda: store.store_sides(fresh_projects())), seeds)


@pytest.mark.emulators
@_seeds("large documents")
def test_stores_are_equal_at_the_size_limit(
    seeds: Sequence[int], fresh_projects: Callable[[], Any], firestore_emulator: OfficialEmulator
) -> None:
    """Documents of about a million bytes, with logs."""

    @contextmanager
    def sides() -> Iterator[tuple[Side, Side]]:
        client = fresh_projects()
        with store.store_sides(client) as both:
            yield both
        clear_documents(firestore_emulator.address, client.project)  # it keeps all documents in its memory

    _check(Port("large documents", store.draw_large, sides, longest=6), seeds)


@_seeds("queue")
def test_queues_are_equal(seeds: Sequence[int]) -> None:
    """Names, reserved names, times, sizes, deliveries and purges."""
    clock = SteppedClock(queue.START)
    with CloudTasksServer(clock=clock, dispatch="manual") as server:
        client = make_client(server.grpc_address)
        _check(Port("queue", queue.draw, lambda: queue.queue_sides(server, clock, client), longest=20), seeds)
        client.transport.close()


@pytest.mark.emulators
@_seeds("topic")
def test_topics_are_equal(seeds: Sequence[int], pubsub_emulator: OfficialEmulator) -> None:
    """Messages with all kinds of attributes and data. Empty messages are refused."""
    with requests.Session() as session:
        session.trust_env = False
        _check(Port("topic", topic.draw, lambda: topic.topic_sides(pubsub_emulator.address, session), 8), seeds)


@_seeds("gitiles")
def test_repositories_are_equal(seeds: Sequence[int], tmp_path: Path) -> None:
    """Histories with merges, force pushes, tags and skewed clocks: refs, logs in pages, names of revisions."""
    server, names = GitilesServer(tmp_path), itertools.count()
    server.start()
    try:
        url = host_urls({repositories.HOST: server.url_of(repositories.HOST)})
        opened = sessions(authenticated=False)
        client = GitilesClient(url, opened, 60 * SECOND, authenticated=False, clock=SystemClock())
        port = Port(
            "gitiles",
            repositories.draw,
            lambda: repositories.gitiles_sides(server, client, tmp_path, f"r{next(names)}"),
        )
        _check(port, seeds)
        opened().close()
    finally:
        server.stop()


@_seeds("github")
def test_repositories_on_github_are_equal(seeds: Sequence[int], tmp_path: Path) -> None:
    """The same histories, as first-parent lines: the client in front of the REST API adds and loses nothing."""
    server, names = GitHubServer(tmp_path), itertools.count()
    server.start()
    limits = server.meter.limits
    limits.requests = limits.points = 1 << 30
    try:
        hosts = CommitHosts({repositories.GITHUB: ConfiguredHost(HostKind.GITHUB, server.url, credentials=True)})
        opened = sessions(authenticated=False)
        api = GitHubApi(hosts, opened, TokenCredentials("token"), SystemClock(), 60 * SECOND)

        def sides() -> AbstractContextManager[tuple[Side, Side]]:
            return repositories.github_sides(server, GitHubClient(api), tmp_path, f"r{next(names)}")

        _check(Port("github", repositories.draw, sides), seeds)
        opened().close()
    finally:
        server.stop()


@_seeds("buildbucket")
def test_build_servers_are_equal(seeds: Sequence[int]) -> None:
    """The server of the simulator, and that of the local cloud: repeated requests, searches, cancellations, time."""
    _check(Port("buildbucket", builds.draw, builds.builds_sides, longest=20), seeds)


# The comparison itself ------------------------------------------------------------------------------------------------


class _Number(Side):
    """A sum; the wrong one forgets an addition of seven after a doubling."""

    def __init__(self, *, is_wrong: bool) -> None:
        self._sum, self._is_wrong, self._doubled = 0, is_wrong, False

    def do_add(self, number: int) -> None:
        """Add a number."""
        if not (self._is_wrong and self._doubled and number == 7):
            self._sum += number

    def do_double(self) -> None:
        """Double the sum."""
        self._sum, self._doubled = 2 * self._sum, True

    def do_root(self) -> object:
        """Return a root, which a negative sum does not have."""
        return self._sum**0.5 if self._sum >= 0 else [].index(self._sum)  # type: ignore[arg-type]

    def state(self) -> object:
        """Return the sum."""
        return self._sum


def _numbers(entropy: random.Random) -> Operation:
    return Operation(*entropy.choice([("add", (entropy.randint(-9, 9),)), ("double", ()), ("root", ())]))


def _port(*, is_wrong: bool) -> Port:
    return Port("sum", _numbers, lambda: nullcontext((_Number(is_wrong=False), _Number(is_wrong=is_wrong))), longest=40)


def test_equal_implementations_have_no_difference() -> None:
    """Equal errors are equal answers."""
    assert [seed for seed in range(50) if report(_port(is_wrong=False), seed)] == []


def test_a_difference_is_shrunk_and_reported_with_its_seed() -> None:
    """Two operations remain of many. The report names the seed, the operations and both states."""
    port = _port(is_wrong=True)
    reports = [text for seed in range(50) if (text := report(port, seed))]
    assert len(reports) > 10
    for text in reports:
        assert "double()\n  add(7)" in text
        assert text.startswith("sum, seed ")
    operations = [Operation("double"), Operation("root"), Operation("add", (7,)), Operation("add", (2,))]
    assert shrunk(operations, lambda fewer: difference(port, fewer) is not None) == [operations[0], operations[2]]


def test_a_seed_draws_the_same_sequence() -> None:
    """Another seed draws another one."""
    port = _port(is_wrong=False)
    assert drawn(port, 1) == drawn(port, 1) != drawn(port, 2)
