"""Fixtures of the tests of the Cloud Build server."""

import pytest

from tests.unit.emulator.cloud_build.support import Bench


@pytest.fixture
def bench() -> Bench:
    """A service on a clock that stands still."""
    return Bench()
