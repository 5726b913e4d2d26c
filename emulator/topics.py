"""The topics and push subscriptions of an installation, and the client that creates them on the Pub/Sub emulator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.api_core import exceptions
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.topic_names import topic_names

__all__ = [
    "CLOUD_BUILDS_TOPIC",
    "COMMIT_TOPIC",
    "EmulatorPubSub",
    "PushSubscription",
    "cloud_builds",
    "subscriptions",
]

COMMIT_TOPIC = "gitiles-commit"
CLOUD_BUILDS_TOPIC = "cloud-builds"
_EMULATOR_ATTEMPTS = 100
_TIMEOUT = 20.0  # seconds; the first call after an emulator's start takes half a second


@dataclass(frozen=True, slots=True)
class PushSubscription:
    """A topic with its push subscription and its dead-letter topic; the numbers are those of the cloud.

    With these pauses twenty attempts last about two and a half hours.
    """

    topic: str
    """Full name; the subscription has the same short one."""
    function: str
    ack_deadline_seconds: int
    minimum_backoff_seconds: int = 1
    maximum_backoff_seconds: int = 600
    max_delivery_attempts: int = 20
    left_out: tuple[str, str] | None = None
    """An attribute and its value: messages with it are not delivered."""

    @property
    def project(self) -> str:
        """The project of all its resources."""
        return self.topic.split("/")[1]

    @property
    def short(self) -> str:
        """The topic's short name; the subscription has the same short name."""
        return self.topic.rpartition("/")[2]

    @property
    def subscription(self) -> str:
        """Full name of the subscription."""
        return f"projects/{self.project}/subscriptions/{self.short}"

    @property
    def filter(self) -> str:
        """The filter in Pub/Sub's syntax; empty: all messages are delivered."""
        return f'attributes.{self.left_out[0]} != "{self.left_out[1]}"' if self.left_out else ""

    @property
    def dead_letter_topic(self) -> str:
        """The topic for messages that were refused too often."""
        return f"{self.topic}-dead-letter"

    @property
    def dead_letter_subscription(self) -> str:
        """The pull subscription that keeps dead letters for people."""
        return f"{self.subscription}-dead-letter"

    def endpoint(self, url: str) -> str:
        """Return the push address below a function's base URL; the function reads the topic from the path."""
        return f"{url.rstrip('/')}/{self.topic}"


def subscriptions(project: str, publishers: Sequence[str], *, cloud_build: bool = False) -> list[PushSubscription]:
    """Return the subscriptions of an installation.

    Args:
        project: the cloud project.
        publishers: the e-mails of its Buildbucket servers.
        cloud_build: whether it follows builds of Cloud Build.
    """
    commits = PushSubscription(f"projects/{project}/topics/{COMMIT_TOPIC}", "on_gitiles_commit", 300)
    builds = [
        PushSubscription(topic_names(project, "buildbucket", publisher).topic, "on_build_completion", 120)
        for publisher in dict.fromkeys(publishers)
    ]
    return [commits, *builds, *([cloud_builds(project)] if cloud_build else [])]


def cloud_builds(project: str) -> PushSubscription:
    """Return the subscription of Cloud Build's topic. The start of a build changes nothing, so it is left out."""
    topic = f"projects/{project}/topics/{CLOUD_BUILDS_TOPIC}"
    return PushSubscription(topic, "on_cloud_build", 120, left_out=("status", "WORKING"))


class EmulatorPubSub:
    """A client of the Pub/Sub emulator that ignores the environment. It connects at first use; thread-safe.

    Args:
        address: ``host:port``.
        attempts: the number of failed deliveries after which the emulator makes a message a dead letter, from 5 to 100.
    """

    def __init__(self, address: str, attempts: int = _EMULATOR_ATTEMPTS) -> None:
        self._attempts = attempts
        self._channel = grpc.insecure_channel(address)
        # The plain clients send at once: those of google.cloud.pubsub wait for a batch to fill.
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))
        self._subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self._channel))

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish to a topic (full name) and return the message's ID; the emulator has stored the message by then.

        There is one attempt, of 20 seconds at most: by default the client tries for ten minutes.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: the message was not stored, e.g. ``NotFound`` for an unknown
                topic; or, after the time limit, nothing is known about it.
        """
        message = {"data": data, "attributes": dict(attributes)}
        request = {"topic": topic, "messages": [message]}
        answer = self._publisher.publish(request=request, retry=None, timeout=_TIMEOUT)
        return str(answer.message_ids[0])

    def create_topic(self, topic: str) -> None:
        """Create a topic (full name) without a subscription; an existing one does not change."""
        _ensure(self._publisher.create_topic, {"name": topic})

    def topic_exists(self, topic: str) -> bool:
        """Return whether a topic (full name) exists."""
        try:
            self._publisher.get_topic(request={"topic": topic}, timeout=_TIMEOUT)
        except (exceptions.NotFound, exceptions.InvalidArgument):
            return False
        return True

    def create_topics(self, wanted: Sequence[PushSubscription], urls: Mapping[str, str]) -> None:
        """Create topics, dead-letter topics with a subscription each, and push subscriptions to the base ``urls``.

        Existing ones do not change.
        """
        for item in wanted:
            for topic in (item.topic, item.dead_letter_topic):
                _ensure(self._publisher.create_topic, {"name": topic})
            kept = {"name": item.dead_letter_subscription, "topic": item.dead_letter_topic}
            _ensure(self._subscriber.create_subscription, kept)
            endpoint = item.endpoint(urls[item.function])
            _ensure(self._subscriber.create_subscription, _push_subscription(item, endpoint, self._attempts))

    def drop_backlog(self, wanted: Sequence[PushSubscription], until: int) -> None:
        """Drop the unacknowledged messages published until an instant, and the dead letters."""
        seconds, nanos = divmod(until, SECOND)
        for name in (name for item in wanted for name in (item.subscription, item.dead_letter_subscription)):
            request = {"subscription": name, "time": {"seconds": seconds, "nanos": nanos}}
            self._subscriber.seek(request=request, timeout=_TIMEOUT)

    def has_dead_letter(self, item: PushSubscription) -> bool:
        """Return whether there is a dead letter of a topic; it stays, and is available again at once."""
        name = item.dead_letter_subscription
        request = {"subscription": name, "max_messages": 1, "return_immediately": True}
        ids = [message.ack_id for message in self._subscriber.pull(request=request, timeout=_TIMEOUT).received_messages]
        if ids:
            again = {"subscription": name, "ack_ids": ids, "ack_deadline_seconds": 0}
            self._subscriber.modify_ack_deadline(request=again, timeout=_TIMEOUT)
        return bool(ids)

    def dead_letters(self, item: PushSubscription, at_most: int = 100) -> list[tuple[bytes, Mapping[str, str]]]:
        """Remove up to ``at_most`` dead letters of a topic, and return data and attributes of each."""
        request = {"subscription": item.dead_letter_subscription, "max_messages": at_most, "return_immediately": True}
        pulled = self._subscriber.pull(request=request, timeout=_TIMEOUT).received_messages
        if pulled:
            ids = [message.ack_id for message in pulled]
            self._subscriber.acknowledge(
                request={"subscription": item.dead_letter_subscription, "ack_ids": ids}, timeout=_TIMEOUT
            )
        return [(message.message.data, dict(message.message.attributes)) for message in pulled]

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _ensure(create: Callable[..., Any], request: Any) -> None:
    with contextlib.suppress(exceptions.AlreadyExists):
        create(request=request, timeout=_TIMEOUT)


def _push_subscription(item: PushSubscription, endpoint: str, attempts: int) -> types.Subscription:
    """Return the subscription as the emulator needs it, without the retry policy that it has in the cloud.

    With a retry policy, emulator 0.8.20 indexes refused messages by the millisecond of their next delivery, and finds a
    message only if it is alone in its millisecond. Messages that share a millisecond are postponed again and again.
    This happens when a function dies in a burst: 37 of 300 commits were not redelivered within 100 seconds. Without a
    policy a message is redelivered every second, and a larger number of attempts compensates for the missing pauses.
    """
    return types.Subscription(
        name=item.subscription,
        topic=item.topic,
        push_config=types.PushConfig(push_endpoint=endpoint),
        ack_deadline_seconds=item.ack_deadline_seconds,
        filter=item.filter,
        dead_letter_policy=types.DeadLetterPolicy(
            dead_letter_topic=item.dead_letter_topic, max_delivery_attempts=attempts
        ),
    )
