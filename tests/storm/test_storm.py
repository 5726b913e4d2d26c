"""Three hundred schedules of faults, and a sample of all single faults, violate no invariant."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from emulator.storm.enumeration import scenarios, singles
from emulator.storm.faults import KINDS, Fault, Kind
from emulator.storm.focus import focused
from emulator.storm.history import Schedule
from emulator.storm.pairs import places
from emulator.storm.storming import Outcome, Tally, play_and_judge, shrunk
from emulator.storm.world import run
from luci_scheduler.core.instants import MINUTE
from luci_scheduler.managers.buildbucket import manager
from luci_scheduler.managers.buildbucket.manager import BuildbucketManager

SCHEDULES, SINGLES = 300, 40
_SCENARIOS = scenarios()


def schedule(seed: int) -> Schedule:
    """Return a short and stormy schedule: a focused one, or each scenario in turn with three times the usual faults."""
    if seed & 1:
        return focused(seed)
    return Schedule(seed, scenario=_SCENARIOS[seed % len(_SCENARIOS)], rate=3.0)


def complaints(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the replay line of each failing run, with its violations."""
    failed = [outcome for outcome in outcomes if not outcome.holds]
    return [f"{item.schedule.line()}: {item.error} {list(map(str, item.violations))}" for item in failed]


def test_schedules_hold() -> None:
    """No trigger is lost, no build is doubled, nothing stays stuck, and every other invariant holds.

    The schedules contain many kinds of faults, and many builds.
    """
    outcomes = [play_and_judge(schedule(seed)) for seed in range(SCHEDULES)]
    assert complaints(outcomes) == []
    total = Tally()
    for outcome in outcomes:
        total.add(outcome)
    assert len(KINDS) >= 30
    assert len(+total.faults) >= 50
    assert total.faults.total() > 20 * SCHEDULES
    assert total.builds > SCHEDULES


def test_single_faults_hold() -> None:
    """A sample of the single faults holds, at equal distances over all scenarios; the command plays all of them."""
    bases = [Schedule(1, scenario=name) for name in _SCENARIOS]
    found = [Schedule(1, (fault,), scenario=base.scenario) for base in bases for fault in singles(base)]
    assert len(found) > 10_000
    sample = [found[len(found) * place // SINGLES] for place in range(SINGLES)]
    outcomes = [play_and_judge(item) for item in sample]
    assert complaints(outcomes) == []
    assert all(outcome.faults == outcome.schedule.faults for outcome in outcomes), "each fault happened"


def test_second_faults_follow_the_first() -> None:
    """After a call that hung, each later call can fail. Pairs stay within the handler and its successors."""
    first = Fault(Kind.ENQUEUE_HANG, "on_gitiles_commit/queue.enqueue timer/before", 0)
    played = run(Schedule(1, (first,), scenario="commit"))
    hangs, pairs = (list(places(played, which)) for which in ("hangs", "pairs"))
    assert 0 < len(pairs) < len(hangs)
    assert len({(place.point, place.nth) for place in hangs}) == len(hangs)
    assert (first.point, first.nth) not in {(place.point, place.nth) for place in hangs}
    assert any(place.point.startswith("on_gitiles_commit/store.commit") for place in pairs), "its own later calls"
    assert any(place.point.startswith("on_build_completion/buildbucket") for place in hangs), "calls of later handlers"
    refused = replace(first, kind=Kind.ENQUEUE_REFUSED)
    assert list(places(run(Schedule(1, (refused,), scenario="commit")), "hangs")) == []


def test_a_brief_run_leaves_out_what_cannot_matter() -> None:
    """It ends when all faults have happened and nothing but idle schedules is left. Its end is the same."""
    fault = Fault(Kind.CRASH_AFTER, "on_gitiles_commit/store.commit/after", 0)
    whole = Schedule(1, (fault,), scenario="commit")
    long, short = (run(item) for item in (whole, replace(whole, is_brief=True)))
    assert len(short.history.deliveries) < len(long.history.deliveries) - 10
    assert len(short.history.builds) == len(long.history.builds) == 1
    assert len(short.history.commits) == len(long.history.commits) - 1, "the whole run ends with a config"
    assert (short.is_quiet, short.faults) == (True, long.faults)
    late = replace(fault, point="platform/minute", kind=Kind.QUEUE_PURGED, nth=5)
    assert run(replace(whole, faults=(late,), is_brief=True)).faults == (late,), "it waits for its faults"
    copied = Fault(Kind.TASK_DOUBLED, "platform/task timer", 0, 300_000)
    keys = [item.key for item in run(replace(whole, faults=(copied,), is_brief=True)).history.deliveries]
    assert max(keys.count(key) for key in keys) == 2, "it waits for copies of tasks"
    assert Schedule.parse(replace(whole, is_brief=True).line()).is_brief


def lost_answer(nth: int = 0) -> tuple[Fault, ...]:
    """Return the faults of the classic double: the answer of the request is lost, and so is the commit about that."""
    launch = "on_gitiles_commit/buildbucket.ScheduleBuild/after"
    return (
        Fault(Kind.BUILD_ANSWER_LOST, launch, nth, 1),
        Fault(Kind.STORE_ABORTED, "on_gitiles_commit/store.commit/before", 2),
    )


def test_a_planted_double_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the search before a repeated request, two faults double a build. Shrinking finds them among others."""
    others = (
        Fault(Kind.CLOCK_SKEW, "platform/instance", 0, 100),
        Fault(Kind.STORE_READ_FAILED, "on_task sweep/store.due_jobs/before", 0),
        Fault(Kind.NOTICE_LOST, "platform/notice", 0),
    )
    whole = Schedule(1, (*others, *lost_answer()), scenario="commit")
    assert play_and_judge(whole).holds
    monkeypatch.setattr(BuildbucketManager, "_existing", lambda *_: None)
    outcome = play_and_judge(whole)
    assert {str(item.invariant) for item in outcome.violations} >= {"one-build"}
    small = shrunk(outcome)
    assert set(small.faults) < set(outcome.faults)
    assert {fault.kind for fault in small.faults} <= {Kind.BUILD_ANSWER_LOST, Kind.STORE_ABORTED}
    assert not small.holds


@pytest.mark.parametrize(
    ("scenario", "request_", "search"),
    [("commit", "ScheduleBuild", "SearchBuilds"), ("commit-v1", "v1.put", "v1.search")],
)
def test_a_slow_request_behind_a_lagging_search_doubles_no_build(
    monkeypatch: pytest.MonkeyPatch, scenario: str, request_: str, search: str
) -> None:
    """The request ends while its ID is known. Three faults double the build if it may take the rest of the attempt."""
    faults = (
        Fault(Kind.BUILD_ANSWER_LOST, f"on_gitiles_commit/buildbucket.{request_}/after", 0),
        Fault(Kind.BUILD_SEARCH_LAG, f"on_task launch/buildbucket.{search}/after", 0, 45),
        Fault(Kind.BUILD_LATE_LANDING, f"on_task launch/buildbucket.{request_}/before", 0, 4000),
    )
    outcome = play_and_judge(Schedule(1, faults, scenario=scenario))
    assert (outcome.faults, outcome.builds, complaints([outcome])) == (faults, 1, [])
    monkeypatch.setattr(manager, "_SEARCH_TRUSTED", MINUTE)
    assert {str(item.invariant) for item in play_and_judge(outcome.schedule).violations} == {"one-build"}


def digest_of_runs() -> str:
    """Return one hash over the traces of some runs."""
    hashes = [play_and_judge(schedule(seed)).trace_hash for seed in range(3)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    """The trace of a run depends on its seed alone, neither on the process nor on its hash seed."""
    code = "from tests.storm.test_storm import digest_of_runs; print(digest_of_runs())"
    found = {digest_of_runs()}
    for seed in ("1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        answer = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        found.add(answer.stdout.strip())
    assert len(found) == 1


def test_a_run_can_be_repeated_from_its_faults() -> None:
    """The faults that happened, given as a list, make the same run as the seed that drew them."""
    drawn = play_and_judge(schedule(7))
    assert drawn.faults
    line = Schedule(7, drawn.faults, scenario=drawn.schedule.scenario).line()
    repeated = play_and_judge(Schedule.parse(line))
    assert (repeated.trace_hash, repeated.faults) == (drawn.trace_hash, drawn.faults)
