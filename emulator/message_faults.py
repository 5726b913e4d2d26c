"""Pub/Sub with faults: messages that never arrive, or arrive twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from emulator.topics import PushSubscription

__all__ = ["FaultyPubSub", "PubSub"]


class PubSub(Protocol):
    """Pub/Sub: the official emulator, or topics in memory."""

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish to a topic (full name) and return the message's ID."""

    def create_topic(self, topic: str) -> None:
        """Create a topic (full name) without a subscription; an existing one is left alone."""

    def topic_exists(self, topic: str) -> bool:
        """Return whether a topic (full name) exists."""

    def create_topics(self, wanted: Sequence[PushSubscription], urls: Mapping[str, str]) -> None:
        """Create topics and push subscriptions to the functions' base ``urls``; existing ones are left alone."""

    def has_dead_letter(self, item: PushSubscription) -> bool:
        """Return whether a topic's dead-letter subscription holds a message; the message stays."""

    def drop_backlog(self, wanted: Sequence[PushSubscription], until: int) -> None:
        """Forget the unacknowledged messages published until an instant, and the dead letters."""

    def close(self) -> None:
        """Close the connection or stop delivering."""


class FaultyPubSub:
    """Passes everything to another `PubSub`, with the faults that are switched on.

    Args:
        inner: the official emulator, or topics in memory.
    """

    def __init__(self, inner: PubSub) -> None:
        self._inner = inner
        self.loses = False
        """Whether messages are accepted and never delivered. Pub/Sub itself promises not to do that."""
        self.copies = 1
        """How many copies of each message are published, each under another ID."""

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish to a topic (full name) and return the ID of the last copy; of a lost message, an empty text."""
        copies = 0 if self.loses else self.copies
        return [self._inner.publish(topic, data, attributes) for _ in range(copies)][-1] if copies else ""

    def create_topic(self, topic: str) -> None:
        """Create a topic (full name) without a subscription."""
        self._inner.create_topic(topic)

    def topic_exists(self, topic: str) -> bool:
        """Return whether a topic (full name) exists."""
        return self._inner.topic_exists(topic)

    def create_topics(self, wanted: Sequence[PushSubscription], urls: Mapping[str, str]) -> None:
        """Create topics and push subscriptions to the functions' base ``urls``."""
        self._inner.create_topics(wanted, urls)

    def has_dead_letter(self, item: PushSubscription) -> bool:
        """Return whether a topic's dead-letter subscription holds a message; the message stays."""
        return self._inner.has_dead_letter(item)

    def drop_backlog(self, wanted: Sequence[PushSubscription], until: int) -> None:
        """Forget the unacknowledged messages published until an instant, and the dead letters."""
        self._inner.drop_backlog(wanted, until)

    def close(self) -> None:
        """Close the connection or stop delivering."""
        self._inner.close()
