"""The debug log: appended without a read, cut when it is huge, and never the cause of a document above its limit."""

import json
from dataclasses import replace
from typing import Any

from luci_scheduler.adapters import documents
from luci_scheduler.core import debug_log
from luci_scheduler.core.debug_log import LOG_LIMIT
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.sizes import MAX_DOCUMENT_BYTES, MAX_TASK_BYTES
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import BuildbucketError, UpdateInvocation
from tests.unit.engine.stub import made
from tests.unit.engine.world import HOST, JOB, REPO, World, config


def test_log_of_a_very_long_build_stays_within_bounds() -> None:
    """After thousands of checks the log is cut to its limit; head and tail are kept, and nothing fails."""
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
    """A check costs one read and one write with 1 KB and with 190 KB of log."""
    world = World()
    world.commit()
    for _ in range(750):
        world.tick(60)
    assert world.invocations()[0].log_size > LOG_LIMIT * 0.9
    world.counted()
    world.tick(60)
    assert world.counted() == "1R/1W/1c"


def test_a_huge_message_is_cut_before_it_is_stored() -> None:
    """A message of several megabytes does not reach the store whole."""
    assert len(debug_log.trim("x" * 5_000_000).encode()) <= LOG_LIMIT


def test_an_unconfigured_server_fails_the_invocation_with_a_message() -> None:
    """The log names the unknown server and the setting; the slot is free again."""
    text = (
        f'trigger {{ id: "t" gitiles {{ repo: "{REPO}" refs: "refs/heads/main" }} triggers: "job" }}'
        f'job {{ id: "job" buildbucket {{ server: "other.{HOST}" bucket: "b" builder: "b" }} }}'
    )
    world = World(text)
    world.commit()
    assert "Failed to prepare PubSub topic" in world.log()
    assert "SCHEDULER_BUILDBUCKET_SERVERS" in world.log()


def test_stamps_never_go_back() -> None:
    """No handler writes an earlier time, even on an instance whose clock is slow."""
    world = World()
    world.buildbucket.faults = [BuildbucketError("UNAVAILABLE", "down", transient=True)]
    world.commit()
    (task,) = world.queue.take_due(Instant(world.clock.now() + 10 * SECOND))
    world.clock.advance(10 * SECOND)
    world.run_task(task)  # claims again
    world.clock.set_back(6 * SECOND)
    world.notify("n1")
    stamps = [line[:14] for line in world.log().splitlines() if line.startswith("[")]
    assert len(stamps) > 8
    assert stamps == sorted(stamps)
    assert world.invocations()[0].last_line == world.clock.now() + 5 * SECOND
    world.clock.advance(MINUTE)
    world.notify("n2")
    assert world.log().splitlines()[-1][:14] > stamps[-1]


def test_the_stamp_of_a_claim_never_goes_back() -> None:
    """An instance with a slow clock claims an invocation that an instance with a faster clock created."""
    world = World()
    limits = replace(world.runtime.limits, launches_at_once=0)
    accept_triggers(replace(world.runtime, limits=limits), JOB, [made("a", world.clock.now())], "k")
    (created,) = world.invocations()
    world.clock.set_back(3 * SECOND)
    world.run_task(launch_task(created, world.clock.now(), world.clock.now()))
    stamps = [line[:14] for line in world.log().splitlines() if line.startswith("[")]
    assert "Starting the invocation (attempt 1)" in world.log()
    assert stamps == sorted(stamps)


def test_a_document_without_its_last_line_recorded_is_read() -> None:
    """An earlier version wrote it."""
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


def _with_a_large_definition() -> World:
    """Return a world with a running build whose task and batch have the largest allowed size."""
    world = World(
        config().replace('builder: "job" }', f'builder: "job" properties: "p:{"x" * (MAX_TASK_BYTES - 500)}" }}')
    )
    world.commit("a", "m1")
    for number in range(22):
        trigger = Trigger(f"t{number}", world.clock.now(), "buildbucket", {"properties": {"p": "y" * 19_000}})
        accept_triggers(world.runtime, JOB, [trigger], f"api-{number}")
    world.finish()
    world.notify("n1")
    return world


def _document_size(invocation: Invocation) -> int:
    return documents.stored_size(documents.encode_invocation(invocation)) + invocation.log_size


def _grow(world: World, size: int, **changes: Any) -> None:
    """Let the newest invocation's log grow by the given number of bytes, as long builds do."""
    with world.uncounted():
        found = world.store.invocation(JOB, world.invocations()[0].id)
    assert found is not None
    text = "".join(f"a line of a log {number:09}\n" for number in range(size // 26))
    log_size, commits = found.value.log_size + len(text), found.value.commits + 1
    grown = replace(found.value, log_size=log_size, commits=commits, **changes)
    world.store.commit([UpdateInvocation(grown, found.version, text)])


def test_a_log_next_to_a_large_definition_stays_below_the_limit() -> None:
    """With the largest task of a config and a full batch, the log is cut, and no check is refused."""
    world = _with_a_large_definition()
    (invocation, _) = world.invocations()
    assert len(invocation.incoming_triggers) == 22
    sizes = []
    for _ in range(20):
        _grow(world, 30_000)
        world.tick(60)
        sizes.append(_document_size(world.invocations()[0]))
    assert 900_000 < max(sizes) <= MAX_DOCUMENT_BYTES
    assert sizes != sorted(sizes)
    assert "--- the log has been cut here ---" in world.log()
    world.finish()
    world.notify("n2")
    assert world.invocations()[0].status is Status.SUCCEEDED


def test_emitted_triggers_take_their_room_from_the_log() -> None:
    """In an almost full document less of the log is kept, and the build ends."""
    world = _with_a_large_definition()
    emitted = tuple(Trigger(f"e{number}", world.clock.now(), "noop", {"data": "z" * 900}) for number in range(120))
    _grow(world, 60_000, outgoing_triggers=emitted)
    world.finish()
    world.notify("n2")
    (invocation, _) = world.invocations()
    assert invocation.status is Status.SUCCEEDED
    assert 100_000 < invocation.log_size < 190_000
    assert "Starting the invocation (attempt 1)" in world.log()
    assert world.log().rstrip().endswith("with status SUCCEEDED")
