"""Pub/Sub notifications of builds: their contents, order and faults."""

from __future__ import annotations

import fnmatch
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from google.api_core.exceptions import NotFound

from emulator.building.messages import Message, Publisher
from emulator.building.timeline import Timeline
from emulator.building.wire_time import parse_duration
from emulator.clock import Clock
from emulator.cloud_build.builds import Build
from emulator.serving.faults import Faults
from luci_scheduler.core.instants import SECOND

__all__ = ["TOPIC", "NotificationFault", "Notifier", "message_of", "notification_fault_from_json"]

_LOG = logging.getLogger(__name__)

TOPIC = "cloud-builds"
"""The short name of the topic, in the project of the builds."""
NotificationEffect = Literal["drop", "duplicate", "delay", "hold"]
_ATTEMPTS = 10


@dataclass(slots=True)
class NotificationFault:
    """A fault of notifications.

    Attributes:
        effect: ``drop`` loses the message. ``duplicate`` sends ``value`` more copies, by default 1. ``delay`` publishes
            it ``value`` nanoseconds late. ``hold`` keeps it until the next message was published, so that both arrive
            out of order.
        status: the affected statuses; may contain ``*`` and ``?``.
        job: the affected jobs of the scheduler, ``project/name``; may contain ``*`` and ``?``.
        times: how many messages are affected; None means all, until the fault is removed.
        value: the number of copies, or the delay.
    """

    effect: NotificationEffect
    status: str = "*"
    job: str = "*"
    times: int | None = 1
    value: int = 0

    def matches(self, build: Build) -> bool:
        """Return whether the fault affects the message about a build's status."""
        return fnmatch.fnmatchcase(build.status, self.status) and fnmatch.fnmatchcase(build.job, self.job)


def notification_fault_from_json(value: Mapping[str, Any]) -> NotificationFault:
    """Parse a fault: the attributes of `NotificationFault`; the value of ``delay`` is a duration such as ``5s``.

    Raises:
        TypeError, ValueError: the JSON is not a fault.
    """
    if value.get("effect") not in get_args(NotificationEffect):
        raise ValueError(f"no such fault: {dict(value)}")
    values = dict(value)
    if value["effect"] == "delay":
        values["value"] = parse_duration(str(value["value"]))
    return NotificationFault(**values)


def message_of(build: Build) -> Message:
    """Return the notification about a build as it is now: the build as JSON, and two attributes."""
    return Message(json.dumps(build.body, indent=2).encode(), {"buildId": build.id, "status": build.status})


class Notifier:
    """Announces each change of a build on the topic of its project.

    A message is composed when the build changes, so a late one shows an earlier status. If the topic does not exist,
    the message is lost and nothing complains, as in the cloud. Another exception of the publisher is logged, and the
    message is published again.

    Args:
        clock: the server's time.
        timeline: runs delayed publications and retries.
        publisher: publishes the messages.

    Attributes:
        topic_missing: whether messages are lost as if the topic did not exist.
        lost: the number of messages for which there was no topic.
    """

    def __init__(self, clock: Clock, timeline: Timeline, publisher: Publisher) -> None:
        self._clock = clock
        self._timeline = timeline
        self._publisher = publisher
        self._faults: Faults[NotificationFault] = Faults()
        self._held: list[Build] = []
        self._lock = threading.Lock()
        self.topic_missing = False
        self.lost = 0

    def add_fault(self, fault: NotificationFault) -> None:
        """Activate a fault of future notifications; several faults add up."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Remove all faults, and publish the held messages."""
        self._faults.clear()
        self.topic_missing = False
        self._release()

    def announce(self, build: Build) -> None:
        """Announce a build's status under the active faults."""
        faults = self._faults.use(lambda fault: fault.matches(build))
        effects = {fault.effect for fault in faults}
        if "hold" in effects:
            with self._lock:
                self._held.append(build)
            return
        copies = 0 if "drop" in effects else 1 + sum(f.value or 1 for f in faults if f.effect == "duplicate")
        delay = sum(fault.value for fault in faults if fault.effect == "delay")
        for _ in range(copies):
            self._send(build, delay)
        self._release()

    def _release(self) -> None:
        with self._lock:
            held, self._held = self._held, []
        for build in held:
            self._publish(build)

    def _send(self, build: Build, delay: int) -> None:
        if delay:
            self._timeline.at(self._clock.now() + delay, lambda _at: self._publish(build))
        else:
            self._publish(build)

    def _publish(self, build: Build, attempt: int = 1) -> None:
        if self.topic_missing:
            self.lost += 1
            return
        message = message_of(build)
        try:
            topic = f"projects/{build.place.project}/topics/{TOPIC}"
            self._publisher.publish(topic, message.data, message.attributes)
        except (LookupError, NotFound):
            self.lost += 1
        except Exception:  # noqa: BLE001 - the publisher is foreign code; its exceptions are logged
            _LOG.exception("publishing that build %s is %s failed", build.id, build.status)
            if attempt < _ATTEMPTS:
                later = self._clock.now() + SECOND * 2 ** (attempt - 1)
                self._timeline.at(later, lambda _at: self._publish(build, attempt + 1))
