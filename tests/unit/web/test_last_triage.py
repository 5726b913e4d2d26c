"""The log of the last triage, and the changes of the job since then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.core.instants import format_rfc3339
from tests.unit.api.support import OWNER, put_job, world_for
from tests.unit.engine.world import JOB, World, config
from tests.unit.web.support import Page, Visitor

PAGE = "/jobs/proj/job"


@pytest.fixture
def world() -> World:
    """A job that was triaged, and whose only slot is taken."""
    world = world_for()
    world.commit()
    return world


def _job(world: World) -> Any:
    found = world.store.job(JOB)
    assert found is not None
    return found.value


def _section(page: Page) -> str:
    return " ".join(page.all("section", id="live-triage")[0].text.split())


def _changes(world: World) -> list[str]:
    """Return the changes since the last triage, on which the page and its twin agree."""
    triage, section = Visitor(world).json(PAGE)["last_triage"], _section(Visitor(world).page(PAGE))
    assert triage["stale"] == bool(triage["changes"]) == ("This log is stale." in section)
    assert triage["log"] == world.store.triage_log(JOB)
    assert all(change in section for change in triage["changes"])
    changes: list[str] = triage["changes"]
    return changes


def test_the_page_shows_the_time_of_the_last_triage(world: World) -> None:
    """One commit writes the time and the log; a fresh log is not stale, even after the end of an invocation."""
    at = world.clock.now()
    assert (_job(world).last_triage, _job(world).triaged_revision) == (at, "rev1")
    assert Visitor(world).json(PAGE)["last_triage"]["at"] == format_rfc3339(at)
    assert "Last triage (2026-03-01 12:00:01 UTC, now)" in _section(Visitor(world).page(PAGE))
    assert _changes(world) == []
    world.finish()
    world.notify("n1")
    assert _changes(world) == []
    assert _job(world).last_triage == at


def test_a_trigger_is_pending_in_the_triage_of_its_own_commit(world: World) -> None:
    """The log counts it, as in the original, because it is in the set by then."""
    log = world.store.triage_log(JOB)
    assert "Pending triggers set:  1 items, 0 garbage\n" in log
    assert "Triggers available in this txn: 1\n" in log


def test_newer_triggers_make_the_log_stale(world: World) -> None:
    """While the slot is taken, new triggers wait without a triage; the next triage starts them."""
    world.commit("b", "m2")
    assert _changes(world) == [
        "1 of the pending triggers on this page has arrived. They are triaged when an invocation ends."
    ]
    world.commit("c", "m3")
    assert _changes(world)[0].startswith("2 of the pending triggers on this page have arrived.")
    world.finish()
    world.notify("n1")
    assert _job(world).last_triage == world.clock.now()
    assert _changes(world) == []


def test_a_changed_definition_makes_the_log_stale(world: World) -> None:
    """The sentence names both revisions; a new revision that does not change the job does not count."""
    world.sync(config() + "# note\n")
    assert _changes(world) == []
    world.clock.advance(1)
    world.sync(config().replace('builder: "job"', 'builder: "other"'))
    assert _changes(world) == ["The definition changed from revision rev1 to rev3."]
    world.finish()
    world.notify("n1")
    world.commit("b", "m2")
    assert _changes(world) == []


def test_a_pause_makes_the_log_stale(world: World) -> None:
    """A pause is a change until its triage has run; a resumption, which needs no triage, remains one."""
    visitor = Visitor(world)
    world.clock.advance(10)
    visitor.submit(PAGE, "/actions/pauseJob/proj/job")
    assert _changes(world) == ["The job was paused.", "Another triage is due and will run soon."]
    world.tick(5)
    assert _changes(world) == []
    assert _job(world).changed_by == f"user:{OWNER}"
    world.clock.advance(10)
    visitor.submit(PAGE, "/actions/resumeJob/proj/job")
    assert _changes(world) == ["The job was resumed."]


def test_a_log_without_a_time_is_shown() -> None:
    """The page shows the log and no changes, which are not known."""
    world = world_for()
    world.commit()
    put_job(world, replace(_job(world), last_triage=None, triaged_revision=""))
    world.clock.advance(10)
    world.commit("b", "m2")
    assert _section(Visitor(world).page(PAGE)).startswith("Last triage [000 ms] Starting")
    assert Visitor(world).json(PAGE)["last_triage"]["at"] is None
    assert _changes(world) == []
