"""The cron machine: when a job's next tick is due, and the effect of a tick. Pure; the caller performs the actions.

Ticks may be repeated, late or early. Each carries the nonce that was drawn for it. A tick with any other nonce belongs
to an earlier state of the job and has no effect. Each change of the state also raises its generation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.instants import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Instant
from luci_scheduler.core.schedule import DISTANT_FUTURE, Schedule

__all__ = [
    "Action",
    "CronState",
    "DrawNonce",
    "EarlyTickError",
    "StartInvocation",
    "Step",
    "TickLater",
    "disable",
    "enable",
    "enqueue_at",
    "rewind_if_necessary",
    "schedule_changed",
    "tick",
]

_FAR_TOO_EARLY = SECOND  # a tick this early is a link of a chain of tasks, see enqueue_at
_TOO_EARLY = 50 * MILLISECOND  # clocks of two machines differ by less


class EarlyTickError(TransientError):
    """A tick arrived a little before its time. The state is unchanged; deliver the tick again."""


@frozen
class CronState:
    """The stored state of a job's cron machine."""

    enabled: bool = False
    generation: int = 0
    """Raised by every change; the ID of the cron trigger contains it."""
    last_rewind: Instant | None = None
    """When the machine last started to wait; intervals count from here."""
    last_tick_when: Instant | None = None
    """When the awaited tick is due; None if no tick is awaited (an interval has fired, or nothing matches any more)."""
    last_tick_nonce: int = 0
    """The nonce of the awaited tick."""


@frozen
class TickLater:
    """Deliver a tick with this nonce at this time, which may be in the past."""

    when: Instant
    nonce: int


@frozen
class StartInvocation:
    """Emit the trigger ``cron:v1:<generation>`` for the job itself."""

    generation: int


Action = TickLater | StartInvocation

DrawNonce = Callable[[], int]
"""Draws a random positive 63-bit integer; called only when a new tick is awaited."""

Step = tuple[CronState, tuple[Action, ...]]
"""The new state, and the actions that go with it."""


def enable(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce) -> Step:
    """Enable the machine and await its first tick; an enabled machine stays as it is."""
    if state.enabled:
        return state, ()
    return _rewind(CronState(enabled=True, generation=state.generation), schedule, now, draw_nonce)


def disable(state: CronState) -> Step:
    """Disable the machine: ticks that are on their way have no effect any more."""
    return CronState(generation=state.generation + 1), ()


def rewind_if_necessary(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce) -> Step:
    """Start to wait again if no tick is awaited; call it when the job has no active invocation."""
    if state.enabled and state.last_tick_when is None:
        return _rewind(state, schedule, now, draw_nonce)
    return state, ()


def schedule_changed(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce) -> Step:
    """Await the tick of a new schedule; ``schedule`` is the effective one (``triggered`` while the job is paused).

    After an interval has fired, the machine waits for the end of the invocation, unless the new schedule is absolute.
    """
    if not state.enabled:
        return state, ()
    if state.last_tick_when is not None:
        return _await_tick(state, schedule, now, draw_nonce)
    return _rewind(state, schedule, now, draw_nonce) if schedule.is_absolute else (state, ())


def tick(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce, nonce: int) -> Step:
    """Handle a tick: start an invocation if the tick is the awaited one and its time has come.

    A tick that is more than a second early is scheduled again under a new nonce.

    Raises:
        EarlyTickError: the awaited tick arrived between 50 ms and one second before its time.
    """
    due = state.last_tick_when
    if not state.enabled or due is None or due == DISTANT_FUTURE or nonce != state.last_tick_nonce:
        return state, ()
    # A repeated delivery of this early tick then carries an old nonce, and starts no second chain.
    early = due - now
    if early > _FAR_TOO_EARLY:
        again = TickLater(due, draw_nonce())
        return replace(state, generation=state.generation + 1, last_tick_nonce=again.nonce), (again,)
    if early > _TOO_EARLY:
        raise EarlyTickError(f"tick happened {format_duration(early)} before it was expected")
    # An interval counts from the end of its invocation, so its machine now waits for a rewind.
    generation = state.generation + 1
    fired = replace(state, generation=generation, last_tick_when=None, last_tick_nonce=0)
    if not schedule.is_absolute:
        return fired, (StartInvocation(generation),)
    waiting, actions = _rewind(fired, schedule, max(now, due), draw_nonce)
    return waiting, (StartInvocation(generation), *actions)


def enqueue_at(now: Instant, when: Instant, *, is_dev: bool = False) -> Instant:
    """Return the delivery time of a tick's task. A chain of tasks leads to a distant tick.

    A queue holds tasks for only 30 days. Every link except the last arrives at least an hour early, so that the machine
    cannot mistake it for a tick that is a little early.

    Args:
        now: the current time.
        when: when the tick is due.
        is_dev: whether the application's ID ends in ``-dev``; its links are short, so that chains occur.
    """
    longest, slack = (2 * MINUTE, MINUTE) if is_dev else (15 * DAY, HOUR)
    return Instant(now + longest) if when - now > longest + slack else when


def _rewind(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce) -> Step:
    rewound = replace(state, generation=state.generation + 1, last_rewind=now)
    return _await_tick(rewound, schedule, now, draw_nonce)


def _await_tick(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce) -> Step:
    due = schedule.next(now, state.last_rewind)
    # The awaited tick is still right: a new nonce would only make its task stale.
    if due == state.last_tick_when:
        return state, ()
    nonce = draw_nonce()
    waiting = replace(state, generation=state.generation + 1, last_tick_when=due, last_tick_nonce=nonce)
    return waiting, () if due is None or due == DISTANT_FUTURE else (TickLater(due, nonce),)
