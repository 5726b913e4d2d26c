"""The cron machine: when a job's next tick is due, and what a tick does. Pure; whoever calls it carries out the actions.

Ticks may be repeated, late or early. Each carries the nonce that was drawn for it; any other nonce is an echo of
an earlier life of the job and does nothing. The state changes only together with its generation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from luci_scheduler.core.errors import TransientError
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
    """A tick came a little before its time; the state is as it was, deliver the tick again."""


@dataclass(frozen=True, slots=True)
class CronState:
    """What is kept of a job's cron machine."""

    enabled: bool = False
    generation: int = 0
    """Raised by every change; the ID of the cron trigger is made of it."""
    last_rewind: Instant | None = None
    """When the machine last began to wait; intervals count from here."""
    last_tick_when: Instant | None = None
    """When the awaited tick is due; None: none is awaited (an interval that has fired, or no further match)."""
    last_tick_nonce: int = 0
    """The nonce of the awaited tick."""


@dataclass(frozen=True, slots=True)
class TickLater:
    """Deliver a tick with this nonce at that time (it may be past already)."""

    when: Instant
    nonce: int


@dataclass(frozen=True, slots=True)
class StartInvocation:
    """Emit the trigger ``cron:v1:<generation>`` for the job itself."""

    generation: int


Action = TickLater | StartInvocation

DrawNonce = Callable[[], int]
"""Draws a random positive 63-bit integer; called only when a new tick is awaited."""

Step = tuple[CronState, tuple[Action, ...]]
"""The new state, and what is to be done when it is saved."""


def enable(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce) -> Step:
    """Switch the machine on and await its first tick; an enabled one stays as it is."""
    if state.enabled:
        return state, ()
    return _rewind(CronState(enabled=True, generation=state.generation), schedule, now, draw_nonce)


def disable(state: CronState) -> Step:
    """Switch the machine off: no tick that is under way does anything any more."""
    return CronState(generation=state.generation + 1), ()


def rewind_if_necessary(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce) -> Step:
    """Begin to wait again if no tick is awaited; to be called when the job has no active invocation left."""
    if state.enabled and state.last_tick_when is None:
        return _rewind(state, schedule, now, draw_nonce)
    return state, ()


def schedule_changed(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce) -> Step:
    """Await the tick of a new schedule; ``schedule`` is the effective one (``triggered`` while the job is paused).

    An interval that has fired goes on waiting for the end of its invocation, unless the new schedule is absolute.
    """
    if not state.enabled:
        return state, ()
    if state.last_tick_when is not None:
        return _await_tick(state, schedule, now, draw_nonce)
    return _rewind(state, schedule, now, draw_nonce) if schedule.is_absolute else (state, ())


def tick(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce, nonce: int) -> Step:
    """Take a tick: start an invocation if it is the awaited one and its time has come.

    A tick more than a second early is asked for again under a new nonce.

    Raises:
        EarlyTickError: the awaited tick came between 50 ms and one second before its time.
    """
    due = state.last_tick_when
    if not state.enabled or due is None or due == DISTANT_FUTURE or nonce != state.last_tick_nonce:
        return state, ()
    early = due - now
    if early > _FAR_TOO_EARLY:
        again = TickLater(due, draw_nonce())
        return replace(state, generation=state.generation + 1, last_tick_nonce=again.nonce), (again,)
    if early > _TOO_EARLY:
        raise EarlyTickError(f"tick happened {format_duration(early)} before it was expected")
    generation = state.generation + 1
    fired = replace(state, generation=generation, last_tick_when=None, last_tick_nonce=0)
    if not schedule.is_absolute:
        return fired, (StartInvocation(generation),)
    waiting, actions = _rewind(fired, schedule, max(now, due), draw_nonce)
    return waiting, (StartInvocation(generation), *actions)


def enqueue_at(now: Instant, when: Instant, *, is_dev: bool = False) -> Instant:
    """Return when the task of a tick is to be delivered: a far tick is reached by a chain of tasks.

    A queue holds tasks for 30 days only. Every link but the last comes at least an hour early, so that the machine
    cannot take it for a tick that is merely early.

    Args:
        now: the present.
        when: when the tick is due.
        is_dev: whether the application's ID ends in ``-dev``: links are short there, so that chains happen.
    """
    longest, slack = (2 * MINUTE, MINUTE) if is_dev else (15 * DAY, HOUR)
    return Instant(now + longest) if when - now > longest + slack else when


def _rewind(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce) -> Step:
    rewound = replace(state, generation=state.generation + 1, last_rewind=now)
    return _await_tick(rewound, schedule, now, draw_nonce)


def _await_tick(state: CronState, schedule: Schedule, now: Instant, draw_nonce: DrawNonce) -> Step:
    due = schedule.next(now, state.last_rewind)
    if due == state.last_tick_when:
        return state, ()
    nonce = draw_nonce()
    waiting = replace(state, generation=state.generation + 1, last_tick_when=due, last_tick_nonce=nonce)
    return waiting, () if due is None or due == DISTANT_FUTURE else (TickLater(due, nonce),)
