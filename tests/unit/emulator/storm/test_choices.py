"""Choices: pure functions of seed, point and occurrence."""

from __future__ import annotations

import pytest

from emulator.storm.choices import Choices, Trace
from emulator.storm.faults import KINDS, Fault, Kind, kinds_at
from emulator.storm.history import Schedule

_POINT = "on_task launch/buildbucket.ScheduleBuild/before"


def _faults(*without: Kind, faults: tuple[Fault, ...] | None = None) -> list[Fault]:
    choices = Choices(7, faults, without=without, rate=5, trace=Trace())
    for _ in range(200):
        choices.fault(_POINT)
    return choices.happened


def test_a_kind_that_is_switched_off_leaves_the_others_as_they_were() -> None:
    """So a failing run can be shrunk, kind by kind and fault by fault."""
    everything, less = _faults(), _faults(Kind.BUILD_QUOTA)
    assert {fault.kind for fault in everything} > {Kind.BUILD_QUOTA, Kind.BUILD_HANG, Kind.CRASH_BEFORE}
    assert less == [fault for fault in everything if fault.kind is not Kind.BUILD_QUOTA]


def test_listed_faults_happen_and_no_others() -> None:
    """Each happens at its occurrence of its point."""
    listed = Fault(Kind.BUILD_HANG, _POINT, 17)
    assert _faults(faults=(listed, Fault(Kind.BUILD_HANG, "elsewhere", 0))) == [listed]
    assert _faults(faults=()) == []


def test_nothing_is_drawn_when_it_is_calm() -> None:
    """The numbers of a draw do not depend on that."""
    stormy, calm = Choices(1, rate=50, trace=Trace()), Choices(1, rate=50, trace=Trace())
    calm.is_calm = True
    assert stormy.fault(_POINT) is not None
    assert calm.fault(_POINT) is None
    assert stormy.draw(_POINT) == calm.draw(_POINT)


def test_each_kind_is_described_and_has_a_meaning_for_its_amount() -> None:
    """The catalog is complete."""
    assert set(KINDS) == set(Kind)
    assert len(KINDS) >= 30
    assert [kind for kind, spec in KINDS.items() if not spec.says or (spec.high > spec.low) != bool(spec.amount)] == []


def test_a_schedule_is_one_line() -> None:
    """The line gives the same schedule again."""
    fault = Fault(Kind.CLOCK_SKEW, "platform/instance", 3, -4000)
    schedule = Schedule(5, (fault,), frozenset({Kind.PAUSE}), 0.5, frozenset({Kind.ABORT}), "abort")
    assert Schedule.parse(schedule.line()) == schedule
    assert "\n" not in schedule.line()
    assert Schedule.parse(Schedule(5).line()) == Schedule(5)
    with pytest.raises(ValueError, match="the line is no schedule"):
        Schedule.parse("[]")
    with pytest.raises(ValueError, match="a fault reads"):
        Fault.parse("crash")


def test_kinds_belong_to_the_phase_of_a_call() -> None:
    """What prevents a call comes before it, and what spoils its answer after it."""
    after = _POINT.replace("before", "after")
    assert Kind.BUILD_HANG in kinds_at(_POINT)
    assert Kind.BUILD_HANG not in kinds_at(after)
    assert Kind.BUILD_ANSWER_LOST in kinds_at(after)
    assert Kind.STORE_ABORTED not in kinds_at(_POINT)
