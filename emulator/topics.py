"""Topics and push subscriptions of an installation, in one table; and who publishes to them locally."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions
from google.pubsub_v1 import types

from luci_scheduler.core.topic_names import topic_names

__all__ = ["COMMIT_TOPIC", "Publisher", "PushSubscription", "clients", "create", "subscriptions"]

COMMIT_TOPIC = "gitiles-commit"
_DEAD_LETTER_ATTEMPTS = 20
_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class PushSubscription:
    """A topic with its push subscription and its dead-letter topic."""

    topic: str
    """Full name."""
    function: str
    ack_deadline_seconds: int
    minimum_backoff_seconds: int
    maximum_backoff_seconds: int

    @property
    def project(self) -> str:
        """The project of all its resources."""
        return self.topic.split("/")[1]

    @property
    def short(self) -> str:
        """The topic's short name; the subscription has it too."""
        return self.topic.rpartition("/")[2]

    @property
    def dead_letter_topic(self) -> str:
        """Where messages go that were refused too often."""
        return f"{self.topic}-dead-letter"


def subscriptions(project: str, publishers: Sequence[str]) -> list[PushSubscription]:
    """Return everything that an installation subscribes to; ``publishers`` are the e-mails of its Buildbucket servers."""
    commits = PushSubscription(f"projects/{project}/topics/{COMMIT_TOPIC}", "on_gitiles_commit", 300, 1, 600)
    builds = [
        PushSubscription(topic_names(project, "buildbucket", publisher).topic, "on_build_completion", 120, 1, 600)
        for publisher in dict.fromkeys(publishers)
    ]
    return [commits, *builds]


class Publisher:
    """Publishes to the Pub/Sub emulator, each message at once."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """Publish a message and wait until the emulator has it."""
        self._client.publish(
            request={"topic": topic, "messages": [{"data": data, "attributes": dict(attributes)}]}, timeout=_TIMEOUT
        )

    def topic_exists(self, topic: str) -> bool:
        """Whether a topic exists."""
        try:
            self._client.get_topic(request={"topic": topic}, timeout=_TIMEOUT)
        except exceptions.NotFound:
            return False
        return True


def create(publisher: Any, subscriber: Any, wanted: Sequence[PushSubscription], urls: Mapping[str, str]) -> None:
    """Create topics, dead-letter topics with a subscription each, and push subscriptions to the functions' ``urls``."""
    for item in wanted:
        for topic in (item.topic, item.dead_letter_topic):
            publisher.create_topic(request={"name": topic}, timeout=_TIMEOUT)
        path = f"projects/{item.project}/subscriptions/{item.short}"
        subscriber.create_subscription(
            request={"name": f"{path}-dead-letter", "topic": item.dead_letter_topic}, timeout=_TIMEOUT
        )
        backoff = {"minimum_backoff": item.minimum_backoff_seconds, "maximum_backoff": item.maximum_backoff_seconds}
        subscriber.create_subscription(
            request=types.Subscription(
                name=path,
                topic=item.topic,
                push_config=types.PushConfig(
                    push_endpoint=f"{urls[item.function]}/projects/{item.project}/topics/{item.short}"
                ),
                ack_deadline_seconds=item.ack_deadline_seconds,
                retry_policy=types.RetryPolicy(**{name: {"seconds": value} for name, value in backoff.items()}),
                dead_letter_policy=types.DeadLetterPolicy(
                    dead_letter_topic=item.dead_letter_topic, max_delivery_attempts=_DEAD_LETTER_ATTEMPTS
                ),
            ),
            timeout=_TIMEOUT,
        )


def clients(address: str) -> tuple[Any, Any]:
    """Return the raw publisher and subscriber of the emulator at ``host:port``."""
    import grpc  # noqa: PLC0415 - the clients take a channel
    from google.pubsub_v1.services.publisher import PublisherClient  # noqa: PLC0415
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport  # noqa: PLC0415
    from google.pubsub_v1.services.subscriber import SubscriberClient  # noqa: PLC0415
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport  # noqa: PLC0415

    channel = grpc.insecure_channel(address)
    publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
    return publisher, SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
