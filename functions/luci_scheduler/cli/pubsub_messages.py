"""Dead letters in Pub/Sub or its emulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1 import PublisherClient as PlainClient

from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.messages import SUBSCRIPTION_SUFFIX, Message

__all__ = ["PubSubMessages"]

_TIMEOUT = 10.0  # seconds


class _PlainPublisher(PublisherClient):  # type: ignore[misc]
    """Publishes a request unchanged; the library's own ``publish`` would misread an attribute named ``topic``."""

    def publish(self, **request: Any) -> Any:
        """Publish at once, without batching."""
        return PlainClient.publish(self, **request)


class PubSubMessages:
    """Messages of a cloud project; every failure raises ``CommandError`` without a retry."""

    def __init__(self, project: str) -> None:
        self._project = project
        with _failures():
            self._subscriber: Any = SubscriberClient()
            self._publisher: Any = _PlainPublisher()
        self._topics: dict[str, str] = {}
        """Short name of a push subscription → full name of its topic."""

    def subscriptions(self) -> Sequence[str]:
        """Return the short names of all dead-letter subscriptions."""
        project = f"projects/{self._project}"
        with _failures():
            found = list(self._subscriber.list_subscriptions(project=project, retry=None, timeout=_TIMEOUT))
        names = [item.name.rpartition("/")[2] for item in found]
        return sorted(name for name in names if name.endswith(SUBSCRIPTION_SUFFIX))

    def pull(self, subscription: str, limit: int) -> Sequence[Message]:
        """Pull up to ``limit`` messages."""
        path = self._path(subscription)
        with _failures():
            try:
                reply = self._subscriber.pull(subscription=path, max_messages=limit, retry=None, timeout=_TIMEOUT)
            except exceptions.DeadlineExceeded:
                return ()  # an empty subscription answers like this
        return [
            Message(
                subscription,
                item.ack_id,
                item.message.message_id,
                item.message.publish_time.isoformat(),
                item.message.data,
                dict(item.message.attributes),
            )
            for item in reply.received_messages
        ]

    def give_back(self, messages: Sequence[Message]) -> None:
        """Make messages available again at once."""
        for message in messages:
            with _failures():
                self._subscriber.modify_ack_deadline(
                    subscription=self._path(message.subscription),
                    ack_ids=[message.receipt],
                    ack_deadline_seconds=0,
                    retry=None,
                    timeout=_TIMEOUT,
                )

    def publish(self, message: Message) -> None:
        """Publish a message to its topic again, unchanged."""
        topic = self._topic(message.topic)
        with _failures():
            published = {"data": message.data, "attributes": dict(message.own_attributes)}
            self._publisher.publish(request={"topic": topic, "messages": [published]}, retry=None, timeout=_TIMEOUT)

    def _topic(self, subscription: str) -> str:
        """Return the full name of a push subscription's topic, which Cloud Build has in the project of the builds.

        If the caller may not read the subscription, its topic is taken to be in this project, with the same name.
        """
        if subscription not in self._topics:
            with _failures():
                try:
                    path = self._path(subscription)
                    found = self._subscriber.get_subscription(subscription=path, retry=None, timeout=_TIMEOUT).topic
                except (exceptions.NotFound, exceptions.Forbidden):
                    found = f"projects/{self._project}/topics/{subscription}"
            self._topics[subscription] = found
        return self._topics[subscription]

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message, which removes it."""
        path = self._path(message.subscription)
        with _failures():
            self._subscriber.acknowledge(subscription=path, ack_ids=[message.receipt], retry=None, timeout=_TIMEOUT)

    def _path(self, subscription: str) -> str:
        return f"projects/{self._project}/subscriptions/{subscription}"


@contextmanager
def _failures() -> Iterator[None]:
    """Turn the client's errors into the command's own error of one line."""
    try:
        yield
    except (exceptions.GoogleAPIError, GoogleAuthError, TimeoutError) as error:
        raise _failed(error) from error


def _failed(error: Exception) -> CommandError:
    match error:
        case exceptions.NotFound():
            return CommandError(f"Pub/Sub: {_one_line(error.message)}", Exit.NOT_FOUND)
        case exceptions.Forbidden() | exceptions.Unauthenticated():
            return CommandError(f"Pub/Sub: {_one_line(error.message)}", Exit.NOT_ALLOWED)
        case GoogleAuthError() if not isinstance(error, TransportError):
            text = (
                "no valid credentials for Pub/Sub: run `gcloud auth application-default login`, "
                "or set PUBSUB_EMULATOR_HOST for a local cloud"
            )
            return CommandError(f"{text} ({type(error).__name__})", Exit.NOT_ALLOWED)
        case _:
            return CommandError(f"no answer from Pub/Sub: {type(error).__name__}", Exit.UNAVAILABLE)


def _one_line(text: str) -> str:
    return " ".join(text.split())
