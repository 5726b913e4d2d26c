"""Actions at future instants."""

import threading

import pytest

from emulator.building.timeline import Timeline
from emulator.clock import SteppedClock
from luci_scheduler.core.instants import HOUR, SECOND

START = 1_000 * SECOND


@pytest.fixture
def clock() -> SteppedClock:
    """A clock that stands."""
    return SteppedClock(START)


def test_actions_run_in_the_order_of_their_instants(clock: SteppedClock) -> None:
    """Actions of the same instant keep the order of their addition."""
    timeline, ran = Timeline(clock), []
    for name, delay in (("late", 3), ("first", 1), ("second", 1)):
        timeline.at(START + delay * SECOND, lambda at, name=name: ran.append((name, at - START)))
    assert timeline.run_due() == 0
    clock.advance(2 * SECOND)
    assert timeline.run_due() == 2
    clock.advance(SECOND)
    assert timeline.run_due() == 1
    assert ran == [("first", SECOND), ("second", SECOND), ("late", 3 * SECOND)]


def test_an_action_gets_its_instant_however_late_it_runs(clock: SteppedClock) -> None:
    timeline, instants = Timeline(clock), []
    timeline.at(START + 1, instants.append)
    clock.advance(HOUR)
    timeline.run_due()
    assert instants == [START + 1]


def test_an_action_may_add_a_due_action(clock: SteppedClock) -> None:
    timeline, ran = Timeline(clock), []
    timeline.at(START, lambda at: timeline.at(at, lambda _at: ran.append("second")))
    assert (timeline.run_due(), ran) == (2, ["second"])


def test_a_failing_action_is_logged_and_the_others_run(clock: SteppedClock, caplog: pytest.LogCaptureFixture) -> None:
    timeline, ran = Timeline(clock), []
    timeline.at(START, lambda _at: ran.append(1 // 0))
    timeline.at(START, lambda _at: ran.append("ran"))
    assert (timeline.run_due(), ran) == (2, ["ran"])
    assert f"an action due at {START} failed" in caplog.text


def test_the_thread_runs_actions_as_the_clock_moves(clock: SteppedClock) -> None:
    timeline, ran = Timeline(clock), threading.Event()
    timeline.start()
    timeline.at(START + SECOND, lambda _at: ran.set())
    clock.advance(SECOND)
    assert ran.wait(60)
    timeline.stop()


def test_a_running_timeline_is_not_started_again(clock: SteppedClock) -> None:
    timeline = Timeline(clock)
    timeline.start()
    with pytest.raises(RuntimeError, match="running already"):
        timeline.start()
    timeline.stop()
    timeline.stop()
    timeline.start()
    timeline.stop()
