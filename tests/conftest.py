"""Fixtures for all tests: one pair of official emulators per session, a fresh project for each test."""

import gc
import os
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import freezegun
import pytest
import structlog

from emulator.official import OfficialEmulator, start_firestore, start_pubsub

# gRPC and its helpers measure deadlines with the real clock; with a frozen one, calls would fail or hang. Waits for
# processes would as well, and other threads wait for processes during a test with frozen time.
freezegun.configure(extend_ignore_list=["google.api_core", "grpc", "subprocess"])

# Its messages below errors would mix with the standard error that a test reads.
os.environ["GRPC_VERBOSITY"] = "ERROR"

# The default one shows the local variables of every frame, which takes seconds for each logged exception.
structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback

# Tests start hundreds of processes that import the project. Without bytecode each of them would compile it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The modules and the tests live until the end, so the collection has no garbage. `pytest_collection_finish` undoes it.
gc.disable()

for _name in [name for name in os.environ if name.startswith("SCHEDULER_")]:
    del os.environ[_name]


def pytest_collection_finish() -> None:
    """Exempt the modules and the collected tests from the search for garbage, and begin to search."""
    gc.freeze()
    gc.enable()


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
    """A client with a fresh project, without documents of other tests."""
    from google.cloud import firestore

    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.address)
    client = firestore.Client(project=f"t-{uuid.uuid4().hex[:10]}")
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _nothing_bound() -> Iterator[None]:
    """Keep the bindings of one test out of the log lines of the next.

    A delivery's bindings end with its handler, a test's do not.
    """
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def no_log() -> Iterator[None]:
    """Drop every log line, so that a test that prints measures prints nothing else."""

    def drop(*_: Any) -> Any:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    yield
    structlog.reset_defaults()
