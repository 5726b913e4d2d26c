"""Log lines that alerts and the objective count: launches with the time since their commit, and failing polls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.engine.outcome import _with_end
from luci_scheduler.ports import BuildbucketError, GitilesError
from tests.unit.engine.world import HOST, JOB, REPO, World

_REFUSED = BuildbucketError("PERMISSION_DENIED", "no", transient=False)
_SILENT = BuildbucketError("UNAVAILABLE", "no", transient=True)
_POLLER = JobId("proj/poller")
_POLLED = f"""
trigger {{
  id: "poller" schedule: "with 10m interval" gitiles {{ repo: "{REPO}" refs: "refs/heads/main" }} triggers: "job"
}}
job {{ id: "job" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "job" }} }}
"""


@pytest.fixture(name="lines")
def _lines() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def _named(lines: list[Any], *names: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] in names]


def _commit(world: World, late: int, number: int = 1) -> None:
    event = CommitEvent(REPO, "refs/heads/main", f"{number:040x}")
    on_commit(world.runtime, event, Instant(world.clock.now() - late), f"commit-m{number}")


def test_a_launch_of_the_commits_delivery_counts_from_the_publication(lines: list[Any]) -> None:
    """A message that came three minutes late makes a launch of three minutes."""
    world = World()
    _commit(world, 3 * MINUTE)
    (line,) = _named(lines, "launched")
    assert (line["job_id"], line["kind"], line["commit_latency_ms"]) == (JOB, "buildbucket", 180_000)
    assert _named(lines, "triggers_arrived")[0]["jobs"] == 1


def test_waiting_for_a_slot_does_not_count(lines: list[Any]) -> None:
    """The second commit waits for an hour, until the first build ends."""
    world = World()
    _commit(world, SECOND)
    _commit(world, SECOND, 2)
    world.clock.advance(HOUR)
    world.finish()
    world.notify("n1")
    assert [line["commit_latency_ms"] for line in _named(lines, "launched")] == [1000, 0]


def test_repeated_requests_count_from_the_decision(lines: list[Any]) -> None:
    """Buildbucket is silent for a while: only the request that it accepts makes a line, with the whole time."""
    world = World()
    world.buildbucket.faults = [_SILENT, None, _SILENT]
    _commit(world, SECOND)
    assert _named(lines, "launched") == []
    world.tick(5)
    world.tick(10)
    (line,) = _named(lines, "launched")
    assert line["commit_latency_ms"] == 15_000
    assert {failed["kind"] for failed in _named(lines, "launch_failed")} == {"buildbucket"}


def test_a_refused_launch_is_given_up(lines: list[Any]) -> None:
    """It is the end of the invocation; the time shows that a commit waited for it."""
    world = World()
    world.buildbucket.faults = [_REFUSED]
    _commit(world, SECOND)
    assert _named(lines, "launched") == []
    (line,) = _named(lines, "launch_given_up")
    assert (line["log_level"], line["kind"], line["commit_latency_ms"]) == ("warning", "buildbucket", 1000)
    assert _named(lines, "launch_refused")[0]["kind"] == "buildbucket"


def test_an_abort_is_no_failed_launch(lines: list[Any]) -> None:
    """The person who aborted it knows."""
    world = World()
    world.buildbucket.faults = [_SILENT]
    _commit(world, SECOND)
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
    world.tick(600)
    assert _named(lines, "launched", "launch_given_up") == []


def test_a_polled_commit_counts_from_the_start_of_its_poll(lines: list[Any]) -> None:
    """The commit itself may be years old. The launch of the poll is no launch for a commit."""
    gitiles = MemoryGitiles()
    gitiles.push("refs/heads/main")
    world = World(_POLLED, gitiles)
    world.tick(600)
    world.tick(4)
    poll, build = _named(lines, "launched")
    assert (poll["kind"], poll.get("commit_latency_ms")) == ("gitiles", None)
    assert (build["kind"], build["commit_latency_ms"]) == ("buildbucket", 4000)


def _failing(code: str, *, transient: bool = False, call: str = "") -> Any:
    def fail(name: str) -> None:
        if call in name:
            raise GitilesError(code, "no", transient=transient)

    return fail


def test_failed_polls_are_counted_until_one_succeeds(lines: list[Any]) -> None:
    """Every fifth failure in a row makes one line. A poll without news is a success."""
    gitiles = MemoryGitiles()
    gitiles.push("refs/heads/main")
    world = World(_POLLED, gitiles)
    world.tick(600)
    healthy = gitiles.before_call
    for failures, told in ((4, []), (11, [5, 10])):
        gitiles.before_call = _failing("PERMISSION_DENIED")
        for _ in range(failures):
            world.tick(600)
        assert [line["failures"] for line in _named(lines, "polls_keep_failing")] == told
        gitiles.before_call = healthy
        world.tick(600)
        job = world.store.job(_POLLER)
        assert job is not None
        assert job.value.failed_polls == 0
    assert {line["job_id"] for line in _named(lines, "polls_keep_failing")} == {_POLLER}


def test_every_tenth_attempt_of_a_poll_makes_a_line(lines: list[Any]) -> None:
    """The host lists its refs and serves no commit, so one poll is tried for hours."""
    gitiles = MemoryGitiles()
    gitiles.push("refs/heads/main")
    world = World(_POLLED, gitiles)
    world.tick(600)
    gitiles.push("refs/heads/main")
    gitiles.before_call = _failing("UNAVAILABLE", transient=True, call="log")
    for _ in range(25):
        world.tick(600)
    attempts = len(_named(lines, "launch_failed"))
    assert 20 <= attempts < 30
    assert [line["failures"] for line in _named(lines, "polls_keep_failing")] == [10, 20]


def test_a_single_failed_poll_is_only_counted(lines: list[Any]) -> None:
    """Its document has the number, and no line asks for help."""
    gitiles = MemoryGitiles()
    gitiles.push("refs/heads/main")
    gitiles.before_call = _failing("PERMISSION_DENIED")
    world = World(_POLLED, gitiles)
    world.tick(600)
    job = world.store.job(_POLLER)
    assert job is not None
    assert job.value.failed_polls == 1
    assert _named(lines, "polls_keep_failing") == []
    assert _named(lines, "launch_given_up")[0]["kind"] == "gitiles"
    (poll,) = world.invocations(_POLLER)
    after = _with_end(job, replace(poll, status=Status.ABORTED))
    assert after.value.failed_polls == 1, "an aborted poll hides no failure before it"
