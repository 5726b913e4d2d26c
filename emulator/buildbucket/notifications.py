"""Pub/Sub notifications of builds: their contents and their faults."""

from __future__ import annotations

import base64
import fnmatch
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from emulator.buildbucket.builds import Build, BuildStore, Callback
from emulator.buildbucket.large_fields import compressed_large_fields
from emulator.buildbucket.plans import Announce
from emulator.buildbucket.v1_build import build_to_v1
from emulator.buildbucket.v2_build import build_to_json
from emulator.building.messages import Message, Publisher
from emulator.building.timeline import Timeline
from emulator.clock import Clock
from emulator.serving.faults import Faults
from luci_scheduler.core.instants import SECOND

__all__ = [
    "Event",
    "NotificationEffect",
    "NotificationFault",
    "Notifier",
    "v1_message",
    "v2_message",
]

_LOG = logging.getLogger(__name__)

Event = Literal["created", "started", "ended"]
NotificationEffect = Literal["drop", "duplicate", "delay", "hold", "wrong_token", "missing_token", "foreign_token"]

LARGE_FIELDS_LIMIT = 8_500_000
WRONG_TOKEN = b"this-is-not-the-token"
# Buildbucket publishes the end of a build from a retried task, and the other events at most once.
_END_ATTEMPTS = 10


@dataclass(slots=True)
class NotificationFault:
    """A fault of notifications.

    Attributes:
        effect: ``drop`` loses the message. ``duplicate`` sends ``value`` more copies, by default 1. ``delay`` publishes
            it ``value`` nanoseconds late. ``hold`` keeps it until the next message was published. ``wrong_token``,
            ``missing_token`` and ``foreign_token`` replace the token by a wrong token, no token, or another build's
            token.
        event: the affected events; may contain ``*`` and ``?``.
        builder: the affected builders, ``project/bucket/builder``; may contain ``*`` and ``?``.
        times: how many events are affected; None means all, until the fault is removed.
        value: the number of copies, or the delay.
    """

    effect: NotificationEffect
    event: str = "*"
    builder: str = "*"
    times: int | None = 1
    value: int = 0

    def matches(self, event: Event, builder: str) -> bool:
        """Return whether the fault affects an event."""
        return fnmatch.fnmatchcase(event, self.event) and fnmatch.fnmatchcase(builder, self.builder)


class Notifier:
    """Announces changes of builds on the topics of their requests.

    A message is composed when it is published, not when the build changed, so a late message shows the later state.

    Args:
        clock: the server's time.
        timeline: runs delayed publications and retries.
        store: the builds.
        publisher: publishes the messages.
        hostname: returns the service's hostname.

    Attributes:
        legacy_format: whether v2 builds are announced in the v1 format, as the service did for some years.
    """

    def __init__(
        self, clock: Clock, timeline: Timeline, store: BuildStore, publisher: Publisher, hostname: Callable[[], str]
    ) -> None:
        self._clock = clock
        self._timeline = timeline
        self._store = store
        self._publisher = publisher
        self._hostname = hostname
        self.legacy_format = False
        self._faults: Faults[NotificationFault] = Faults()
        self._held: list[tuple[int, Event, Announce]] = []
        self._tokens: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def add_fault(self, fault: NotificationFault) -> None:
        """Activate a fault of future notifications; several faults add up."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Remove all faults, and publish the held messages."""
        self._faults.clear()
        self._release()

    def announce(self, build: Build, event: Event, announce: Announce) -> None:
        """Announce a change under the active faults.

        Builds without a callback, and creations of v1 builds, are not announced.
        """
        callback = build.spec.callback
        if callback is None or (build.spec.era == "v1" and event == "created"):
            return
        with self._lock:
            self._tokens[build.id] = _token(callback)
            applied, held = self._apply_faults(build, event, announce)
            if held:
                self._held.append((build.id, event, applied))
                return
        self._send(build.id, event, applied)
        self._release()

    def _apply_faults(self, build: Build, event: Event, announce: Announce) -> tuple[Announce, bool]:
        held = False
        for fault in self._faults.use(lambda fault: fault.matches(event, str(build.spec.builder))):
            announce = self._distort(announce, fault, build)
            held = held or fault.effect == "hold"
        return announce, held

    def _distort(self, announce: Announce, fault: NotificationFault, build: Build) -> Announce:
        tokens = {
            "wrong_token": WRONG_TOKEN,
            "missing_token": b"",
            "foreign_token": next((token for other, token in self._tokens.items() if other != build.id), WRONG_TOKEN),
        }
        if fault.effect in tokens:
            return replace(announce, token=tokens[fault.effect])
        match fault.effect:
            case "drop":
                return replace(announce, copies=0)
            case "duplicate":
                return replace(announce, copies=announce.copies + (fault.value or 1))
            case "delay":
                return replace(announce, delay=announce.delay + fault.value)
        return announce

    def _release(self) -> None:
        with self._lock:
            held, self._held = self._held, []
        for build_id, event, announce in held:
            self._send(build_id, event, announce)

    def _send(self, build_id: int, event: Event, announce: Announce) -> None:
        for _ in range(announce.copies):
            if announce.delay:
                self._timeline.at(
                    self._clock.now() + announce.delay, lambda _at: self._publish(build_id, event, announce.token)
                )
            else:
                self._publish(build_id, event, announce.token)

    def _publish(self, build_id: int, event: Event, token: bytes | None, attempt: int = 1) -> None:
        build = self._store.get(build_id)
        if build is None or build.spec.callback is None:
            return
        callback = build.spec.callback if token is None else _with_token(build.spec.callback, token)
        try:
            if build.spec.era == "v1" or self.legacy_format:
                message = v1_message(build, callback, self._hostname(), self._clock.now())
            else:
                message = v2_message(build, callback, self._hostname())
            self._publisher.publish(callback.topic, message.data, message.attributes)
        except Exception:  # noqa: BLE001 - the publisher is foreign code; its exceptions are logged
            _LOG.exception("publishing that build %d has %s failed", build_id, event)
            if event == "ended" and attempt < _END_ATTEMPTS:
                later = self._clock.now() + SECOND * 2 ** (attempt - 1)
                self._timeline.at(later, lambda _at: self._publish(build_id, event, token, attempt + 1))


def v1_message(build: Build, callback: Callback, hostname: str, now: int) -> Message:
    """Return the v1 notification: one line of JSON with sorted keys, and the token in an attribute.

    A v2 build in this format, as the service published it for some years, has no attribute; its token is in
    ``user_data``.
    """
    body = {
        "build": build_to_v1(build, hostname, now),
        "hostname": hostname,
        "user_data": callback.user_data.decode(errors="replace"),
    }
    attributes = {"build_id": str(build.id)}
    if build.spec.era == "v1":
        attributes["auth_token"] = callback.auth_token
    return Message(json.dumps(body, sort_keys=True).encode(), attributes)


def v2_message(build: Build, callback: Callback, hostname: str, limit: int = LARGE_FIELDS_LIMIT) -> Message:
    """Return the v2 notification: tab-indented JSON with compressed large fields.

    Large fields of more than ``limit`` bytes are dropped.
    """
    message = build_to_json(build, hostname)
    steps = message.pop("steps", [])
    input_properties = message["input"].pop("properties", {})
    output_properties = message["output"].pop("properties", {})
    large = compressed_large_fields(input_properties, output_properties, steps)
    inner: dict[str, Any] = {"build": message}
    if len(large) > limit:
        inner["buildLargeFieldsDropped"] = True
    else:
        inner["buildLargeFields"] = base64.b64encode(large).decode()
    body: dict[str, Any] = {"buildPubsub": inner}
    if callback.user_data:
        body["userData"] = base64.b64encode(callback.user_data).decode()
    attributes = {**build.spec.builder.to_json(), "is_completed": "true" if build.ended else "false", "version": "v2"}
    return Message(json.dumps(body, indent="\t").encode(), attributes)


def _token(callback: Callback) -> bytes:
    return callback.auth_token.encode() or callback.user_data


def _with_token(callback: Callback, token: bytes) -> Callback:
    if callback.auth_token:
        return replace(callback, auth_token=token.decode(errors="replace"))
    return replace(callback, user_data=token)
