"""Builds of Cloud Build in the storm: a second build comes into being in one window only, and is soon canceled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from emulator.storm.enumeration import points_of
from emulator.storm.faults import Fault, Kind
from emulator.storm.history import Build, Run, Schedule
from emulator.storm.invariants import Invariant
from emulator.storm.judgment import violations
from emulator.storm.storming import play_and_judge
from emulator.storm.world import run
from luci_scheduler.core.instants import HOUR, SECOND, Instant
from luci_scheduler.managers.cloud_build.kind import CloudBuildKind
from luci_scheduler.managers.cloud_build.manager import CloudBuildManager
from luci_scheduler.ports import UpdateInvocation

_CREATE = "on_gitiles_commit/cloud_build.create"
_LIST = "on_task launch/cloud_build.list"
LOST = (Fault(Kind.BUILD_ANSWER_LOST, f"{_CREATE}/after", 0),)
DOUBLED = (*LOST, Fault(Kind.BUILD_LIST_LAG, f"{_LIST}/after", 0, 240))
"""The list hides the build of the lost answer from the look-up of the next attempt."""
UNHEARD, UNCHECKED = (Fault(Kind.NOTICE_LOST, "platform/notice", nth) for nth in (2, 3))
"""The first message of the lost build never comes, or that of the kept build."""
RERUN = (Fault(Kind.BUILD_ANSWER_LOST, "on_task launch/cloud_build.run/after", 0),)


def _schedule(*faults: Fault) -> Schedule:
    return Schedule(1, faults, scenario="cloud-build")


def _pair(result: Run) -> tuple[Build, Build]:
    """Return the two builds of the doubled invocation, the older one first."""
    first, second = (build for build in result.history.builds if build.job_id == "p/steps")
    assert first.invocation_id == second.invocation_id
    return first, second


@pytest.fixture(scope="module")
def _doubled_run() -> Run:
    return run(_schedule(*DOUBLED))


@pytest.fixture
def doubled_run(_doubled_run: Run) -> Run:
    """Return a run with a doubled build that a test may change."""
    mine = copy.copy(_doubled_run)
    mine.history = copy.copy(_doubled_run.history)
    for name in ("commits", "calls", "listings"):
        setattr(mine.history, name, list(getattr(_doubled_run.history, name)))
    mine.history.notices = dict(_doubled_run.history.notices)
    mine.history.builds = [replace(build, canceled_by=[*build.canceled_by]) for build in _doubled_run.history.builds]
    return mine


def test_a_list_that_hides_a_build_doubles_it_for_seconds(doubled_run: Run) -> None:
    """The first message of the lost build cancels it. The invocation ends with the other one."""
    assert violations(doubled_run) == []
    first, second = _pair(doubled_run)
    assert (first.status, second.status) == ("CANCELED", "SUCCESS")
    assert first.ended is not None
    assert first.ended - second.created < 2 * SECOND
    assert second.created - first.created >= 60 * SECOND


def test_without_its_message_a_second_build_ends_with_the_next_check() -> None:
    """Each invocation still has one build that is not canceled."""
    result = run(_schedule(*DOUBLED, UNHEARD))
    assert violations(result) == []
    first, second = _pair(result)
    assert (first.status, second.status) == ("CANCELED", "SUCCESS")


def _let_live(result: Run) -> None:
    """Let the lost build live on."""
    first, _ = _pair(result)
    first.ended = Instant(result.ended + HOUR)


def _let_live_silently(result: Run) -> None:
    """Let the lost build live on, and announce nothing."""
    _let_live(result)
    result.history.notices.clear()


def _forget_lists(result: Run) -> None:
    """Let no list have been made."""
    result.history.calls = [call for call in result.history.calls if not call.point.endswith("cloud_build.list")]


def _show(result: Run) -> None:
    """Let the list have shown the build."""
    result.history.listings = [replace(item, shown=item.hidden, hidden=()) for item in result.history.listings]


def _delay(result: Run) -> None:
    """Let the first request have ended half a minute later."""
    calls = result.history.calls
    place = next(number for number, call in enumerate(calls) if call.point == _CREATE)
    calls[place] = replace(calls[place], ended=Instant(calls[place].ended + 30 * SECOND))


def _cancel_both(result: Run) -> None:
    """Let the message of the lost build cancel the kept build, too."""
    first, second = _pair(result)
    second.canceled_by += first.canceled_by


def _swap(result: Run) -> None:
    """Let the recorded build be of another invocation."""
    for build in result.history.builds:
        build.invocation_id += 1


@pytest.mark.parametrize(
    ("invariant", "spoil"),
    [
        (Invariant.LOST_BUILD, _let_live),
        (Invariant.LOST_BUILD, _let_live_silently),
        (Invariant.ONE_BUILD, _forget_lists),
        (Invariant.ONE_BUILD, _show),
        (Invariant.PAUSE, _delay),
        (Invariant.END, _cancel_both),
        (Invariant.END, _swap),
    ],
)
def test_each_rule_can_be_broken(doubled_run: Run, invariant: Invariant, spoil: Callable[[Run], None]) -> None:
    """A history that breaks a rule violates its invariant."""
    spoil(doubled_run)
    assert invariant in {violation.invariant for violation in violations(doubled_run)}


def _nothing(*_: Any) -> None:
    """Do nothing, and find nothing."""


@pytest.mark.parametrize(
    ("place", "name", "value", "faults", "invariant"),
    [
        (CloudBuildManager, "_adopt", _nothing, LOST, Invariant.ONE_BUILD),
        (CloudBuildManager, "_cancel_lost", _nothing, (*DOUBLED, UNCHECKED), Invariant.LOST_BUILD),
        (CloudBuildManager, "_cancel_doubles", _nothing, (*DOUBLED, UNHEARD), Invariant.LOST_BUILD),
        (CloudBuildKind, "retry_pause", 0, LOST, Invariant.PAUSE),
        ("luci_scheduler.managers.cloud_build.lookup", "is_of", lambda *_: True, RERUN, Invariant.END),
    ],
)
def test_the_storm_finds_a_broken_rule(
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    value: Any,
    faults: tuple[Fault, ...],
    invariant: Invariant,
) -> None:
    """No look-up, no cancellation by message or check, no pause, or foreign builds that count as its own."""
    monkeypatch.setattr(*((f"{place}.{name}",) if isinstance(place, str) else (place, name)), value)
    outcome = play_and_judge(_schedule(*faults))
    assert invariant in {violation.invariant for violation in outcome.violations}


def test_a_crash_at_each_call_of_cloud_build_holds() -> None:
    """The process dies before or after the first calls of launches, messages and checks: each build still ends once."""
    counts = points_of(replace(_schedule(), faults=LOST))
    calls = [point for point in counts if "/cloud_build." in point]
    assert {point.rpartition("/")[0] for point in calls} >= {
        "on_gitiles_commit/cloud_build.create",
        "on_task launch/cloud_build.run",
        "on_task launch/cloud_build.list",
        "on_task timer/cloud_build.get",
        "on_cloud_build/cloud_build.get",
    }
    for point in calls:
        kind = Kind.CRASH_BEFORE if point.endswith("/before") else Kind.CRASH_AFTER
        outcome = play_and_judge(_schedule(*LOST, Fault(kind, point, min(1, counts[point] - 1))))
        assert outcome.holds, outcome.violations


def test_the_message_of_one_of_three_builds_decides_about_that_build_alone() -> None:
    """Lists hide two builds of lost answers. The handler of the message is no check, so it leaves the other build."""
    faults = (
        Fault(Kind.BUILD_ANSWER_LOST, "on_task launch/cloud_build.run/after", 1, 0),
        Fault(Kind.BUILD_ANSWER_LOST, f"{_CREATE}/after", 0, 1),
        Fault(Kind.BUILD_LIST_LAG, f"{_LIST}/after", 0, 129),
        Fault(Kind.BUILD_ANSWER_LOST, "on_task launch/cloud_build.run/after", 2, 0),
        Fault(Kind.BUILD_LIST_LAG, f"{_LIST}/after", 2, 160),
        Fault(Kind.BUILD_EMPTY_PAGE, "on_cloud_build/cloud_build.list/before", 0),
        Fault(Kind.BUILD_LIST_LAG, "on_cloud_build/cloud_build.list/after", 1, 172),
    )
    outcome = play_and_judge(Schedule(700_422, faults, scenario="cloud-build"))
    assert outcome.holds, outcome.violations
    assert set(outcome.faults) == set(faults)


def test_the_document_of_a_doubled_invocation_names_both_builds() -> None:
    """One is kept, and nothing needs to look for the other one any more."""
    result = run(_schedule(*DOUBLED))
    first, second = _pair(result)
    writes = [write for commit in result.history.commits for write in commit.writes]
    ends = [
        write.invocation
        for write in writes
        if isinstance(write, UpdateInvocation)
        and write.invocation.id == first.invocation_id
        and write.invocation.status.is_final
    ]
    assert ends[0].task_data["build_id"] == second.id
    assert ends[0].task_data["others"] == [first.id]


def test_a_process_that_stands_still_after_its_request_shortens_no_pause() -> None:
    """The build was there before the process stood still. The next attempt begins when the claim has expired."""
    result = run(Schedule(100_314, (Fault(Kind.STALL, f"{_CREATE}/after", 0, 170),)))
    assert violations(result) == []
    (stalled,) = (call for call in result.history.calls if call.point == _CREATE and call.after == 0)
    assert any(call.point == _LIST and stalled.at < call.at < stalled.ended for call in result.history.calls)


def test_a_list_that_a_proxy_spoils_is_no_empty_list() -> None:
    """The look-up fails, and a later one finds the build of the lost answer."""
    spoiled = [Fault(Kind.BUILD_ANSWER_BROKEN, f"{_LIST}/after", 0, which) for which in range(4)]
    for fault in spoiled:
        result = run(_schedule(*LOST, fault))
        assert violations(result) == []
        assert len([build for build in result.history.builds if build.job_id == "p/steps"]) == 1
