"""Topics and subscriptions of an installation, as one table, and how they are made in a Pub/Sub emulator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.api_core import exceptions
from google.protobuf import duration_pb2
from google.pubsub_v1 import PublisherClient, SubscriberClient, types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from luci_scheduler.core.topic_names import topic_names

__all__ = [
    "COMMIT_TOPIC",
    "Publisher",
    "PushSubscription",
    "create_topics",
    "drop_backlog",
    "push_endpoint",
    "topic_table",
]

COMMIT_TOPIC = "gitiles-commit"
_TIMEOUT = 20.0  # seconds; an emulator that has just started needs half a second for its first call


@dataclass(frozen=True, slots=True)
class PushSubscription:
    """A topic, the function that its messages are pushed to, and where they end up if that never takes them.

    The numbers are those of the installation in the cloud. 20 attempts with these pauses are about two and a half hours.
    """

    topic: str
    """Short name; the subscription's is the same."""
    function: str
    ack_deadline_seconds: int = 300
    """How long a delivery may take; what does not fit into half of it goes to the task queue."""
    minimum_backoff_seconds: int = 1
    maximum_backoff_seconds: int = 600
    max_delivery_attempts: int = 20

    @property
    def dead_letter_topic(self) -> str:
        """Short name of the topic for what was never taken, and of the pull subscription that keeps it for people."""
        return f"{self.topic}.dead-letter"

    def path(self, project: str) -> str:
        """Return the full name of the topic."""
        return f"projects/{project}/topics/{self.topic}"


def topic_table(publishers: Iterable[str]) -> tuple[PushSubscription, ...]:
    """Return the table of an installation whose Buildbucket servers publish as ``publishers`` (e-mails; repeated ones count once)."""
    names = [topic_names("-", "buildbucket", publisher).topic.rpartition("/")[2] for publisher in publishers]
    builds = tuple(PushSubscription(name, "on_build_completion") for name in dict.fromkeys(names))
    return (PushSubscription(COMMIT_TOPIC, "on_gitiles_commit"), *builds)


def push_endpoint(url: str, topic: str) -> str:
    """Return where messages of a topic (full name) are pushed to: its name in the path lets functions know it."""
    return f"{url.rstrip('/')}/{topic}"


def create_topics(host: str, project: str, table: Sequence[PushSubscription], functions: Mapping[str, str]) -> None:
    """Make all topics and subscriptions; what is there already is left as it is.

    Args:
        host: ``host:port`` of the emulator.
        project: the project they belong to.
        table: which.
        functions: base URL of each function.
    """
    with _clients(host) as (publisher, subscriber):
        for row in table:
            endpoint = push_endpoint(functions[row.function], row.path(project))
            dead = f"projects/{project}/topics/{row.dead_letter_topic}"
            _ensure(lambda name=dead: publisher.create_topic(name=name, timeout=_TIMEOUT))
            _ensure(lambda name=row.path(project): publisher.create_topic(name=name, timeout=_TIMEOUT))
            kept = types.Subscription(name=dead.replace("/topics/", "/subscriptions/"), topic=dead)
            _ensure(lambda request=kept: subscriber.create_subscription(request=request, timeout=_TIMEOUT))
            pushed = _subscription(row, project, endpoint, dead)
            _ensure(lambda request=pushed: subscriber.create_subscription(request=request, timeout=_TIMEOUT))


def drop_backlog(host: str, project: str, table: Sequence[PushSubscription], until: int) -> None:
    """Forget all messages that were published until an instant (nanoseconds) and are not acknowledged, dead letters too."""
    seconds, nanos = divmod(until, 1_000_000_000)
    with _clients(host) as (_, subscriber):
        for name in (name for row in table for name in (row.topic, row.dead_letter_topic)):
            path = f"projects/{project}/subscriptions/{name}"
            subscriber.seek(
                request={"subscription": path, "time": {"seconds": seconds, "nanos": nanos}}, timeout=_TIMEOUT
            )


class Publisher:
    """Publishes at once, one message per call, to the emulator at ``host``; thread-safe."""

    def __init__(self, host: str) -> None:
        self._channel = grpc.insecure_channel(host)
        self._client = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))

    def publish(self, topic: str, data: bytes, attributes: dict[str, str]) -> None:
        """Publish to ``projects/P/topics/T``; when this returns the message will be delivered.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: it is not published, e.g. ``NotFound`` for an unknown topic.
        """
        message = types.PubsubMessage(data=data, attributes=attributes)
        self._client.publish(topic=topic, messages=[message], timeout=_TIMEOUT)

    def topic_exists(self, topic: str) -> bool:
        """Tell whether the topic (full name) exists."""
        try:
            self._client.get_topic(topic=topic, timeout=_TIMEOUT)
        except (exceptions.NotFound, exceptions.InvalidArgument):
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


@contextlib.contextmanager
def _clients(host: str) -> Any:
    with grpc.insecure_channel(host) as channel:
        yield (
            PublisherClient(transport=PublisherGrpcTransport(channel=channel)),
            SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)),
        )


def _ensure(create: Any) -> None:
    with contextlib.suppress(exceptions.AlreadyExists):
        create()


def _subscription(row: PushSubscription, project: str, endpoint: str, dead: str) -> types.Subscription:
    return types.Subscription(
        name=f"projects/{project}/subscriptions/{row.topic}",
        topic=row.path(project),
        push_config=types.PushConfig(push_endpoint=endpoint),
        ack_deadline_seconds=row.ack_deadline_seconds,
        retry_policy=types.RetryPolicy(
            minimum_backoff=duration_pb2.Duration(seconds=row.minimum_backoff_seconds),
            maximum_backoff=duration_pb2.Duration(seconds=row.maximum_backoff_seconds),
        ),
        dead_letter_policy=types.DeadLetterPolicy(
            dead_letter_topic=dead, max_delivery_attempts=row.max_delivery_attempts
        ),
    )
