"""Messages of dead-letter subscriptions, and the operations that the commands need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from luci_scheduler.core.frozen import frozen

__all__ = ["ADDED_PREFIX", "SUBSCRIPTION_SUFFIX", "Message", "MessageSource"]

SUBSCRIPTION_SUFFIX = "-dead-letter"
"""The end of a dead-letter subscription's name; the name of its topic comes before it."""

ADDED_PREFIX = "CloudPubSubDeadLetterSource"
"""The prefix of the attributes that Pub/Sub adds to a message when it gives up."""


@frozen
class Message:
    """A message of a dead-letter subscription."""

    subscription: str
    """Short name."""
    receipt: str
    """The ID that acknowledges it."""
    id: str
    published: str
    data: bytes
    attributes: Mapping[str, str]

    @property
    def topic(self) -> str:
        """Short name of the push subscription that gave it up. The installation's own topics have the same name."""
        return self.subscription.removesuffix(SUBSCRIPTION_SUFFIX)

    @property
    def own_attributes(self) -> dict[str, str]:
        """Its attributes as they were published, without the additions that Pub/Sub made when it gave up."""
        return {name: value for name, value in self.attributes.items() if not name.startswith(ADDED_PREFIX)}


class MessageSource(Protocol):
    """Reads, publishes and acknowledges dead letters."""

    def subscriptions(self) -> Sequence[str]:
        """Return the short names of all dead-letter subscriptions."""

    def pull(self, subscription: str, limit: int) -> Sequence[Message]:
        """Pull up to ``limit`` messages; Pub/Sub delivers them again unless they are acknowledged."""

    def give_back(self, messages: Sequence[Message]) -> None:
        """Make messages available again at once."""

    def publish(self, message: Message) -> None:
        """Publish a message to its topic again, unchanged; it is durable when this returns."""

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message, which removes it."""
