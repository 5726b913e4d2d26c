"""The functions of the last release beside today's, in one process."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import luci_scheduler.core.instants
from emulator.storm.faults import Fault, Kind
from emulator.storm.history import Schedule
from emulator.storm.release import Release
from emulator.storm.world import run

_ARCHIVE = Path(__file__).parents[3] / "e2e" / "releases" / "last.tar.xz"
_OLD = tuple(Fault(Kind.OLD_VERSION, "platform/instance", number) for number in (0, 2, 4))
"""One instance of each event function, and one of the tasks'."""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The last release, loaded."""
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(_ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return Release(folder / "functions")


def test_a_release_has_its_own_modules(release: Release) -> None:
    """They see each other, and today's see none of them."""
    instants = release.module("luci_scheduler.core.instants")
    assert instants is not luci_scheduler.core.instants
    entry = release.module("luci_scheduler.entry")
    assert entry.TransientError is release.module("luci_scheduler.core.errors").TransientError
    assert entry.TransientError.__module__ == "released.luci_scheduler.core.errors"
    with pytest.raises(ModuleNotFoundError, match="the release has no module"):
        release.module("luci_scheduler.nothing")


@pytest.mark.parametrize("scenario", ["two-jobs", "cron"])
def test_both_releases_work_on_the_same_documents(release: Release, scenario: str) -> None:
    """Each invocation has one build, whichever release handles its deliveries."""
    result = run(Schedule(1, _OLD, scenario=scenario), release=release)
    assert set(result.faults) == set(_OLD)
    assert result.is_quiet
    invocations = [(build.job_id, build.invocation_id) for build in result.history.builds]
    assert len(set(invocations)) == len(invocations) >= 4
    defects = [line for line in result.history.log if line["message"] in ("unexpected_error", "config_sync_defect")]
    assert defects == []
    answered = {item.instance for item in result.history.deliveries if item.code == 200}
    assert {"on_task-0", "on_task-1", "on_build_completion-0", "on_build_completion-1"} <= answered
    names = {type(write).__module__ for commit in result.history.commits for write in commit.writes}
    assert "luci_scheduler.ports" in names


def test_without_a_release_no_instance_is_old() -> None:
    """The kind is never drawn then."""
    assert Kind.OLD_VERSION not in {fault.kind for fault in run(Schedule(3)).faults}
