"""Dead letters on the official Pub/Sub emulator, through the command."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from emulator.official import OfficialEmulator
from luci_scheduler.cli.main import main
from luci_scheduler.cli.messages import Message
from luci_scheduler.cli.pubsub_messages import PubSubMessages

pytestmark = pytest.mark.emulators


@pytest.fixture(name="project")
def _project(pubsub_emulator: OfficialEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A project whose topic has a subscriber and two dead letters."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_emulator.address)
    project = f"p-{uuid.uuid4().hex[:8]}"
    publisher: Any = PublisherClient()
    with SubscriberClient() as subscriber:
        for name in ("gitiles-commit", "gitiles-commit-dead-letter"):
            topic = f"projects/{project}/topics/{name}"
            publisher.create_topic(name=topic)
            subscriber.create_subscription(name=f"projects/{project}/subscriptions/{name}", topic=topic)
        for number in (b"1", b"2"):
            dead = f"projects/{project}/topics/gitiles-commit-dead-letter"
            attributes = {"k": "v", "CloudPubSubDeadLetterSourceDeliveryCount": "20"}
            publisher.publish(dead, number, **attributes).result(timeout=20)
        yield project
    publisher.transport.close()


def _pull(project: str, name: str) -> list[tuple[bytes, dict[str, str]]]:
    with SubscriberClient() as subscriber:
        reply = subscriber.pull(
            subscription=f"projects/{project}/subscriptions/{name}",
            max_messages=10,
            timeout=20,
            return_immediately=True,
        )
    return [(item.message.data, dict(item.message.attributes)) for item in reply.received_messages]


@pytest.mark.filterwarnings("ignore:The return_immediately flag is deprecated:DeprecationWarning")
def test_listed_replayed_and_gone(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Listing keeps the dead letters. Replaying publishes each to its topic once, unchanged."""
    arguments = ["dead-letters", "list", "--cloud-project", project, "--json"]
    for _ in range(2):
        assert main(arguments, {}) == 0
        found = json.loads(capsys.readouterr().out)["deadLetters"]
        assert sorted(item["data"] for item in found) == ["1", "2"]
    seen: list[str] = []
    for _ in range(5):  # the emulator may return only some of the messages at a time
        assert main(["dead-letters", "replay", "--cloud-project", project, "--json"], {}) == 0
        seen += [item["topic"] for item in json.loads(capsys.readouterr().out)["replayed"]]
        if len(seen) == 2:
            break
    assert seen == ["gitiles-commit", "gitiles-commit"]
    assert sorted(_pull(project, "gitiles-commit")) == [(b"1", {"k": "v"}), (b"2", {"k": "v"})]
    assert _pull(project, "gitiles-commit-dead-letter") == []
    assert main(["dead-letters", "list", "--cloud-project", f"{project}-none"], {}) == 0


@pytest.mark.filterwarnings("ignore:The return_immediately flag is deprecated:DeprecationWarning")
def test_attributes_may_have_the_names_of_the_librarys_arguments(project: str) -> None:
    """Publishers may choose any names."""
    attributes = dict.fromkeys(("topic", "data", "ordering_key", "timeout", "retry", "messages"), "5")
    PubSubMessages(project).publish(Message("gitiles-commit-dead-letter", "r", "1", "", b"x", attributes))
    assert _pull(project, "gitiles-commit") == [(b"x", attributes)]
