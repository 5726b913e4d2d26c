"""The clocks of the local cloud: they run, are adjusted or stepped, and never go back."""

import threading

import pytest

from emulator.clock import AdjustableClock
from luci_scheduler.core.instants import DAY, HOUR, SECOND


def test_advancing_it_wakes_waiting_threads() -> None:
    """A waiting thread wakes at its next check, not after an hour."""
    clock, woken = AdjustableClock(), threading.Event()
    until = clock.now() + HOUR
    waiter = threading.Thread(target=clock.wait_until, args=(until, woken))
    waiter.start()
    clock.advance(HOUR)
    waiter.join(timeout=30)
    assert not waiter.is_alive()
    assert clock.now() >= until


def test_changing_its_speed_does_not_make_it_jump_or_go_back() -> None:
    """This holds for a higher and a lower speed."""
    clock = AdjustableClock()
    seen = [clock.now()]
    for speed in (1_000_000, 1, 0.5):
        clock.run_at(speed)
        seen.append(clock.now())
    assert seen == sorted(seen)
    assert seen[-1] - seen[0] < 365 * DAY


def test_impossible_settings_are_refused() -> None:
    """The clock can neither go back nor stand still."""
    clock = AdjustableClock()
    for speed in (0, -1):
        with pytest.raises(ValueError, match="positive"):
            clock.run_at(speed)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-SECOND)
    assert clock.speed == 1


def test_waiting_ends_when_the_event_is_set() -> None:
    """Waiting ends at any time of the clock."""
    woken = threading.Event()
    woken.set()
    clock = AdjustableClock()
    tomorrow = clock.now() + DAY
    clock.wait_until(tomorrow, woken)
    assert clock.now() < tomorrow
