"""The timeline of an invocation: its events, from its record and its debug log, and their places on a line. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from luci_scheduler.core import debug_log, log_lines
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.instants import MILLISECOND, SECOND, Instant, to_datetime
from luci_scheduler.core.invocation import Invocation

__all__ = ["Event", "EventKind", "Mark", "count", "events", "legend", "marks"]

_MAX_EVENTS = 300
_LENGTH = 1000


class EventKind(StrEnum):
    """The kind of an event."""

    QUEUED = "queued"
    LAUNCHED = "launched"
    CREATED = "created"
    STARTED = "started"
    CHECK = "check"
    NOTIFICATION = "notification"
    RETRY = "retry"
    END = "end"


_TITLES = {
    EventKind.QUEUED: "Queued",
    EventKind.LAUNCHED: "Launched",
    EventKind.CREATED: "Build created",
    EventKind.STARTED: "Build seen running",
    EventKind.CHECK: "Status check",
    EventKind.NOTIFICATION: "Notification",
    EventKind.RETRY: "Launch will be retried",
    EventKind.END: "End",
}
_LEGEND = {
    EventKind.QUEUED: "queued",
    EventKind.LAUNCHED: "launched",
    EventKind.CREATED: "build created",
    EventKind.STARTED: "build running",
    EventKind.CHECK: "check",
    EventKind.NOTIFICATION: "notification",
    EventKind.RETRY: "failed attempt",
    EventKind.END: "end",
}
_LINES = (
    (log_lines.STARTING, EventKind.LAUNCHED),
    (log_lines.HANDLING_TIMER, EventKind.CHECK),
    (log_lines.NOTIFIED, EventKind.NOTIFICATION),
    (log_lines.RETRIED, EventKind.RETRY),
    (log_lines.TASK_URL, EventKind.CREATED),
    (log_lines.V1_RESPONSE, EventKind.CREATED),
)
_RUNNING = ("STARTED", "WORKING")
"""The statuses of a running build: Buildbucket's and Cloud Build's."""
_ONCE = (EventKind.STARTED, EventKind.CREATED)
"""Several lines show these events. The first one counts."""

# An event that closely follows another is drawn inside it, so that both show as rings.
_RADII = {EventKind.QUEUED: 12, EventKind.LAUNCHED: 9, EventKind.CREATED: 6, EventKind.STARTED: 5, EventKind.END: 9}


@frozen
class Event:
    """An event in the life of an invocation."""

    kind: EventKind
    at: Instant
    title: str


@frozen
class Mark:
    """The drawing of an event on a line from 0 to 1000."""

    kind: EventKind
    x: float
    label: str
    """The title, and the time since the invocation's creation."""
    clock: str
    """The time of day, in UTC."""
    radius: int
    """The radius of the circle. 0 for an event with another shape."""


def events(invocation: Invocation, log: str) -> list[Event]:
    """Return the events of an invocation in order: the first 300, and the end."""
    found = [Event(EventKind.QUEUED, invocation.started, _TITLES[EventKind.QUEUED])]
    seen: set[EventKind] = set()
    for entry in debug_log.entries(log, invocation.started):
        kind = _kind(entry.text)
        if kind is None or (kind in _ONCE and kind in seen):
            continue
        seen.add(kind)
        found.append(Event(kind, entry.at, _TITLES[kind]))
        if len(found) == _MAX_EVENTS:
            break
    if invocation.finished is not None:
        found.append(Event(EventKind.END, invocation.finished, f"{_TITLES[EventKind.END]}: {invocation.status}"))
    return found


def count(found: Sequence[Event], kind: EventKind) -> int:
    """Return the number of events of a kind."""
    return sum(event.kind is kind for event in found)


def legend(timeline: Sequence[Event]) -> list[tuple[EventKind, str]]:
    """Return the kinds of events of a timeline with their names, in the order of an invocation's life."""
    kinds = {event.kind for event in timeline}
    return [(kind, words) for kind, words in _LEGEND.items() if kind in kinds]


def marks(found: Sequence[Event], now: Instant) -> list[Mark]:
    """Return the drawings of events. The line ends with the invocation, or at ``now`` while the invocation runs."""
    start = found[0].at
    end = found[-1].at if found[-1].kind is EventKind.END else max(now, found[-1].at)
    length = max(1, end - start)
    return [
        Mark(
            event.kind,
            _place(event.at - start, length),
            f"{event.title}, {_since(event.at - start)}",
            f"{to_datetime(event.at):%H:%M:%S}",
            _RADII.get(event.kind, 0),
        )
        for event in found
    ]


def _place(passed: int, length: int) -> float:
    # The clocks of the machines that write a log differ a little: an event may seem to precede the start or follow the
    # end.
    return round(_LENGTH * min(1.0, max(0.0, passed / length)), 1)


def _since(nanoseconds: int) -> str:
    if nanoseconds <= 0:
        return "at the beginning"
    step = MILLISECOND if nanoseconds < 10 * SECOND else SECOND
    return f"after {format_duration(nanoseconds // step * step)}"


def _kind(text: str) -> EventKind | None:
    for template, kind in _LINES:
        if template.begins(text):
            return kind
    return EventKind.STARTED if _shows_running(text) else None


def _shows_running(text: str) -> bool:
    if status := log_lines.BUILD_STATUS.match(text):
        return status["status"] in _RUNNING
    status = log_lines.V1_STATUS.match(text)
    return status is not None and status["status"] == '"STARTED"'
