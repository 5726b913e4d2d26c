"""What happened to an invocation and when, read from its record and its debug log, and where that lies on a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.instants import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Instant, to_datetime
from luci_scheduler.core.invocation import Invocation

__all__ = ["Event", "EventKind", "Mark", "count", "events", "marks"]

_MAX_EVENTS = 300
_LINE = re.compile(r"^\[(\d\d):(\d\d):(\d\d)\.(\d{3})\] (.*)$", re.MULTILINE)


class EventKind(StrEnum):
    """What happened."""

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
# How the log's lines begin; both eras.
_BEGINNINGS = (
    ("Starting the invocation (attempt", EventKind.LAUNCHED),
    ("Handling timer ", EventKind.CHECK),
    ("Received PubSub notification", EventKind.NOTIFICATION),
    ("The invocation will be retried", EventKind.RETRY),
    ("Task URL: ", EventKind.CREATED),
    ("Buildbucket response:", EventKind.CREATED),
    ("Build status: STARTED", EventKind.STARTED),
)
_STARTED_2021 = re.compile(r'Build \d+: status "STARTED"')


# What follows closely is drawn into what was before, as rings.
_RADII = {EventKind.QUEUED: 12, EventKind.LAUNCHED: 9, EventKind.CREATED: 6, EventKind.STARTED: 5, EventKind.END: 9}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    kind: EventKind
    at: Instant
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An event as it is drawn, on a line from 0 to 1000."""

    kind: EventKind
    x: float
    label: str
    """With the time since the invocation was created."""
    clock: str
    """Time of day, UTC."""
    radius: int
    """Of its circle; 0 for what is drawn otherwise."""


def events(invocation: Invocation, log: str) -> list[Event]:
    """Return what happened, in order: the first 300 events and the end."""
    found = [Event(EventKind.QUEUED, invocation.started, _TITLES[EventKind.QUEUED])]
    seen_once: set[EventKind] = set()
    for at, text in _lines(log, invocation.started):
        kind = _kind(text)
        if kind is None or (kind in (EventKind.STARTED, EventKind.CREATED) and kind in seen_once):
            continue
        seen_once.add(kind)
        found.append(Event(kind, at, _TITLES[kind]))
        if len(found) == _MAX_EVENTS:
            break
    if invocation.finished is not None:
        found.append(Event(EventKind.END, invocation.finished, f"{_TITLES[EventKind.END]}: {invocation.status}"))
    return found


def count(found: Sequence[Event], kind: EventKind) -> int:
    """Return how often something happened."""
    return sum(event.kind is kind for event in found)


def marks(found: Sequence[Event], now: Instant) -> list[Mark]:
    """Return where events are drawn; the line ends with the last one, or at ``now`` while it runs."""
    start = found[0].at
    end = found[-1].at if found[-1].kind is EventKind.END else max(now, found[-1].at)
    length = max(1, end - start)
    return [
        Mark(
            event.kind,
            round(1000 * min(1.0, max(0.0, (event.at - start) / length)), 1),
            f"{event.title}, {_since(event.at - start)}",
            f"{to_datetime(event.at):%H:%M:%S}",
            _RADII.get(event.kind, 0),
        )
        for event in found
    ]


def _since(nanoseconds: int) -> str:
    if nanoseconds <= 0:
        return "at the beginning"
    step = MILLISECOND if nanoseconds < 10 * SECOND else SECOND
    return f"after {format_duration(nanoseconds // step * step)}"


def _lines(log: str, started: Instant) -> Iterator[tuple[Instant, str]]:
    """Yield the log's lines with their instants: a line has the time of day only, days are counted from the start."""
    base = started // DAY * DAY
    last = days = 0
    for match in _LINE.finditer(log):
        hour, minute, second, millisecond = (int(match[number]) for number in range(1, 5))
        of_day = hour * HOUR + minute * MINUTE + second * SECOND + millisecond * MILLISECOND
        if of_day + 12 * HOUR < last:
            days += 1
        last = of_day
        yield Instant(base + days * DAY + of_day), match[5]


def _kind(text: str) -> EventKind | None:
    for beginning, kind in _BEGINNINGS:
        if text.startswith(beginning):
            return kind
    return EventKind.STARTED if _STARTED_2021.match(text) else None
