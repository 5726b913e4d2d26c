"""The topic of announcements in memory: it keeps the messages in their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["MemoryTopic"]


class MemoryTopic:
    """``ports.Topic`` that keeps the published messages."""

    def __init__(self) -> None:
        self.messages: list[tuple[Mapping[str, str], dict[str, Any]]] = []
        """Attributes and data of each message."""
        self.before_publish: Callable[[], None] = lambda: None
        """Called before each message is kept; it may raise an error."""
        self.after_publish: Callable[[], None] = lambda: None

    def publish(self, attributes: Mapping[str, str], data: bytes) -> None:
        """Keep a message."""
        self.before_publish()
        self.messages.append((dict(attributes), json.loads(data)))
        self.after_publish()
