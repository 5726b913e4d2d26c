"""What all tests share: one pair of official emulators per session, a fresh project for each test."""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import freezegun
import pytest
import structlog

from emulator.official import OfficialEmulator, start_firestore, start_pubsub

# gRPC and its helpers measure deadlines with the real clock; frozen, calls would fail or hang. So do waits for processes, which
# threads beside a test with frozen time do, too.
freezegun.configure(extend_ignore_list=["google.api_core", "grpc", "subprocess"])

# What it tells beside errors would stand among what a test reads of standard error.
os.environ["GRPC_VERBOSITY"] = "ERROR"

for _name in [name for name in os.environ if name.startswith("SCHEDULER_")]:
    del os.environ[_name]


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[OfficialEmulator]:
    """The official Firestore emulator."""
    emulator = start_firestore()
    try:
        emulator.wait_until_ready()
        yield emulator
    finally:
        emulator.stop()


@pytest.fixture(scope="session")
def pubsub_emulator() -> Iterator[OfficialEmulator]:
    """The official Pub/Sub emulator."""
    emulator = start_pubsub()
    try:
        emulator.wait_until_ready()
        yield emulator
    finally:
        emulator.stop()


@pytest.fixture
def firestore_client(firestore_emulator: OfficialEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client with a project of its own: nothing another test wrote is there."""
    from google.cloud import firestore

    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.address)
    client = firestore.Client(project=f"t-{uuid.uuid4().hex[:10]}")
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _nothing_bound() -> Iterator[None]:
    """What a test binds to its log lines is not on those of the next: deliveries end with their handler, tests do not."""
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def no_log() -> Iterator[None]:
    """Drop every log line, so that a test that prints its measures prints nothing else."""

    def drop(*_: Any) -> Any:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    yield
    structlog.reset_defaults()
