"""The debug log: appended unread, cut when it is huge, and never in the way of the document's limit."""

import json
from dataclasses import replace

from luci_scheduler.core import debug_log
from luci_scheduler.core.debug_log import LOG_LIMIT
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.ports import BuildbucketError
from tests.unit.engine.world import HOST, JOB, REPO, World


def test_log_of_a_very_long_build_stays_within_bounds() -> None:
    """Thousands of checks: the log is cut to its limit, head and tail are kept, and nothing fails."""
    world = World()
    world.commit()
    for _ in range(2500):
        world.tick(60)
    log = world.log()
    assert len(log.encode()) <= LOG_LIMIT
    assert "Starting the invocation (attempt 1)" in log
    assert "--- the log has been cut here ---" in log
    (invocation,) = world.invocations()
    assert log.rstrip("\n").endswith(f"({invocation.pending_timers[0].id}) after 1m0s")
    assert invocation.log_size <= 2 * LOG_LIMIT


def test_appending_reads_and_writes_the_same_however_long_the_log_is() -> None:
    """A check costs one read and one write at 1 KB and at 190 KB of log."""
    world = World()
    world.commit()
    for _ in range(750):
        world.tick(60)
    assert world.invocations()[0].log_size > LOG_LIMIT * 0.9
    world.counted()
    world.tick(60)
    assert world.counted() == "1R/1W/1c"


def test_a_huge_message_is_cut_before_it_is_stored() -> None:
    """One message of megabytes does not reach the store whole."""
    assert len(debug_log.trim("x" * 5_000_000).encode()) <= LOG_LIMIT


def test_a_server_that_is_not_configured_fails_the_invocation_in_words() -> None:
    """The log says which server is unknown and what to set; the slot is free again."""
    text = (
        f'trigger {{ id: "t" gitiles {{ repo: "{REPO}" refs: "refs/heads/main" }} triggers: "job" }}'
        f'job {{ id: "job" buildbucket {{ server: "other.{HOST}" bucket: "b" builder: "b" }} }}'
    )
    world = World(text)
    world.commit()
    assert "Failed to prepare PubSub topic" in world.log()
    assert "SCHEDULER_BUILDBUCKET_SERVERS" in world.log()


def test_stamps_never_go_back() -> None:
    """Neither of a claim nor of a handler, on an instance whose clock is behind that of the one before."""
    world = World()
    world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "down", transient=True)]
    world.commit()
    (task,) = world.queue.take_due(Instant(world.clock.now() + 10 * SECOND))
    world.clock.advance(-3 * SECOND)
    world.run_task(task)  # claims again
    world.clock.advance(-3 * SECOND)
    world.notify("n1")
    stamps = [line[:14] for line in world.log().splitlines() if line.startswith("[")]
    assert len(stamps) > 8
    assert stamps == sorted(stamps)
    assert world.invocations()[0].last_line == world.clock.now() + 5 * SECOND
    world.clock.advance(MINUTE)
    world.notify("n2")
    assert world.log().splitlines()[-1][:14] > stamps[-1]


def test_a_document_that_does_not_know_its_last_line_is_read() -> None:
    """As an earlier version wrote it."""
    world = World()
    world.commit()
    path = ("jobs", JOB, "invocations", f"{world.invocations()[0].id:019d}")
    stored = world.store._documents[path]
    state = json.loads(stored.document["state"])
    del state["last_line"]
    world.store._documents[path] = replace(stored, document={**stored.document, "state": json.dumps(state)})
    world.finish()
    world.notify("n1")
    assert world.log().endswith("with status SUCCEEDED\n")
