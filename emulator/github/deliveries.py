"""Signed webhooks: their headers, their delivery, and their redelivery."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import random
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import requests

from luci_scheduler.adapters.http import Deadline, answer_to, sessions
from luci_scheduler.core.errors import TransientError

__all__ = ["HOOK_ID", "Deliveries", "Delivery", "Webhook", "signatures"]

HOOK_ID = 480_001
SECONDS = 10.0
"""How long GitHub waits for an answer."""

_KEPT = 1_000
_AGENT = "GitHub-Hookshot/1a2b3c4"


@dataclass(frozen=True, slots=True)
class Webhook:
    """The webhook of all repositories: the address that gets the events, and the secret that signs them."""

    url: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that was sent.

    Attributes:
        id: the GUID, which a redelivery keeps.
        event: ``push`` or ``ping``.
        url: the address.
        repository_id: the number of the repository.
        body: the JSON text.
        status: the HTTP status of the answer; 0 without an answer.
        answer: the beginning of the answer, or the reason why there is none.
        is_redelivery: whether it was sent before.
    """

    id: str
    event: str
    url: str
    repository_id: int
    body: str
    status: int = 0
    answer: str = ""
    is_redelivery: bool = False

    def headers(self, secret: str) -> dict[str, str]:
        """Return the headers, with the signatures of the body."""
        return {
            "Accept": "*/*",
            "Content-Type": "application/json",
            "User-Agent": _AGENT,
            "X-GitHub-Delivery": self.id,
            "X-GitHub-Event": self.event,
            "X-GitHub-Hook-ID": str(HOOK_ID),
            "X-GitHub-Hook-Installation-Target-ID": str(self.repository_id),
            "X-GitHub-Hook-Installation-Target-Type": "repository",
            **signatures(secret, self.body.encode()),
        }


def signatures(secret: str, body: bytes) -> dict[str, str]:
    """Return the headers with the SHA-1 and the SHA-256 signature of a body."""
    key = secret.encode()
    return {
        "X-Hub-Signature": f"sha1={hmac.new(key, body, hashlib.sha1).hexdigest()}",
        "X-Hub-Signature-256": f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}",
    }


class Deliveries:
    """Sends events from a thread, one after another, and keeps the latest 1,000. Thread-safe.

    GitHub does not retry: a failed event waits for `redeliver`. Without a webhook nothing is sent.

    Args:
        entropy: makes the GUIDs.
        delivered: gets each delivery with its outcome.
        seconds: the time limit of one delivery, from the connection to the answer's last byte.
    """

    def __init__(self, entropy: random.Random, delivered: Callable[[Delivery], None], seconds: float = SECONDS) -> None:
        self.webhook: Webhook | None = None
        self._entropy = entropy
        self._delivered = delivered
        self._seconds = seconds
        self._session = sessions(authenticated=False)
        self._queue: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._done: deque[Delivery] = deque(maxlen=_KEPT)
        self._waiting = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Send events from now on, also the events that were queued before."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="github-webhooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the delivery that runs, and leave the others unsent; a no-op if nothing runs."""
        if self._thread is not None:
            self._stopping.set()
            self._queue.put(None)
            self._thread.join(timeout=2 * self._seconds)
            self._thread = None
            with self._lock:
                self._queue, self._waiting = queue.SimpleQueue(), 0

    def send(self, event: str, repository_id: int, payload: Mapping[str, Any]) -> Delivery | None:
        """Queue an event and return it; None without a webhook."""
        hook = self.webhook
        if hook is None:
            return None
        with self._lock:
            identifier = str(uuid.UUID(int=self._entropy.getrandbits(128), version=4))
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
        delivery = Delivery(identifier, event, hook.url, repository_id, body)
        self._enqueue(delivery)
        return delivery

    def redeliver(self, identifier: str) -> None:
        """Queue a delivery again, with the same GUID and body.

        Raises:
            ValueError: no delivery has this ID.
        """
        found = next((one for one in reversed(self.all()) if one.id == identifier), None)
        if found is None:
            raise ValueError(f"no delivery {identifier}")
        self._enqueue(replace(found, status=0, answer="", is_redelivery=True))

    def all(self) -> list[Delivery]:
        """Return the latest deliveries that have an outcome, the oldest first."""
        with self._lock:
            return list(self._done)

    @property
    def is_idle(self) -> bool:
        """Whether every event has its outcome."""
        with self._lock:
            return self._waiting == 0

    def clear(self) -> None:
        """Forget the deliveries."""
        with self._lock:
            self._done.clear()

    def _enqueue(self, delivery: Delivery) -> None:
        with self._lock:
            self._waiting += 1
        self._queue.put(delivery)

    def _run(self) -> None:
        while (delivery := self._queue.get()) is not None and not self._stopping.is_set():
            done = self._deliver(delivery)
            self._delivered(done)
            with self._lock:
                self._done.append(done)
                self._waiting -= 1

    def _deliver(self, delivery: Delivery) -> Delivery:
        hook = self.webhook
        if hook is None:
            return replace(delivery, answer="the webhook was removed")
        try:
            headers, deadline = delivery.headers(hook.secret), Deadline(self._seconds)
            answer = answer_to(
                self._session(), "POST", hook.url, deadline, data=delivery.body.encode(), headers=headers
            )
            answer.close()
        except (requests.RequestException, TransientError) as error:
            return replace(delivery, url=hook.url, answer=type(error).__name__)
        return replace(delivery, url=hook.url, status=answer.status_code, answer=answer.reason)
