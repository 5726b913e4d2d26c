"""Topics of a replay on the Pub/Sub emulator: its push subscriptions, which it deletes at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import grpc
from google.api_core import exceptions
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from emulator.topics import PushSubscription

__all__ = ["ReplayTopics"]

_TIMEOUT = 20.0  # seconds; the first call after an emulator's start takes half a second
_ACK_DEADLINE = 600  # seconds, the maximum, so that even on a slow machine nothing is pushed twice


class ReplayTopics:
    """Topics with the scenario's names, and push subscriptions in a project that no other program uses.

    Args:
        address: ``host:port`` of the emulator.
        project: the project of the subscriptions, so that several replays can share an emulator and its topics.
    """

    def __init__(self, address: str, project: str) -> None:
        self._project = project
        self._channel = grpc.insecure_channel(address)
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))
        self._subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self._channel))
        self._subscriptions: list[str] = []

    def subscribe(self, row: PushSubscription, url: str) -> None:
        """Push the messages of a topic to a function's base URL; a missing topic is created."""
        with contextlib.suppress(exceptions.AlreadyExists):
            self._publisher.create_topic(request={"name": row.topic}, timeout=_TIMEOUT)
        subscription = types.Subscription(
            name=f"projects/{self._project}/subscriptions/{row.short}",
            topic=row.topic,
            push_config=types.PushConfig(push_endpoint=row.endpoint(url)),
            ack_deadline_seconds=_ACK_DEADLINE,
        )
        self._subscriber.create_subscription(request=subscription, timeout=_TIMEOUT)
        self._subscriptions.append(subscription.name)

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish a message and return its ID."""
        messages = [{"data": data, "attributes": dict(attributes)}]
        answer = self._publisher.publish(request={"topic": topic, "messages": messages}, timeout=_TIMEOUT)
        return str(answer.message_ids[0])

    def close(self) -> None:
        """Delete the subscriptions and close the connection."""
        for name in self._subscriptions:
            with contextlib.suppress(exceptions.GoogleAPICallError, exceptions.RetryError):  # the emulator may be gone
                self._subscriber.delete_subscription(request={"subscription": name}, timeout=_TIMEOUT)
        self._channel.close()
