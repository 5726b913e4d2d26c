"""Fixtures of the tests of the Buildbucket server."""

from collections.abc import Iterator

import pytest

from emulator.buildbucket import BuildbucketServer
from emulator.buildbucket.testing import MemoryPublisher, ScriptedEntropy
from emulator.clock import SteppedClock
from tests.unit.emulator.buildbucket.support import START


@pytest.fixture
def publisher() -> MemoryPublisher:
    """A publisher that keeps messages."""
    return MemoryPublisher()


@pytest.fixture
def server(publisher: MemoryPublisher) -> Iterator[BuildbucketServer]:
    """A server whose builds change only on request."""
    server = BuildbucketServer(SteppedClock(START), publisher, life_cycle="manual", entropy=ScriptedEntropy())
    server.start()
    yield server
    server.stop()
