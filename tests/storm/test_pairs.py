"""The list of the pairs to play: one for each situation, and none with a fault that repeats another one."""

from __future__ import annotations

from collections.abc import Iterable

from emulator.storm.faults import Fault, Kind
from emulator.storm.history import Schedule
from emulator.storm.pairs import Place, Scouted, firsts, pairs, scout
from emulator.storm.storming import find_pairs

COMMIT = "on_task launch/store.commit"
AFTER, BEFORE = f"{COMMIT}/after", f"{COMMIT}/before"
CALM = Scouted(Schedule(1, (), scenario="commit"), "calm", b"", follows=False, places=())


def scouted(fault: Fault, effect: str, *places: Place, path: bytes = b"p", follows: bool = False) -> Scouted:
    """Return what a run with a fault shows."""
    return Scouted(Schedule(1, (fault,), scenario="commit"), effect, path, follows=follows, places=places)


def place(point: str = AFTER, nth: int = 1, path: bytes = b"q", *, follows: bool = False) -> Place:
    """Return a place for a second fault."""
    return Place(point, nth, path, follows)


def seconds(*runs: Scouted, without: Iterable[Kind] = ()) -> list[str]:
    """Return the second faults of the pairs to play."""
    return [str(schedule.faults[1]) for schedule in pairs([CALM, *runs], set(without)).schedules if schedule.faults]


LOST = Fault(Kind.STORE_ANSWER_LOST, AFTER, 0)
CONFLICT = Fault(Kind.STORE_FALSE_CONFLICT, AFTER, 0)
ALL = [f"{kind}@{AFTER}#1={amount}" for kind, amount in (("crash-after", 0), ("stall", 200))]


def test_a_pair_has_each_kind_with_its_greatest_amount() -> None:
    """A stall is one of 200 seconds, and none of 60. A selection of an answer is made in each way."""
    found = pairs([CALM, scouted(LOST, "lost", place())])
    both = [f"{kind}@{AFTER}#1=0" for kind in ("store-answer-lost", "store-false-conflict")]
    assert [str(item.faults[1]) for item in found.schedules if item.faults] == [*ALL, *both]
    assert found.stands_for == 4
    proxies = seconds(scouted(LOST, "lost", place("on_task launch/buildbucket.ScheduleBuild/before")))
    assert sum(fault.startswith("build-proxy@") for fault in proxies) == 6
    played = list(firsts("commit", 1, set(Kind) - {Kind.STALL}))
    assert {fault.amount for item in played for fault in item.faults or ()} == {200}


def test_an_equal_situation_is_played_once() -> None:
    """Neither the number of the occurrence nor the scenario makes another situation, but the path does."""
    again = scouted(Fault(LOST.kind, AFTER, 7), "lost again", place(nth=9))
    assert len(seconds(scouted(LOST, "lost", place()), again)) == 4
    other = scouted(Fault(LOST.kind, AFTER, 7), "lost again", place(nth=9), path=b"other")
    assert len(seconds(scouted(LOST, "lost", place()), other)) == 8
    assert len(seconds(scouted(LOST, "lost", place(), place(nth=2, path=b"other")))) == 8


def test_equal_effects_are_played_once() -> None:
    """A first fault without an effect begins no pair, nor one with the effect of an earlier one."""
    assert seconds(scouted(LOST, "calm", place())) == []
    runs = scouted(LOST, "lost", place()), scouted(CONFLICT, "lost", place())
    found = pairs([CALM, *runs]).schedules
    assert {item.faults[0] for item in found if item.faults} == {LOST}
    assert f"{CONFLICT.kind}@{AFTER}#1=0" not in seconds(*runs), "no single run tells them apart"
    told_apart = scouted(Fault(CONFLICT.kind, AFTER, 2), "another", place())
    assert f"{CONFLICT.kind}@{AFTER}#1=0" in seconds(*runs, told_apart)


def test_a_crash_between_two_calls_is_played_once() -> None:
    """The process dies after a call has landed, or before the next one: the world is the same."""
    crash = f"crash-before@{BEFORE}#1=0"
    assert crash in seconds(scouted(LOST, "lost", place(BEFORE)))
    assert crash not in seconds(scouted(LOST, "lost", place(BEFORE, follows=True)))
    first = Fault(Kind.CRASH_BEFORE, BEFORE, 0)
    assert seconds(scouted(first, "crashed", place()))
    assert seconds(scouted(first, "crashed", place(), follows=True)) == []


def test_kinds_are_switched_off() -> None:
    """A kind that is switched off is no second fault."""
    assert ALL[0] not in seconds(scouted(LOST, "lost", place()), without={Kind.CRASH_AFTER})


def test_real_runs_give_pairs() -> None:
    """Several processes find the pairs that one process finds, and each pair is played briefly."""
    without = set(Kind) - {Kind.HOST_HANG, Kind.CRASH_BEFORE}
    played = list(firsts("commit", 1, without))
    found = find_pairs(played, "pairs", 1, without, lambda _: None)
    assert 0 < len(found.schedules) < found.stands_for
    assert all(item.is_brief for item in found.schedules)
    handlers = {item.faults[0].point.partition("/")[0] for item in found.schedules if item.faults}
    assert {"on_gitiles_commit", "on_build_completion"} <= handlers
    assert find_pairs(played, "pairs", 2, without, lambda _: None) == found


def test_a_handler_without_work_has_no_successors() -> None:
    """A sweep that found nothing makes a pair only with its own later calls."""
    idle = Fault(Kind.STORE_READ_FAILED, "on_task sweep/store.due_jobs/before", 0)
    found = scout(Schedule(1, (idle,), scenario="commit"), "pairs").places
    assert {item.point.partition("/")[0] for item in found} <= {"on_task sweep"}


def test_an_answer_has_one_fault() -> None:
    """A slow commit can also lose its answer. After a stall, a crash before the next call is a pair."""
    commit = "on_gitiles_commit/store.commit"
    slow, stall = Fault(Kind.STORE_SLOW, f"{commit}/before", 0, 8_000), Fault(Kind.STALL, f"{commit}/after", 0, 200)
    after_slow, after_stall = (
        scout(Schedule(1, (fault,), scenario="commit"), "pairs").places for fault in (slow, stall)
    )
    assert (after_slow[0].point, after_slow[0].nth) == (f"{commit}/after", 0)
    assert after_slow[1].follows
    own = [item for item in after_stall if item.path.endswith(b"own")]
    assert [item.follows for item in own if item.point.endswith("/before")][:2] == [False, True]
    assert (f"{commit}/after", 0) not in [(item.point, item.nth) for item in after_stall]
