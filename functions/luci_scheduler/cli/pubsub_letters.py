"""Dead letters on Pub/Sub, or on its emulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.api_core import exceptions
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from luci_scheduler.cli.dead_letter_commands import Letter
from luci_scheduler.cli.session import CommandError, Exit

__all__ = ["PubSubLetters"]

_TIMEOUT = 10.0  # seconds


class PubSubLetters:
    """``Letters`` of a cloud project."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._subscriber: Any = SubscriberClient()
        self._publisher: Any = PublisherClient()

    def subscriptions(self) -> Sequence[str]:
        """Return the short names of all dead-letter subscriptions."""
        try:
            found = list(self._subscriber.list_subscriptions(project=f"projects/{self._project}", timeout=_TIMEOUT))
        except exceptions.GoogleAPICallError as error:
            raise _failed(error) from error
        names = [item.name.rpartition("/")[2] for item in found]
        return sorted(name for name in names if name.endswith("-dead-letter"))

    def pull(self, subscription: str, limit: int) -> Sequence[Letter]:
        """Take up to ``limit`` messages."""
        try:
            reply = self._subscriber.pull(subscription=self._path(subscription), max_messages=limit, timeout=_TIMEOUT)
        except exceptions.DeadlineExceeded:
            return ()  # so an empty subscription answers
        except exceptions.GoogleAPICallError as error:
            raise _failed(error) from error
        return [
            Letter(
                subscription,
                item.ack_id,
                item.message.message_id,
                item.message.publish_time.isoformat(),
                item.message.data,
                dict(item.message.attributes),
            )
            for item in reply.received_messages
        ]

    def give_back(self, letters: Sequence[Letter]) -> None:
        """Let messages come again at once."""
        for letter in letters:
            self._subscriber.modify_ack_deadline(
                subscription=self._path(letter.subscription), ack_ids=[letter.receipt], ack_deadline_seconds=0
            )

    def publish(self, letter: Letter) -> None:
        """Publish a message to its topic, as it was."""
        topic = f"projects/{self._project}/topics/{letter.topic}"
        try:
            self._publisher.publish(topic, letter.data, **letter.own_attributes).result(timeout=_TIMEOUT)
        except (exceptions.GoogleAPICallError, TimeoutError) as error:
            raise _failed(error) from error

    def acknowledge(self, letter: Letter) -> None:
        """Be done with a message."""
        self._subscriber.acknowledge(subscription=self._path(letter.subscription), ack_ids=[letter.receipt])

    def _path(self, subscription: str) -> str:
        return f"projects/{self._project}/subscriptions/{subscription}"


def _failed(error: Exception) -> CommandError:
    match error:
        case exceptions.NotFound():
            return CommandError(f"Pub/Sub: {error.message}", Exit.NOT_FOUND)
        case exceptions.Forbidden() | exceptions.Unauthenticated():
            return CommandError(f"Pub/Sub: {error.message}", Exit.NOT_ALLOWED)
        case _:
            return CommandError(f"Pub/Sub does not answer: {type(error).__name__}", Exit.UNAVAILABLE)
