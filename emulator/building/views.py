"""Times and commits of builds, as pages show them."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.building.wire_time import format_timestamp
from luci_scheduler.core.humanized import relative
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND

__all__ = ["CommitView", "Moment", "duration", "moment"]


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: exact for programs, and relative for people."""

    exact: str
    shown: str


@dataclass(frozen=True, slots=True)
class CommitView:
    """The commit of a build."""

    short: str
    repository: str
    ref: str
    subject: str
    """Its first line; empty if it is not known."""
    url: str
    """Its page on the local server of its host; empty if there is none."""


def duration(nanoseconds: int) -> str:
    """Return how long something took: ``0.8 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if nanoseconds < MINUTE:
        return f"{max(0, nanoseconds) / SECOND:.1f} s"
    if nanoseconds < HOUR:
        return f"{nanoseconds // MINUTE} min {nanoseconds % MINUTE // SECOND:02} s"
    return f"{nanoseconds // HOUR} h {nanoseconds % HOUR // MINUTE:02} min"


def moment(instant: int, now: int) -> Moment:
    """Return an instant for a page that is made now."""
    return Moment(format_timestamp(instant // SECOND * SECOND), relative(now - instant, "ago", "from now"))
