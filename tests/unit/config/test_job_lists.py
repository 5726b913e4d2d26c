"""An upgrade: jobs that an older release stored get the fields and the results that lists show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from emulator.memory.store import _Stored
from luci_scheduler.config.job_lists import prepare_job_lists
from luci_scheduler.config.sync import ConfigFile, sync_project, sync_sources
from luci_scheduler.core.errors import ComeAgainError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.project_record import JOB_LAYOUT, ProjectRecord
from luci_scheduler.ports import JobList, PutProject
from tests.unit.engine.world import JOB, World, config

_NEW = ("project", "realm", "state", "place", "triggers")


class _NoConfigs:
    """A source whose only config is as active as before, or broken."""

    def __init__(self, *files: ConfigFile) -> None:
        self._files = files

    def configs(self, _: Any, /) -> Sequence[ConfigFile]:
        return self._files


def _record(world: World) -> ProjectRecord:
    found = world.store.project("proj")
    assert found is not None
    return found.value


def _older() -> World:
    """Return a world whose job failed and then succeeded under a release that stored neither fields nor results."""
    world = World()
    for number, status in enumerate(("FAILURE", "SUCCESS", "FAILURE")):
        world.commit(f"{number:x}", f"m{number}")
        world.finish(status)
        world.notify(f"n{number}")
    store = world.store
    for path in list(store._under("jobs")):
        found = store.job(JobId(path[1]))
        assert found is not None
        stored = store._documents[path]
        older = replace(found.value, recent=())
        document = {name: value for name, value in stored.document.items() if name not in _NEW}
        body = document["record"].replace(_recent(document["record"]), "")
        assert "recent" not in body
        store._documents[path] = _Stored({**document, "record": body}, stored.version, stored.log)
        assert store.job(older.id).value == older  # type: ignore[union-attr]
    found_project = store.project("proj")
    assert found_project is not None
    store.commit([PutProject(replace(found_project.value, job_layout=0), found_project.version)])
    assert store.listed_jobs(JobList("proj"), 10) == []
    return world


def _recent(record: str) -> str:
    start = record.index('"recent":')
    return record[start : record.index('"triggers_wait"')]


@pytest.mark.parametrize("files", [(), (ConfigFile("proj", "job {", "rev2"),)], ids=["no config", "broken config"])
def test_the_next_sync_prepares_the_jobs(files: tuple[ConfigFile, ...]) -> None:
    """Whether or not a config can be read or is valid, jobs are listed, and show the results that they had."""
    world = _older()
    sync_sources(world.runtime, [_NoConfigs(*files)], "sync")
    jobs = world.store.listed_jobs(JobList("proj"), 10)
    assert [job.id for job in jobs] == ["proj/job", "proj/poller"]
    assert [item.status for item in jobs[0].recent] == [Status.FAILED, Status.SUCCEEDED, Status.FAILED]
    assert [item.revisions[0][0] for item in jobs[0].recent] == ["2", "1", "0"]
    assert world.store.count_jobs(JobList("proj", failing=True), 10) == 1
    assert _record(world).job_layout == JOB_LAYOUT
    commits = [job.commits for job in jobs]
    sync_sources(world.runtime, [_NoConfigs(*files)], "sync2")
    assert [job.commits for job in world.store.listed_jobs(JobList("proj"), 10)] == commits


def test_a_job_that_changes_meanwhile_is_read_again() -> None:
    """Another delivery changes the job between read and write: its change and the fields are both there."""
    world = _older()

    def disturb(_: Any) -> None:
        world.store.before_commit = None
        world.commit("9", "m9")

    world.store.before_commit = disturb
    prepare_job_lists(world.runtime, _record(world), "k")
    (job,) = (job for job in world.store.listed_jobs(JobList("proj"), 10) if job.id == JOB)
    assert len(job.active_invocations) == 1
    assert len(job.recent) == 3


def test_a_project_that_changes_meanwhile_is_prepared_by_the_next_sync() -> None:
    """The project's record is not marked over the record of another sync."""
    world = _older()
    before = _record(world)
    sync_project(world.runtime, ConfigFile("proj", config(("job", "other")), "rev2"), "other")
    with pytest.raises(ComeAgainError, match="another sync has changed project proj"):
        prepare_job_lists(world.runtime, before, "k")
    assert (_record(world).revision, _record(world).job_layout) == ("rev2", 0)
    sync_sources(world.runtime, [_NoConfigs()], "sync")
    assert _record(world).job_layout == JOB_LAYOUT


def test_a_new_project_needs_no_preparation() -> None:
    """Its jobs have all fields from the beginning, and a sync costs it nothing more."""
    world = World()
    assert _record(world).job_layout == JOB_LAYOUT
    world.store.counts.clear()
    assert prepare_job_lists(world.runtime, _record(world), "k").job_layout == JOB_LAYOUT
    assert world.store.counts["W"] == 0
