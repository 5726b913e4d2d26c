"""Fixtures of the tests of the Gitiles server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.gitiles import GitilesServer, Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository named tint."""
    return Repository.create(tmp_path / "tint")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitilesServer]:
    """A server of the repositories in a folder."""
    server = GitilesServer(tmp_path)
    server.start()
    yield server
    server.stop()
