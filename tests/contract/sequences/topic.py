"""Sequences for the topic: messages with all kinds of attributes and data, within the limits that Pub/Sub documents."""

from __future__ import annotations

import base64
import random
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from emulator.memory.topic import MemoryTopic
from luci_scheduler.adapters.pubsub import PubsubTopic
from luci_scheduler.ports import Topic
from tests.contract.sequences.harness import Operation, Side
from tests.waiting import until

__all__ = ["draw", "topic_sides"]

_TIMEOUT = 60.0  # seconds; a busy machine takes long
_KEYS = ("event", "k" * 256, "é", "a b", "")
_VALUES = ("", "v", "é" * 512, "line\nbreak", "v" * 1024)
_DATA = (b"", b"{}", b"\x00\xff", "é".encode(), b"x" * 100_000)


def draw(entropy: random.Random) -> Operation:
    """Draw a message; one in ten is empty."""
    if entropy.random() < 0.1:
        return Operation("publish", ((), b""))
    keys = entropy.sample(_KEYS, entropy.randint(0, len(_KEYS)))
    return Operation("publish", (tuple((key, entropy.choice(_VALUES)) for key in keys), entropy.choice(_DATA)))


class _TopicSide(Side):
    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._stored = 0

    def do_publish(self, attributes: tuple[tuple[str, str], ...], data: bytes) -> None:
        """Publish a message."""
        self._topic.publish(dict(attributes), data)
        self._stored += 1


class _MemorySide(_TopicSide):
    _topic: MemoryTopic

    def state(self) -> object:
        """Return the messages, in no order."""
        return _messages(self._topic.published)


class _PubsubSide(_TopicSide):
    def __init__(self, topic: Topic, session: requests.Session, subscription: str) -> None:
        super().__init__(topic)
        self._session = session
        self._subscription = subscription

    def state(self) -> object:
        """Return the messages, in no order. The subscription has each of them once a pull has delivered it."""
        found: list[tuple[Mapping[str, str], bytes]] = []
        until(lambda: len(self._pulled(found)) >= self._stored, "all messages")
        return _messages(self._pulled(found))

    def _pulled(self, found: list[tuple[Mapping[str, str], bytes]]) -> list[tuple[Mapping[str, str], bytes]]:
        body = {"maxMessages": 100, "returnImmediately": True}
        answer = _call(self._session, "POST", f"{self._subscription}:pull", body)
        received = answer.get("receivedMessages", [])
        if received:
            ids = [item["ackId"] for item in received]
            _call(self._session, "POST", f"{self._subscription}:acknowledge", {"ackIds": ids})
        messages = [item["message"] for item in received]
        found += [(item.get("attributes", {}), base64.b64decode(item.get("data", ""))) for item in messages]
        return found


def _messages(found: list[tuple[Mapping[str, str], bytes]]) -> object:
    return sorted((sorted(attributes.items()), data) for attributes, data in found)


def _call(session: requests.Session, method: str, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    answer = session.request(method, url, json=body, timeout=_TIMEOUT)
    answer.raise_for_status()
    parsed: dict[str, Any] = answer.json()
    return parsed


@contextmanager
def topic_sides(address: str, session: requests.Session) -> Iterator[tuple[Side, Side]]:
    """Yield both topics, empty; ``address`` is ``host:port`` of the Pub/Sub emulator."""
    name = f"s-{uuid.uuid4().hex[:10]}"
    topic, subscription = f"projects/p/topics/{name}", f"projects/p/subscriptions/{name}"
    url = f"http://{address}"
    _call(session, "PUT", f"{url}/v1/{topic}", {})
    _call(session, "PUT", f"{url}/v1/{subscription}", {"topic": topic})
    yield (
        _MemorySide(MemoryTopic()),
        _PubsubSide(PubsubTopic(topic, url, lambda: session, _TIMEOUT), session, f"{url}/v1/{subscription}"),
    )
    for path in (subscription, topic):
        session.delete(f"{url}/v1/{path}", timeout=_TIMEOUT)
