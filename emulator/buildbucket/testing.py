"""Helpers for tests with the Buildbucket server."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass
from typing import Any

import requests

__all__ = ["GUARD", "MemoryPublisher", "Published", "ScriptedEntropy", "call_prpc", "prpc_json"]

GUARD = ")]}'\n"
_SERVICE = "/prpc/buildbucket.v2.Builds/"
_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Published:
    """A published message."""

    topic: str
    data: bytes
    attributes: dict[str, str]

    def json(self) -> Any:
        """Return the decoded data."""
        return json.loads(self.data)


class MemoryPublisher:
    """Keeps published messages.

    Attributes:
        messages: the published messages.
        missing: the topics that do not exist.
        failures: how many of the next publications fail.
    """

    def __init__(self) -> None:
        self.messages: list[Published] = []
        self.missing: set[str] = set()
        self.failures = 0
        self._lock = threading.Lock()

    def publish(self, topic: str, data: bytes, attributes: dict[str, str]) -> None:
        """Keep a message, or raise ConnectionError while ``failures`` is positive."""
        with self._lock:
            if self.failures:
                self.failures -= 1
                raise ConnectionError("publishing fails on purpose")
            self.messages.append(Published(topic, data, attributes))

    def topic_exists(self, topic: str) -> bool:
        """Return whether a topic exists."""
        return topic not in self.missing


class ScriptedEntropy(random.Random):
    """A random source: ``getrandbits`` returns the numbers of ``bits`` in order, then numbers from a fixed seed."""

    def __init__(self, *bits: int) -> None:
        super().__init__(0)
        self._bits = list(bits)

    def getrandbits(self, k: int) -> int:
        """Return the next scripted number, or ``k`` random bits."""
        return self._bits.pop(0) if getattr(self, "_bits", None) else super().getrandbits(k)


def call_prpc(
    url: str, method: str, body: Any, *, caller: str = "project:tint", headers: dict[str, str] | None = None
) -> requests.Response:
    """Call a v2 method in JSON as ``caller``; ``url`` is the server's URL.

    A header of None removes a default header.
    """
    sent = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Authorization": f"Bearer fake:{caller}",
        **(headers or {}),
    }
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    return requests.post(f"{url}{_SERVICE}{method}", data=data, headers=sent, timeout=_TIMEOUT_SECONDS)


def prpc_json(response: requests.Response) -> Any:
    """Return the message of a successful reply.

    Raises:
        AssertionError: the call failed; the text contains the reply.
    """
    if response.status_code != requests.codes.ok or not response.text.startswith(GUARD):
        raise AssertionError(f"{response.status_code} {response.text}")
    return json.loads(response.text.removeprefix(GUARD))
