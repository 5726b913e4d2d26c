"""Pub/Sub notifications of builds: their contents, and what may go wrong on their way."""

from __future__ import annotations

import base64
import fnmatch
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from emulator.buildbucket.builds import Build, BuildStore, Callback
from emulator.buildbucket.instants import SECOND
from emulator.buildbucket.large_fields import compressed_large_fields
from emulator.buildbucket.plans import Announce
from emulator.buildbucket.timeline import Timeline
from emulator.buildbucket.v1_build import build_to_v1
from emulator.buildbucket.v2_build import build_to_json
from emulator.clock import Clock

__all__ = ["Event", "Message", "NotificationFault", "Notifier", "Publisher", "v1_message", "v2_message"]

_LOG = logging.getLogger(__name__)

Event = Literal["created", "started", "ended"]
Effect = Literal["drop", "duplicate", "delay", "hold", "wrong_token", "missing_token", "foreign_token"]

LARGE_FIELDS_LIMIT = 8_500_000
WRONG_TOKEN = b"this-is-not-the-token"
# The end is announced by a task that is retried; the other events are published once or not at all.
_END_ATTEMPTS = 10


class Publisher(Protocol):
    """What publishes: a Pub/Sub client bound to the account of the service."""

    def publish(self, topic: str, data: bytes, attributes: dict[str, str]) -> object:
        """Publish one message to ``projects/P/topics/T``; raise if that fails. What is returned does not matter."""

    def topic_exists(self, topic: str) -> bool:
        """Tell whether the topic exists and the service may publish to it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is handed to the publisher."""

    data: bytes
    attributes: dict[str, str]


@dataclass(slots=True)
class NotificationFault:
    """Something that happens to notifications of one kind of event (``*``: any) of builders like ``builder``.

    Attributes:
        effect: ``drop`` loses the message; ``duplicate`` sends ``value`` more copies (1 unless told); ``delay`` publishes it ``value``
            nanoseconds late; ``hold`` keeps it back until the next message has been published; the rest replace the token by a wrong
            one, by none, or by that of another build.
        times: how many events it affects; None is all of them.
    """

    effect: Effect
    event: str = "*"
    builder: str = "*"
    times: int | None = 1
    value: int = 0


class Notifier:
    """Announces changes of builds to the topic each was scheduled with.

    A message is composed when it is published, not when the change happened: a late one shows what the build has become.
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
        self._faults: list[NotificationFault] = []
        self._held: list[tuple[int, Event, Announce]] = []
        self._tokens: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def add_fault(self, fault: NotificationFault) -> None:
        """Let something happen to coming notifications; several faults add up."""
        with self._lock:
            self._faults.append(fault)

    def clear_faults(self) -> None:
        """Stop all faults, and publish what was held back."""
        with self._lock:
            self._faults.clear()
        self._release()

    def announce(self, build: Build, event: Event, announce: Announce) -> None:
        """Announce a change, as the faults let it; builds without a callback, and creations in the API of 2021, are silent."""
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
        for fault in list(self._faults):
            if not (
                fnmatch.fnmatchcase(event, fault.event) and fnmatch.fnmatchcase(str(build.spec.builder), fault.builder)
            ):
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
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
        except Exception:  # noqa: BLE001 - the publisher is foreign code; what it raises is logged
            _LOG.exception("publishing that build %d has %s failed", build_id, event)
            if event == "ended" and attempt < _END_ATTEMPTS:
                later = self._clock.now() + SECOND * 2 ** (attempt - 1)
                self._timeline.at(later, lambda _at: self._publish(build_id, event, token, attempt + 1))


def v1_message(build: Build, callback: Callback, hostname: str, now: int) -> Message:
    """Return the notification of 2021: one line with sorted keys, the token in an attribute.

    For a build of today's API this is the form of the years between: no attribute, the token in ``user_data``.
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
    """Return today's notification: tab-indented JSON, the large fields compressed (or dropped beyond ``limit`` bytes)."""
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
