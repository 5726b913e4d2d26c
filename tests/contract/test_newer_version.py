"""A rollout and a rollback: a newer version has written documents that these functions do not read.

The documents, tasks and builds are those of `test_older_installation`: every handler has work with them.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from luci_scheduler.core.errors import NewerVersionError, SchedulerError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.probe import Probe
from luci_scheduler.engine.jobs import pause_job
from luci_scheduler.ports import PutProbe, QueueTask
from tests.contract.test_older_installation import _check_ends, _Memory, _Upgraded
from tests.unit.engine.world import JOB, World, config

MINUTES = {"jobs": 3, "invocations": 3, "triggers": 3, "projects": 3, "pollers": 7, "repositories": 3}
"""Kind of document → how long its handlers try. A poll comes every five minutes."""
NEWER = "has schema 2, and this function reads schema 1"


def _of_kind(world: World, kind: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the stored documents of a kind."""
    stored = world.store._documents
    return {
        path: item.document for path, item in stored.items() if path[len(path) - 2 if len(path) != 3 else 0] == kind
    }


def _set_schema(world: World, kind: str, schema: int) -> None:
    for document in _of_kind(world, kind).values():
        document["schema"] = schema


def _try_everything(world: _Upgraded, minutes: int) -> set[str]:
    """Run all handlers for some minutes; return the reasons of the handlers that ask for another delivery."""
    reasons: set[str] = set()

    def attempt(call: Any, *arguments: Any) -> bool:
        try:
            call(*arguments)
        except SchedulerError as error:
            reasons.add(str(error))
            return False
        return True

    for minute in range(minutes):
        attempt(world.sync_all)
        attempt(world.run_task, QueueTask("sweep", {}, world.clock.now()), f"sweep{minute}")
        for build in list(world.buildbucket.tokens):
            attempt(world.notify, f"n{minute}", build)
        world.clock.advance(60 * 10**9)
        for task in world.queue.take_due(world.clock.now()):
            if not attempt(world.run_task, task, f"t{minute}"):
                world.queue.enqueue(QueueTask(task.kind, task.payload, Instant(world.clock.now() + 1)))
    return reasons


@pytest.mark.parametrize("kind", MINUTES)
def test_newer_documents_wait_for_newer_functions(kind: str) -> None:
    """No handler changes newer documents. Later, functions that read them finish the work."""
    world = _Upgraded(_Memory())
    _set_schema(world, kind, 2)
    before = copy.deepcopy(_of_kind(world, kind))
    with capture_logs() as logs:
        reasons = _try_everything(world, MINUTES[kind])
    assert {path: _of_kind(world, kind)[path] for path in before} == before
    # A poll records its failed attempt and makes another one later.
    reasons |= {line["error"] for line in logs if line["event"] == "launch_failed"}
    assert any(NEWER in reason for reason in reasons)
    assert {"trigger_set_aside", "document_unreadable", "unexpected_error"}.isdisjoint(line["event"] for line in logs)
    _set_schema(world, kind, 1)
    world.drive(40)
    _check_ends(world, tasks=True)


@pytest.mark.parametrize("kind", ["jobs", "repositories"])
def test_a_commit_that_needs_a_newer_document_comes_again(kind: str) -> None:
    """Nothing is written. A newer function then starts the build, once."""
    world = World()
    _set_schema(world, kind, 2)
    before = copy.deepcopy(world.store._documents)
    with pytest.raises(NewerVersionError, match=NEWER):
        world.commit()
    assert world.store._documents == before
    assert not world.buildbucket.builds
    _set_schema(world, kind, 1)
    world.commit()
    assert len(world.invocations()) == len(world.buildbucket.builds) == 1


def test_a_newer_job_does_not_hold_other_jobs_up() -> None:
    """Its trigger waits in a deferred task, whose deliveries come again until a newer function handles one."""
    world = World(config(("old", "new")))
    newer = world.store._documents["jobs", "proj/new"].document
    newer["schema"] = 2
    world.commit()
    assert [build["builder"]["builder"] for build in world.buildbucket.builds.values()] == ["old"]
    (work,) = world.works()
    (task,) = [task for task in world.queue.take_due(world.clock.now()) if task.kind == "deferred"]
    with pytest.raises(NewerVersionError, match=NEWER):
        world.run_task(task)
    assert world.works() == [work]
    _set_schema(world, "deferred", 2)
    newer["schema"] = 1
    with pytest.raises(NewerVersionError, match=r"deferred task .* has schema 2"):
        world.run_task(task)
    _set_schema(world, "deferred", 1)
    assert world.works() == [work]
    world.run_task(task)
    assert [build["builder"]["builder"] for build in world.buildbucket.builds.values()] == ["old", "new"]
    assert not world.works()


def test_a_newer_probe_is_acknowledged_unmarked() -> None:
    """A redelivery would end as a dead letter, and a probe serves no build. The log says why it has no mark."""
    world = World()
    world.store.commit([PutProbe(Probe("p", world.clock.now()), None)])
    _set_schema(world, "probes", 2)
    before = copy.deepcopy(_of_kind(world, "probes"))
    prober = replace(world.app.prober("r1", 1), servers={})
    with capture_logs() as logs:
        prober.mark("on_gitiles_commit", "p", "topic")
        prober.mark("on_build_completion", "p", "topic")
        prober.run({"probe": "p"})
    assert _of_kind(world, "probes") == before
    assert {line["reason"] for line in logs if line["event"] == "document_newer"} == {f"probe p {NEWER}"}
    assert {line["log_level"] for line in logs} <= {"info", "warning"}
    _set_schema(world, "probes", 1)
    prober.run({"probe": "p"})
    found = world.store.probe("p")
    assert found is not None
    assert found.value.done
    assert set(found.value.marks) == {"on_task"}


def test_a_person_cannot_change_a_newer_job() -> None:
    """Pausing asks for another try; nothing is written."""
    world = World()
    _set_schema(world, "jobs", 2)
    before = copy.deepcopy(world.store._documents)
    with pytest.raises(NewerVersionError, match=NEWER):
        pause_job(world.runtime, JobId(JOB), "user:a@example.com", "why", "k")
    assert world.store._documents == before
