"""One run of a commit without faults, which tests spoil in many ways."""

from __future__ import annotations

import copy

import pytest

from emulator.storm.history import Run, Schedule
from emulator.storm.world import run


@pytest.fixture(scope="session")
def _good_run() -> Run:
    return run(Schedule(1, (), scenario="commit"))


@pytest.fixture
def good_run(_good_run: Run) -> Run:
    """Return a run that a test may change: all lists are its own, and the records in them are immutable or copied."""
    mine = copy.copy(_good_run)
    mine.history = copy.copy(_good_run.history)
    for name in ("commits", "calls", "pushes", "answers", "requests", "messages", "log", "outages", "lost"):
        setattr(mine.history, name, list(getattr(_good_run.history, name)))
    mine.history.builds = [copy.copy(build) for build in _good_run.history.builds]
    mine.history.deliveries = [copy.copy(delivery) for delivery in _good_run.history.deliveries]
    return mine
