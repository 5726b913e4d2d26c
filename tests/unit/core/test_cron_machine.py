"""The cron machine under repeated, late, early and unknown ticks."""

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from luci_scheduler.core import cron_machine
from luci_scheduler.core.cron_machine import CronState, EarlyTickError, StartInvocation, Step, TickLater
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Instant, parse_rfc3339
from luci_scheduler.core.schedule import parse_schedule

NOW = parse_rfc3339("2026-11-25T12:00:00Z")
HOURLY, HALF_HOURS = parse_schedule("@hourly"), parse_schedule("with 30m interval")
LAST_YEAR = parse_schedule("0 0 1 1 * 2025")


def draw() -> int:
    """Always draw the same nonce."""
    return 7


def never() -> int:
    """Fail: no nonce is needed."""
    raise AssertionError("a nonce was drawn")


def enabled_hourly() -> CronState:
    """Return a machine that expects the tick of 13:00."""
    return cron_machine.enable(CronState(), HOURLY, NOW, draw)[0]


def test_a_disabled_machine_does_nothing() -> None:
    """No event has an effect."""
    state = CronState(generation=4)
    assert cron_machine.rewind_if_necessary(state, HOURLY, NOW, never) == (state, ())
    assert cron_machine.schedule_changed(state, HOURLY, NOW, never) == (state, ())
    assert cron_machine.tick(state, HOURLY, NOW, never, 0) == (state, ())


@pytest.mark.parametrize(
    ("early", "starts"), [(-DAY, True), (0, True), (50 * MILLISECOND, True), (SECOND + 1, False), (HOUR, False)]
)
def test_a_tick_near_its_time_starts_an_invocation(early: int, starts: bool) -> None:
    """A tick that is far too early is scheduled again for the same time, under a new nonce."""
    due = Instant(NOW + HOUR)
    state, actions = cron_machine.tick(enabled_hourly(), HOURLY, Instant(due - early), lambda: 8, 7)
    assert (StartInvocation(3) in actions) == starts
    assert starts or (actions, state.last_tick_when, state.last_tick_nonce) == ((TickLater(due, 8),), due, 8)


@pytest.mark.parametrize("early", [50 * MILLISECOND + 1, SECOND])
def test_a_slightly_early_tick_is_delivered_again(early: int) -> None:
    """The error is transient: the delivery is retried."""
    with pytest.raises(EarlyTickError, match=r"tick happened .*s before it was expected") as raised:
        cron_machine.tick(enabled_hourly(), HOURLY, Instant(NOW + HOUR - early), never, 7)
    assert isinstance(raised.value, TransientError)


def test_a_slightly_early_tick_does_not_tick_twice() -> None:
    """The next tick is counted from the planned time, so the early tick does not come again."""
    state, actions = cron_machine.tick(enabled_hourly(), HOURLY, Instant(NOW + HOUR - MILLISECOND), draw, 7)
    assert actions[1:] == (TickLater(Instant(NOW + 2 * HOUR), 7),)
    assert state.last_rewind == NOW + HOUR


def test_a_schedule_without_a_further_match_expects_no_tick() -> None:
    """No tick is requested. A new schedule wakes the machine."""
    state, actions = cron_machine.enable(CronState(), LAST_YEAR, NOW, never)
    assert actions == ()
    assert state.last_tick_when is None
    state, actions = cron_machine.schedule_changed(state, HOURLY, NOW, draw)
    assert actions == (TickLater(Instant(NOW + HOUR), 7),)
    state, actions = cron_machine.schedule_changed(state, LAST_YEAR, NOW, draw)
    assert (actions, state.last_tick_when) == ((), None)
    assert cron_machine.tick(state, LAST_YEAR, NOW, never, state.last_tick_nonce) == (state, ())


def test_a_fired_interval_waits_for_its_invocation() -> None:
    """Another interval changes nothing. A cron schedule starts at once."""
    state, _ = cron_machine.enable(CronState(), HALF_HOURS, NOW, draw)
    fired, actions = cron_machine.tick(state, HALF_HOURS, Instant(NOW + HOUR), never, 7)
    assert actions == (StartInvocation(3),)
    assert cron_machine.schedule_changed(fired, parse_schedule("continuously"), NOW, never) == (fired, ())
    assert cron_machine.schedule_changed(fired, HOURLY, NOW, draw)[1] == (TickLater(Instant(NOW + HOUR), 7),)


@pytest.mark.parametrize(
    ("delay", "is_dev", "expected"),
    [
        (-HOUR, False, -HOUR),
        (15 * DAY + HOUR, False, 15 * DAY + HOUR),
        (15 * DAY + HOUR + 1, False, 15 * DAY),
        (300 * DAY, False, 15 * DAY),
        (3 * MINUTE, True, 3 * MINUTE),
        (3 * MINUTE + 1, True, 2 * MINUTE),
    ],
)
def test_a_far_tick_is_reached_by_links(delay: int, is_dev: bool, expected: int) -> None:
    """A queue accepts at most 30 days."""
    assert cron_machine.enqueue_at(NOW, Instant(NOW + delay), is_dev=is_dev) == NOW + expected


def test_a_yearly_tick_arrives_over_its_links() -> None:
    """Each link is far too early for the machine, so the chain continues. The last one starts the invocation."""
    yearly, nonces, now, links = parse_schedule("@yearly"), itertools.count(1), NOW, 0
    state, (action,) = cron_machine.enable(CronState(), yearly, now, nonces.__next__)
    while isinstance(action, TickLater):
        now = cron_machine.enqueue_at(now, action.when)
        state, (action, *_) = cron_machine.tick(state, yearly, now, nonces.__next__, action.nonce)
        links += 1
    assert now == parse_rfc3339("2027-01-01T00:00:00Z")
    assert links == 3


class Ticks(RuleBasedStateMachine):
    """Events in any order: each expected tick starts at most one invocation, and every change is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.now, self.nonces = CronState(), NOW, itertools.count(1)
        self.schedule, self.sent, self.started = HOURLY, [0], set[int]()

    def take(self, step: Step) -> None:
        """Save a step and send its ticks."""
        state, actions = step
        assert (state != self.state) == (state.generation > self.state.generation)
        self.state = state
        for action in actions:
            if isinstance(action, TickLater):
                assert (action.when, action.nonce) == (state.last_tick_when, state.last_tick_nonce)
                self.sent.append(action.nonce)
            else:
                assert action.generation not in self.started
                self.started.add(action.generation)

    @rule()
    def enable(self) -> None:
        """Enable the machine."""
        self.take(cron_machine.enable(self.state, self.schedule, self.now, self.nonces.__next__))

    @rule()
    def disable(self) -> None:
        """Disable the machine."""
        self.take(cron_machine.disable(self.state))

    @rule()
    def finish_invocations(self) -> None:
        """End the invocations that the machine started."""
        self.take(cron_machine.rewind_if_necessary(self.state, self.schedule, self.now, self.nonces.__next__))

    @rule(text=st.sampled_from(["@hourly", "with 30m interval", "continuously", "triggered", "0 0 1 1 * 2025"]))
    def change_schedule(self, text: str) -> None:
        """Put another schedule in force."""
        self.schedule = parse_schedule(text)
        self.take(cron_machine.schedule_changed(self.state, self.schedule, self.now, self.nonces.__next__))

    @rule(seconds=st.integers(0, 7200))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now = Instant(self.now + seconds * SECOND)

    @rule(data=st.data())
    def deliver_any_tick(self, data: st.DataObject) -> None:
        """Deliver a tick that was sent at any time, twice."""
        nonce = data.draw(st.sampled_from(self.sent))
        before = self.state
        try:
            step = cron_machine.tick(before, self.schedule, self.now, self.nonces.__next__, nonce)
        except EarlyTickError:
            return
        started = [action for action in step[1] if isinstance(action, StartInvocation)]
        due = before.last_tick_when
        expected = before.enabled and nonce == before.last_tick_nonce and due is not None and due <= self.now
        assert len(started) == expected
        self.take(step)
        repeated = cron_machine.tick(self.state, self.schedule, self.now, self.nonces.__next__, nonce)
        assert not any(isinstance(action, StartInvocation) for action in repeated[1])

    @invariant()
    def a_disabled_machine_expects_no_tick(self) -> None:
        """A disabled machine keeps its generation only."""
        assert self.state.enabled or self.state == CronState(generation=self.state.generation)


TestTicks = Ticks.TestCase
TestTicks.settings = settings(derandomize=True, deadline=None, database=None, max_examples=40, stateful_step_count=30)
