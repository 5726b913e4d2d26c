"""Cleanups of builds that may outlive their invocations: when to cancel again, and when to stop trying.

An invocation ends even if the build service does not answer. Its document then keeps a `Cleanup` until the build
service confirms that no build of the invocation runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from luci_scheduler.core.backoff import plain_pause
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import DAY, HOUR, SECOND, Instant

__all__ = ["BUILD_LIFE", "Cleanup", "first_cleanup", "joined", "next_cleanup"]

BUILD_LIFE = 5 * DAY
"""The longest life of a build: Buildbucket terminates builds five days after their creation."""

_FIRST_PAUSE = 10 * SECOND  # doubles with each failed attempt, up to _MAX_PAUSE
_MAX_PAUSE = HOUR


@frozen
class Cleanup:
    """A build that may still run although its invocation has ended or has another build."""

    since: Instant
    """When the invocation ended or got another build. It requested this build before then."""
    next_try: Instant
    """When to look up and cancel the build next."""
    attempts: int = 0
    """The number of failed tries. The task on the queue carries it, so that an older task has no effect."""
    task_data: Mapping[str, Any] | None = None
    """The build's own task data, or None if the invocation's data identify the build.

    If it is empty, all builds of the invocation are looked up by their tags.
    """


def first_cleanup(now: Instant, task_data: Mapping[str, Any] | None = None) -> Cleanup:
    """Return the record of a build that could not be canceled at ``now``."""
    return Cleanup(now, Instant(now + _FIRST_PAUSE), task_data=None if task_data is None else dict(task_data))


def joined(earlier: Cleanup | None, new: Cleanup) -> Cleanup:
    """Combine a new record with an earlier one of the same invocation.

    The task data of either build would lose the other, so the result requests a search of all builds by their tags.
    """
    return new if earlier is None else replace(new, task_data={})


def next_cleanup(cleanup: Cleanup, now: Instant) -> Cleanup | None:
    """Return the record after another failure, or None when every build of the invocation must have ended.

    Pauses double from ten seconds to an hour.
    """
    if now - cleanup.since >= BUILD_LIFE:
        return None
    # The first pause of ten seconds preceded this try, so this failure leads to the second one.
    attempts = cleanup.attempts + 1
    pause = plain_pause(attempts + 1, _FIRST_PAUSE, _MAX_PAUSE)
    return replace(cleanup, next_try=Instant(now + pause), attempts=attempts)
