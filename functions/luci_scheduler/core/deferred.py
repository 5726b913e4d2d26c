"""Deferred work: it was acknowledged before it was done, and a document keeps it until then.

A task on the queue names the document. The sweep makes that task again if the queue loses it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from luci_scheduler.core.backoff import plain_pause
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import DAY, MINUTE, SECOND, Instant

__all__ = ["KEPT", "Deferred", "deferred_id", "first_wait", "is_abandoned", "pause", "postponed"]

KEPT = 7 * DAY
"""The minimum time for which failing work is retried. Pub/Sub keeps a message for the same time."""

_FIRST_PAUSE = 10 * SECOND  # doubles with each try, up to _LONGEST_PAUSE
_LONGEST_PAUSE = 10 * MINUTE
_MAX_REASON = 500  # characters


@frozen
class Deferred:
    """A piece of deferred work."""

    id: str
    """From `deferred_id`, so that the same work deferred twice is one document."""
    kind: str
    """A kind of queue task (``trigger``, ``abort``); ``commit`` or ``emit``, which wait for a commit; ``announce``;
    ``status``."""
    payload: Mapping[str, Any]
    """The payload of that kind, a JSON object."""
    created: Instant
    """When the work was deferred."""
    next_due: Instant
    """When the next try is due."""
    expires: Instant
    """When the wait for a commit ends."""
    tries: int = 0
    """The number of tries that found that the work must wait longer."""
    revision: str = ""
    """The hash of the commit that the work waits for; empty if it waits for none. Queries select by it."""
    reason: str = ""
    """A sentence about why the work waits."""


def deferred_id(kind: str, *parts: str) -> str:
    """Return the ID of the document for the work that ``parts`` identify."""
    return f"{kind}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]}"


def pause(tries: int, longest: int = _LONGEST_PAUSE) -> int:
    """Return the pause before the next try, in nanoseconds. It starts at 10 seconds and doubles up to ``longest``."""
    return plain_pause(tries + 1, _FIRST_PAUSE, longest)


def first_wait(work: Deferred, now: Instant, reason: str) -> Deferred:
    """Return new work that must wait before its first try."""
    return replace(work, next_due=Instant(now + pause(0)), reason=reason[:_MAX_REASON])


def postponed(work: Deferred, now: Instant, reason: str, longest: int = _LONGEST_PAUSE) -> Deferred:
    """Return the work after a try that found that it must wait longer, for at most ``longest``."""
    # The queue's task names the number of tries, so an older task of the same work has no effect.
    due = Instant(now + pause(work.tries + 1, longest))
    return replace(work, tries=work.tries + 1, next_due=due, reason=reason[:_MAX_REASON])


def is_abandoned(work: Deferred, now: Instant) -> bool:
    """Whether failing work is dropped now. Without this limit, work that always fails would stay forever."""
    return now >= max(work.expires, work.created + KEPT)
