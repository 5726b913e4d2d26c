"""Announce: the commit that starts or ends an invocation records a message, and a task publishes it.

The message is deferred work. Its document is part of that commit, so no announcement is lost, and nothing waits for the
topic. Without a topic there is no document and no task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from luci_scheduler.core.announcement import Announcement, end_of, start_of, with_link
from luci_scheduler.core.deferred import KEPT, Deferred, deferred_id, is_abandoned, postponed
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.instants import HOUR, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job, Status
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.ports import Versioned

__all__ = ["KIND", "end_work", "start_work", "try_announcement"]

KIND = "announce"
"""The kind of this deferred work."""

_LONGEST_PAUSE = 6 * HOUR
"""A topic that takes nothing, for want of a grant for example, collects a document for each start and each end.

A try costs a read and a write, so trying all of them every few minutes would cost more than all other work.
"""


def start_work(runtime: Runtime, before: Invocation, after: Invocation) -> Deferred | None:
    """Return the work of announcing a start, if the commit records one; None without a topic.

    An invocation starts when its build is known. Others, such as polls, end in their launch and have no start.
    """
    if runtime.topic is None or not before.status.is_initial or after.status is not Status.RUNNING:
        return None
    return _work(start_of(after), runtime.clock.now())


def end_work(runtime: Runtime, ended: Invocation, job: Versioned[Job] | None) -> Deferred | None:
    """Return the work of announcing an end; None without a topic. ``job`` is the job before the end, if it exists."""
    if runtime.topic is None:
        return None
    return _work(end_of(ended, job.value.recent if job else ()), runtime.clock.now())


def try_announcement(runtime: Runtime, work: Deferred) -> Deferred | None:
    """Publish a message. Return the work with a pause if the topic does not take it, or None if it is done.

    A repetition publishes the message again: readers recognize it by its ``event_id``. After a week, and if the topic
    was switched off, the message is dropped.

    Raises:
        PermanentError: Pub/Sub refuses the message itself, or the document holds none.
    """
    topic, about = runtime.topic, {"deferred": work.id, "tries": work.tries}
    if topic is None:
        logger.warning("announcement_dropped", **about, reason="SCHEDULER_EVENTS_TOPIC is not set any more")
        return None
    attributes, data = _message(work)
    body = json.dumps(with_link(data, runtime.console_url), ensure_ascii=False).encode()
    try:
        topic.publish(attributes, body)
    except TransientError as error:
        now, reason = runtime.clock.now(), f"the topic does not take the announcement: {error}"
        if is_abandoned(work, now):
            logger.error("announcement_dropped", **about, reason=reason)
            return None
        logger.warning("announcement_postponed", **about, reason=reason)
        return postponed(work, now, reason, _LONGEST_PAUSE)
    return None


def _message(work: Deferred) -> tuple[Mapping[str, str], Mapping[str, object]]:
    attributes, data = work.payload.get("attributes"), work.payload.get("data")
    if not isinstance(attributes, Mapping) or not isinstance(data, Mapping):
        raise PermanentError(f"the deferred task {work.id} holds no announcement")
    return attributes, data


def _work(announcement: Announcement, now: Instant) -> Deferred:
    payload = {"attributes": dict(announcement.attributes), "data": dict(announcement.data)}
    return Deferred(deferred_id(KIND, announcement.id), KIND, payload, now, now, Instant(now + KEPT))
