"""Deferred tasks: work that was acknowledged and is not done yet, kept in a document until it is done.

A task on the queue names the document. The sweep makes that task again if the queue loses it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from luci_scheduler.core.backoff import plain_pause
from luci_scheduler.core.instants import DAY, MINUTE, SECOND, Instant

__all__ = ["KEPT", "Deferred", "deferred_id", "first_wait", "is_abandoned", "pause", "postponed"]

KEPT = 7 * DAY
"""How long a deferred task is tried at least, however often it fails: as long as Pub/Sub keeps a message."""

_FIRST_PAUSE = 10 * SECOND
_LONGEST_PAUSE = 10 * MINUTE
_MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Deferred:
    """A deferred task."""

    id: str
    """Made by `deferred_id`: the same work deferred twice is one document."""
    kind: str
    """A kind of task (``trigger``, ``abort``), or ``commit`` or ``emit``, which wait for a commit."""
    payload: Mapping[str, Any]
    """What that kind needs, as a JSON object."""
    created: Instant
    """When the work was deferred."""
    next_due: Instant
    """When it is tried next."""
    expires: Instant
    """When a commit that is not served yet is given up."""
    tries: int = 0
    """How many tries have found that it must wait longer."""
    revision: str = ""
    """The commit that it waits for; empty if it waits for none. Queried."""
    reason: str = ""
    """Why it waits, in words."""


def deferred_id(kind: str, *parts: str) -> str:
    """Return the ID of the document for a piece of work, which ``parts`` name."""
    return f"{kind}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]}"


def pause(tries: int) -> int:
    """Return the pause before the next try, in nanoseconds: 10 seconds, doubling up to 10 minutes."""
    return plain_pause(tries + 1, _FIRST_PAUSE, _LONGEST_PAUSE)


def first_wait(work: Deferred, now: Instant, reason: str) -> Deferred:
    """Return new work that must wait from its beginning."""
    return replace(work, next_due=Instant(now + pause(0)), reason=reason[:_MAX_REASON])


def postponed(work: Deferred, now: Instant, reason: str) -> Deferred:
    """Return the work after a try that found that it must wait longer."""
    due = Instant(now + pause(work.tries + 1))
    return replace(work, tries=work.tries + 1, next_due=due, reason=reason[:_MAX_REASON])


def is_abandoned(work: Deferred, now: Instant) -> bool:
    """Whether a task that fails again and again is given up now: nothing is tried for ever."""
    return now >= max(work.expires, work.created + KEPT)
