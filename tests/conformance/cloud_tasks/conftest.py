"""Servers, clients and targets of the suite."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from google.cloud import tasks_v2

from emulator.clock import RealClock, SteppedClock
from emulator.cloud_tasks import CloudTasksServer
from tests.conformance.cloud_tasks.support import LOCATION, START, Target, client_of


@pytest.fixture(scope="session")
def live() -> Iterator[CloudTasksServer]:
    """A server in real time that delivers tasks itself. Tests share it and use separate queues."""
    with CloudTasksServer(clock=RealClock()) as server:
        yield server


@pytest.fixture
def client(live: CloudTasksServer) -> Iterator[tasks_v2.CloudTasksClient]:
    """The real client of the live server."""
    with client_of(live) as connected:
        yield connected


@pytest.fixture
def queue(client: tasks_v2.CloudTasksClient) -> str:
    """A fresh queue on the live server."""
    name = f"{LOCATION}/queues/q-{uuid.uuid4().hex}"
    return client.create_queue(parent=LOCATION, queue={"name": name}).name


@pytest.fixture
def clock() -> SteppedClock:
    """A clock that the test moves."""
    return SteppedClock(START)


@pytest.fixture
def manual(clock: SteppedClock) -> Iterator[CloudTasksServer]:
    """A server on the stepped clock with manual dispatch."""
    with CloudTasksServer(clock=clock, dispatch="manual") as server:
        yield server


@pytest.fixture
def manual_client(manual: CloudTasksServer) -> Iterator[tasks_v2.CloudTasksClient]:
    """The real client of the manual server."""
    with client_of(manual) as connected:
        yield connected


@pytest.fixture
def target() -> Iterator[Target]:
    """An HTTP server to deliver to."""
    server = Target()
    yield server
    server.close()
