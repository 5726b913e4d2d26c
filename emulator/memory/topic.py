"""The topic of announcements in memory: it keeps the messages in their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from luci_scheduler.core.errors import PermanentError

__all__ = ["MemoryTopic"]

_MOST_ATTRIBUTES, _LONGEST_KEY, _LONGEST_VALUE = 100, 256, 1024
"""Pub/Sub's limits of a message's attributes ("Quotas and limits"); lengths in bytes. The official emulator has none
of them."""
_MAX_BYTES = 10_000_000


class MemoryTopic:
    """``ports.Topic`` that keeps the published messages. It refuses the messages that Pub/Sub refuses."""

    def __init__(self) -> None:
        self.published: list[tuple[Mapping[str, str], bytes]] = []
        """Attributes and data of each message."""
        self.before_publish: Callable[[], None] = lambda: None
        """Called before each message is kept; it may raise an error."""
        self.after_publish: Callable[[], None] = lambda: None

    @property
    def messages(self) -> list[tuple[Mapping[str, str], dict[str, Any]]]:
        """Attributes and data of each message, which must be JSON."""
        return [(attributes, json.loads(data)) for attributes, data in self.published]

    def publish(self, attributes: Mapping[str, str], data: bytes) -> None:
        """Keep a message.

        Raises:
            PermanentError: it is empty or too large.
        """
        self.before_publish()
        if problem := _problem(attributes, data):
            raise PermanentError(f"the topic refuses the message: {problem}")
        self.published.append((dict(attributes), data))
        self.after_publish()


def _problem(attributes: Mapping[str, str], data: bytes) -> str:
    """Return why Pub/Sub refuses a message; empty if it does not."""
    if not attributes and not data:
        return "it is empty"
    if len(attributes) > _MOST_ATTRIBUTES:
        return f"it has {len(attributes)} attributes, at most {_MOST_ATTRIBUTES} are allowed"
    if any(len(k.encode()) > _LONGEST_KEY or len(v.encode()) > _LONGEST_VALUE for k, v in attributes.items()):
        return f"a name has more than {_LONGEST_KEY} bytes, or a value more than {_LONGEST_VALUE}"
    return "it has more than 10 MB" if len(data) > _MAX_BYTES else ""
