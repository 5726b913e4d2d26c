"""A pending trigger that cannot be read stops neither its job's triage, nor the next commit, nor a page."""

from __future__ import annotations

from dataclasses import replace

from structlog.testing import capture_logs

from luci_scheduler.core.instants import SECOND
from luci_scheduler.ports import QueueTask
from tests.unit.api.support import Client, world_for
from tests.unit.engine.world import JOB, World


def _with_unreadable_trigger() -> World:
    """Return a world whose job runs one commit and has two pending triggers: a readable and an unreadable one."""
    world = world_for()
    for number, revision in enumerate("abc"):
        world.commit(revision, f"m{number}")
    (path, _) = world.store._pending["jobs", JOB, "triggers"]
    stored = world.store._documents[path]
    world.store._documents[path] = replace(stored, document={**stored.document, "record": "["})
    return world


def test_the_job_continues() -> None:
    """The readable trigger gets its invocation when the slot is freed, and so does a later commit."""
    world = _with_unreadable_trigger()
    world.finish()
    with capture_logs() as logs:
        world.notify("n1")
    assert [line["event"] for line in logs].count("trigger_set_aside") == 1
    assert [item.incoming_triggers[-1].title[:1] for item in world.invocations()] == ["c", "a"]
    world.finish()
    world.notify("n2")
    world.commit("d", "m4")
    assert [item.incoming_triggers[-1].title[:1] for item in world.invocations()] == ["d", "c", "a"]


def test_the_commit_itself_is_not_delivered_forever() -> None:
    """The same event is acknowledged or retried; a requested triage runs."""
    world = _with_unreadable_trigger()
    world.run_task(QueueTask("triage", {"job": JOB}, world.clock.now()))
    world.clock.advance(SECOND)
    assert len(world.store.pending_triggers(JOB, 10)) == 1


def test_its_pages_are_shown() -> None:
    """The job's page lists the readable triggers."""
    world = _with_unreadable_trigger()
    client = Client(world)
    for path in (f"/jobs/{JOB}", "/jobs/proj", "/"):
        assert client.http(path, who="owner@example.com", method="GET").status_code == 200
    waiting = client.http(f"/jobs/{JOB}?format=json", who="owner@example.com", method="GET").json["pending_triggers"]
    assert len(waiting) == 1
