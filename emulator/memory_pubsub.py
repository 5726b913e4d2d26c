"""Pub/Sub in memory: it pushes each message to a function over HTTP, at least once, as Pub/Sub does."""

from __future__ import annotations

import base64
import heapq
import http.client
import itertools
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.clock import Clock
from emulator.topics import PushSubscription
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339

__all__ = ["MemoryPubSub", "Message"]

_LOG = logging.getLogger(__name__)
_ACKNOWLEDGED = frozenset({102, 200, 201, 202, 204})
_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Message:
    """A published message; ``published`` is an instant."""

    id: str
    data: bytes
    attributes: Mapping[str, str]
    published: int


class _Refusals(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects: a redirect is an answer that does not acknowledge."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Subscription:
    """A subscription: its waiting messages, and the threads that deliver them."""

    def __init__(
        self, row: PushSubscription, endpoint: str, clock: Clock, dead_letters: list[Message], workers: int
    ) -> None:
        self._row = row
        self._endpoint = endpoint
        self._clock = clock
        self._dead_letters = dead_letters
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Refusals)
        self._due: list[tuple[int, int, int, Message]] = []
        self._sequence = itertools.count()
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._stopped = False
        self._epoch = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"push-{row.short}-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, message: Message) -> None:
        """Deliver a message as soon as possible, unless the subscription leaves it out."""
        left_out = self._row.left_out
        if left_out is not None and message.attributes.get(left_out[0]) == left_out[1]:
            return
        self._push(message.published, 1, message)

    def clear(self) -> None:
        """Drop the waiting messages; running deliveries are not repeated."""
        with self._lock:
            self._due.clear()
            self._epoch += 1

    def stop(self) -> None:
        """Stop delivering messages; running deliveries finish."""
        self._stopped = True
        self._woken.set()
        for thread in self._threads:
            thread.join(timeout=1)

    def _push(self, due: int, attempt: int, message: Message) -> None:
        with self._lock:
            heapq.heappush(self._due, (due, next(self._sequence), attempt, message))
        self._woken.set()

    def _run(self) -> None:
        while not self._stopped:
            self._woken.clear()
            with self._lock:
                now = self._clock.now()
                taken = heapq.heappop(self._due) if self._due and self._due[0][0] <= now else None
                wake_at = self._due[0][0] if self._due else now + 3600 * SECOND
                epoch = self._epoch
            if taken is None:
                if self._stopped:
                    return
                self._clock.wait_until(wake_at, self._woken)
                continue
            self._woken.set()  # another thread may have missed the event while this thread held it
            _, _, attempt, message = taken
            if not self._deliver(message, attempt) and epoch == self._epoch:
                self._again(message, attempt)

    def _deliver(self, message: Message, attempt: int) -> bool:
        body = json.dumps(self._body(message, attempt)).encode()
        request = urllib.request.Request(self._endpoint, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310 - a function on this machine
        try:
            with self._opener.open(request, timeout=self._row.ack_deadline_seconds) as answer:
                answer.read()
                return answer.status in _ACKNOWLEDGED
        except urllib.error.HTTPError as error:
            error.close()
            return error.code in _ACKNOWLEDGED
        except (OSError, http.client.HTTPException) as error:
            _LOG.info("%s did not accept message %s: %s", self._endpoint, message.id, error)
            return False

    def _again(self, message: Message, attempt: int) -> None:
        if attempt >= self._row.max_delivery_attempts:
            source = {
                "CloudPubSubDeadLetterSourceDeliveryCount": str(attempt),
                "CloudPubSubDeadLetterSourceSubscription": self._row.short,
                "CloudPubSubDeadLetterSourceSubscriptionProject": self._row.project,
            }
            self._dead_letters.append(
                Message(message.id, message.data, {**message.attributes, **source}, message.published)
            )
            return
        pause = min(self._row.maximum_backoff_seconds, self._row.minimum_backoff_seconds << (attempt - 1))
        self._push(self._clock.now() + pause * SECOND, attempt + 1, message)

    def _body(self, message: Message, attempt: int) -> dict[str, Any]:
        published = format_rfc3339(Instant(message.published))
        wire: dict[str, Any] = {
            "messageId": message.id,
            "message_id": message.id,
            "publishTime": published,
            "publish_time": published,
        }
        if message.data:
            wire["data"] = base64.b64encode(message.data).decode()
        if message.attributes:
            wire["attributes"] = dict(message.attributes)
        return {"message": wire, "subscription": self._row.subscription, "deliveryAttempt": attempt}


class MemoryPubSub:
    """Topics and push subscriptions; messages live as long as this object. Thread-safe.

    The status codes 102, 200, 201, 202 and 204 acknowledge a message. Any other answer, or none within the ack deadline
    (in real time), repeats it after a pause that doubles each time (on the clock), until the message is a dead letter.

    Args:
        clock: measures the pauses.
        workers: the number of deliveries of a subscription at once.
    """

    def __init__(self, clock: Clock, workers: int = _WORKERS) -> None:
        self._clock = clock
        self._workers = workers
        self._subscriptions: dict[str, _Subscription] = {}
        self._dead_letters: dict[str, list[Message]] = {}
        self._unread: set[str] = set()
        """The topics without a subscription."""
        self._ids = itertools.count(1)

    def create_topics(self, wanted: Sequence[PushSubscription], urls: Mapping[str, str]) -> None:
        """Create topics and push subscriptions to the functions' base ``urls``; existing ones are left alone."""
        for item in wanted:
            if item.topic not in self._subscriptions:
                dead = self._dead_letters[item.topic] = []
                endpoint = item.endpoint(urls[item.function])
                self._subscriptions[item.topic] = _Subscription(item, endpoint, self._clock, dead, self._workers)

    def create_topic(self, topic: str) -> None:
        """Create a topic (full name) without a subscription: its messages are dropped."""
        self._unread.add(topic)

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish to a topic (full name) and return the message's ID.

        Raises:
            LookupError: there is no such topic.
            ValueError: neither data nor attributes.
        """
        subscription = self._subscriptions.get(topic)
        if subscription is None and topic not in self._unread:
            raise LookupError(f"there is no topic {topic}")
        if not data and not attributes:
            raise ValueError("a message has data or attributes")
        message = Message(str(next(self._ids)), data, dict(attributes), self._clock.now())
        if subscription is not None:
            subscription.put(message)
        return message.id

    def topic_exists(self, topic: str) -> bool:
        """Return whether a topic (full name) exists."""
        return topic in self._subscriptions or topic in self._unread

    def dead_letters(self, item: PushSubscription, at_most: int = 100) -> list[tuple[bytes, Mapping[str, str]]]:
        """Remove up to ``at_most`` dead letters of a topic, and return data and attributes of each."""
        letters = self._dead_letters[item.topic]
        taken = letters[:at_most]
        del letters[:at_most]
        return [(message.data, message.attributes) for message in taken]

    def has_dead_letter(self, item: PushSubscription) -> bool:
        """Return whether there is a dead letter of a topic; it stays."""
        return bool(self._dead_letters[item.topic])

    def drop_backlog(self, wanted: Sequence[PushSubscription], until: int) -> None:  # noqa: ARG002 - as the emulator's; here all goes
        """Drop the waiting messages and the dead letters."""
        for item in wanted:
            self._subscriptions[item.topic].clear()
            self._dead_letters[item.topic].clear()

    def close(self) -> None:
        """Stop delivering."""
        for subscription in self._subscriptions.values():
            subscription.stop()
