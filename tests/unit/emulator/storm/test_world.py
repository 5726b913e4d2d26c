"""The world: real functions on services in memory, first without faults, then with the faults of a catalog."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from emulator.storm.faults import KINDS, Fault, Kind, kinds_at
from emulator.storm.history import Build, Commit, Run, Schedule
from emulator.storm.scripts import SCENARIOS
from emulator.storm.world import START, World, run
from luci_scheduler.core.instants import SECOND
from luci_scheduler.ports import UpdateInvocation

_COMMIT = "on_gitiles_commit"
_SCHEDULE = f"{_COMMIT}/buildbucket.ScheduleBuild"
_PUT = f"{_COMMIT}/buildbucket.v1.put"
_DEFECTS = ("unexpected_error", "malformed", "unauthenticated")
_RECORD = f"{_COMMIT}/store.commit"
"""The first commit creates the invocation, the second claims its launch, the third records the outcome."""


@cache
def _played(scenario: str) -> Run:
    """Return a run without faults."""
    return run(Schedule(1, (), scenario=scenario))


def _after(*faults: Fault, scenario: str = "commit") -> Run:
    return run(Schedule(1, faults, scenario=scenario))


def _ends(result: Run) -> list[str]:
    """Return the final statuses of all invocations, in order."""
    ended = {
        write.invocation.id: str(write.invocation.status)
        for commit in result.history.commits
        for write in commit.writes
        if isinstance(write, UpdateInvocation) and write.invocation.status.is_final
    }
    return list(ended.values())


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "random"])
def test_without_faults_each_build_ends_its_invocation(scenario: str) -> None:
    """No handler fails, and everything comes to its end."""
    result = _played(scenario)
    assert result.is_quiet
    assert result.faults == ()
    assert result.history.builds
    builds = [build for build in result.history.builds if build.job_id]
    assert len({(build.job_id, build.invocation_id) for build in builds}) == len(builds)
    assert {line["message"] for line in result.history.log}.isdisjoint(_DEFECTS)
    assert {answer.code for answer in result.history.answers} <= {200}
    expected = {"SUCCESS": "SUCCEEDED", "FAILURE": "FAILED", "INFRA_FAILURE": "FAILED", "CANCELED": "ABORTED"}
    if scenario == "commit":
        assert _ends(result) == [expected[build.status] for build in builds]


def test_each_kind_of_fault_has_a_point_that_is_reached() -> None:
    """A kind without a point would be switched on in vain."""
    lost = [Fault(Kind.BUILD_ANSWER_LOST, f"{point}/after", 0) for point in (_SCHEDULE, _PUT)]
    lost.append(Fault(Kind.BUILD_ANSWER_LOST, f"{_COMMIT}/cloud_build.create/after", 0))
    worlds = [World(Schedule(1, tuple(lost), scenario=scenario)) for scenario in ("two-jobs", "github")]
    for world in worlds:
        world.run()
    possible = {kind for world in worlds for point in world.choices.points for kind in kinds_at(point)}
    assert set(KINDS) - possible == set()


def test_the_same_seed_gives_the_same_run_in_each_process() -> None:
    """Neither the process nor its hash seed matters, and the faults that happened repeat the run."""
    program = (
        "from emulator.storm.history import Schedule\n"
        "from emulator.storm.world import run\n"
        "print(run(Schedule(3)).trace_hash)\n"
    )
    command = [sys.executable, "-c", program]
    hashes = [
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True).stdout
        for seed in ("1", "2")
    ]
    drawn = run(Schedule(3))
    assert hashes[0] == hashes[1]
    assert drawn.trace_hash in hashes[0].decode()
    assert len(drawn.faults) > 10
    assert run(Schedule(3, tuple(drawn.faults))).trace_hash == drawn.trace_hash
    assert run(Schedule(4)).trace_hash != drawn.trace_hash


_CHECK = "on_build_completion/buildbucket.GetBuild"
_NO_ANSWER = Fault(Kind.BUILD_ANSWER_LOST, f"{_SCHEDULE}/after", 0, 1)
_CASES = {
    "lost answer, refused record": (_NO_ANSWER, Fault(Kind.STORE_ABORTED, f"{_RECORD}/before", 2)),
    "lost answer, record read as a conflict": (_NO_ANSWER, Fault(Kind.STORE_FALSE_CONFLICT, f"{_RECORD}/after", 2)),
    "death after the request": (Fault(Kind.CRASH_AFTER, f"{_SCHEDULE}/after", 0),),
    "late landing": (Fault(Kind.BUILD_LATE_LANDING, f"{_SCHEDULE}/before", 0, 3_000),),
    "quota": (Fault(Kind.BUILD_QUOTA, f"{_SCHEDULE}/before", 0, 30),),
    "quota of a check": (Fault(Kind.BUILD_QUOTA, f"{_CHECK}/before", 0),),
    "no notification": tuple(Fault(Kind.NOTICE_LOST, "platform/notice", number) for number in range(2)),
    "late record": (Fault(Kind.STORE_LATE_LANDING, f"{_RECORD}/before", 2, 5_000),),
    "purge": (Fault(Kind.QUEUE_PURGED, "platform/minute", 2),),
    "outage of the store": (Fault(Kind.STORE_OUTAGE, "platform/minute", 1, 30),),
}


@pytest.mark.parametrize("faults", _CASES.values(), ids=_CASES)
def test_one_build_whatever_happens(faults: tuple[Fault, ...]) -> None:
    """All of the faults happen, and the invocation has one build and its status."""
    result = _after(*faults)
    assert set(result.faults) == set(faults)
    assert [build.status for build in result.history.builds] == ["FAILURE"]
    assert _ends(result) == ["FAILED"]
    assert result.is_quiet


def test_v1_forgets_a_request_id() -> None:
    """The launch looks for its build before it asks again."""
    lost = Fault(Kind.BUILD_ANSWER_LOST, f"{_PUT}/after", 0)
    result = _after(
        lost, Fault(Kind.BUILD_ID_FORGOTTEN, "on_task launch/buildbucket.v1.put/before", 0), scenario="commit-v1"
    )
    assert len(result.history.builds) == 1
    assert [call.told for call in result.history.calls if call.point.endswith("v1.search")] == ["ok"]


def test_a_broken_answer_cancels_its_build() -> None:
    """Success without a build ID ends the invocation, and the build."""
    result = _after(Fault(Kind.BUILD_ANSWER_BROKEN, f"{_SCHEDULE}/after", 0, 1))
    assert [build.status for build in result.history.builds] == ["CANCELED"]
    assert _ends(result) == ["FAILED"]


def test_two_invocations_may_have_one_id() -> None:
    """The ticks of two jobs draw the same millisecond and suffix. The second asks again under another request ID."""
    equal = [Fault(Kind.EQUAL_SUFFIX, "platform/suffix", number) for number in range(60)]
    late = Fault(Kind.TASK_LATE, "platform/task cron", 0, 2_000)
    builds = run(Schedule(4, (*equal, late), scenario="cron")).history.builds
    (second,) = [build for build in builds if build.request_id.endswith("-2")]
    first = next(build for build in builds if build.invocation_id == second.invocation_id)
    assert first.job_id != second.job_id


def test_calls_name_their_points_and_whether_they_landed() -> None:
    """An enumeration of single faults starts from them."""
    hang = Fault(Kind.BUILD_HANG, f"{_SCHEDULE}/before", 0)
    first, *_ = [call for call in _after(hang).history.calls if call.point == _SCHEDULE]
    assert (first.before, first.after, first.landed, first.told, first.handler) == (0, None, False, "Timeout", _COMMIT)
    calls = _played("commit").history.calls
    assert {(call.landed, call.told) for call in calls} == {(True, "ok")}
    assert len(calls) > 50


def test_a_death_of_an_instance_ends_its_deliveries_and_they_come_again() -> None:
    """The second delivery has the same key."""
    result = _after(Fault(Kind.CRASH_BEFORE, f"{_RECORD}/before", 1))
    first, second = [item for item in result.history.deliveries if item.handler == _COMMIT][:2]
    assert (first.code, first.attempt, second.code, second.attempt) == (None, 0, 200, 1)
    assert first.key == second.key


def test_a_rotated_key_still_verifies_the_builds_that_run() -> None:
    """The functions take the next key one after the other."""
    result = _after(Fault(Kind.KEY_ROTATION, "platform/users", 2))
    assert "unauthenticated" not in {line["message"] for line in result.history.log}
    assert [call.code for call in result.history.deliveries if call.handler == "on_build_completion"] == [200, 200]
    assert {"signing-secret-0", "signing-secret-1"} <= set(result.secrets)


class _Watching:
    """Counts, and fails at a commit if asked to."""

    def __init__(self, fail_at: int = 0) -> None:
        self.seen: list[str] = []
        self._fail_at = fail_at

    def committed(self, world: Any, commit: Commit) -> None:
        assert world.store.project("p") is not None
        self.seen.append("commit")
        assert commit.number != self._fail_at, "a broken promise"

    def built(self, world: Any, build: Build) -> None:
        assert build in world.history.builds
        self.seen.append(f"build {build.status}")

    def recovered(self, world: Any) -> None:
        assert (world.kernel.now() - START) // SECOND == 16 * 60
        self.seen.append("recovered")

    def ended(self, world: Any) -> None:
        assert world.is_quiet()
        self.seen.append("ended")


def test_observers_see_each_commit_and_build_when_it_happens() -> None:
    """They see the world in its state at that moment."""
    watching = _Watching()
    result = run(Schedule(1, (), scenario="commit"), [watching])
    assert watching.seen.count("commit") == len(result.history.commits)
    builds = [item.removeprefix("build ") for item in watching.seen if item.startswith("build")]
    assert builds == ["SCHEDULED", "STARTED", "FAILURE"]
    assert watching.seen[-1] == "ended"
    assert watching.seen.count("recovered") == 1


def test_an_observers_error_ends_the_run() -> None:
    """No handler hides it, although handlers catch all errors."""
    with pytest.raises(AssertionError, match="a broken promise"):
        run(Schedule(1, (), scenario="commit"), [_Watching(fail_at=5)])
