"""Messages about builds, and their way to Pub/Sub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Message", "Publisher"]


class Publisher(Protocol):
    """A Pub/Sub client with the service's account."""

    def publish(self, topic: str, data: bytes, attributes: dict[str, str]) -> object:
        """Publish one message to ``projects/P/topics/T``; raise an exception on failure.

        The return value is ignored.
        """

    def topic_exists(self, topic: str) -> bool:
        """Return whether the topic exists and the service may publish to it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message for the publisher."""

    data: bytes
    attributes: dict[str, str]
