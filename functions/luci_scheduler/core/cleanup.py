"""Builds that may run on after their invocations: when each is canceled again, and when that is given up.

An invocation ends although the build service does not answer. Its document then keeps a `Cleanup` until the build service has
said that no build of it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from luci_scheduler.core.backoff import plain_pause
from luci_scheduler.core.instants import DAY, HOUR, SECOND, Instant

__all__ = ["BUILD_LIFE", "Cleanup", "first_cleanup", "joined", "next_cleanup"]

BUILD_LIFE = 5 * DAY
"""Buildbucket ends builds by force that are not over five days after their creation: no build is older."""

_FIRST_PAUSE = 10 * SECOND
_MAX_PAUSE = HOUR


@dataclass(frozen=True, slots=True)
class Cleanup:
    """A build that may run on although its invocation has ended, or has another one."""

    since: Instant
    """When the invocation ended or got another build. It did not request this build after that."""
    next_try: Instant
    """When the build is looked up and canceled next."""
    attempts: int = 0
    """How often that has failed since; names the task that the document waits for."""
    task_data: Mapping[str, Any] | None = None
    """The build's own task data; empty: all builds of the invocation are looked up by their tags; None: the invocation's data count."""


def first_cleanup(now: Instant, task_data: Mapping[str, Any] | None = None) -> Cleanup:
    """Return the record of a build that could not be canceled now."""
    return Cleanup(now, Instant(now + _FIRST_PAUSE), task_data=None if task_data is None else dict(task_data))


def joined(earlier: Cleanup | None, new: Cleanup) -> Cleanup:
    """Return the one record of an invocation that is over, and may have left another build running before.

    The data of one build would forget the other one, so that all are looked up by their tags.
    """
    return new if earlier is None else replace(new, task_data={})


def next_cleanup(cleanup: Cleanup, now: Instant) -> Cleanup | None:
    """Return the record after another failure, or None where no build of the invocation can be alive any more.

    Pauses double from ten seconds to an hour.
    """
    if now - cleanup.since >= BUILD_LIFE:
        return None
    attempts = cleanup.attempts + 1
    pause = plain_pause(attempts + 1, _FIRST_PAUSE, _MAX_PAUSE)
    return replace(cleanup, next_try=Instant(now + pause), attempts=attempts)
