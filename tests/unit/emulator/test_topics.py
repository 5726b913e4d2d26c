"""The table of topics and subscriptions."""

import socket
from contextlib import closing

import pytest
from google.api_core.exceptions import DeadlineExceeded, GoogleAPICallError, ServiceUnavailable

from emulator.topics import EmulatorPubSub, cloud_builds, subscriptions
from luci_scheduler.budget import BUDGETS

PUBLISHER = "cr-buildbucket@appspot.gserviceaccount.com"
TOPIC = "scheduler.buildbucket.cr-buildbucket~appspot.gserviceaccount.com"


def test_the_table() -> None:
    """There is a topic for commits, and one per publisher for any number of its servers.

    Names are those of the original.
    """
    found = subscriptions("proj", [PUBLISHER, "dev@example.com", PUBLISHER])
    assert [(item.short, item.function) for item in found] == [
        ("gitiles-commit", "on_gitiles_commit"),
        (TOPIC, "on_build_completion"),
        ("scheduler.buildbucket.dev~example.com", "on_build_completion"),
    ]


def test_names_derive_from_the_topic() -> None:
    """Everything of a topic is named after it, in its project; the function sees the topic in the push path."""
    item = subscriptions("proj", [PUBLISHER])[1]
    assert item.topic == f"projects/proj/topics/{TOPIC}"
    assert item.subscription == f"projects/proj/subscriptions/{TOPIC}"
    assert item.dead_letter_topic == f"projects/proj/topics/{TOPIC}-dead-letter"
    assert item.dead_letter_subscription == f"projects/proj/subscriptions/{TOPIC}-dead-letter"
    assert item.endpoint("http://f/") == item.endpoint("http://f") == f"http://f/projects/proj/topics/{TOPIC}"


def test_subscriptions_are_within_the_limits_of_pubsub() -> None:
    """Deadlines, pauses and attempts are within Pub/Sub's limits, and twenty attempts outlast a bad deployment."""
    items = subscriptions("proj", [PUBLISHER])
    assert len(items) == 2
    for item in items:
        assert 10 <= item.ack_deadline_seconds <= 600
        assert 0 <= item.minimum_backoff_seconds <= item.maximum_backoff_seconds <= 600
        assert 20 <= item.max_delivery_attempts <= 100
        pauses = [
            min(item.maximum_backoff_seconds, item.minimum_backoff_seconds << n)
            for n in range(item.max_delivery_attempts)
        ]
        assert sum(pauses) > 3600
        assert len(item.dead_letter_topic.rpartition("/")[2]) <= 255


@pytest.mark.parametrize(("listens", "error"), [(False, ServiceUnavailable), (True, DeadlineExceeded)])
def test_a_message_is_not_retried_without_end(
    monkeypatch: pytest.MonkeyPatch, *, listens: bool, error: type[GoogleAPICallError]
) -> None:
    """The emulator has died, or does not answer."""
    monkeypatch.setattr("emulator.topics._TIMEOUT", 0.5 if listens else 20.0)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        with closing(EmulatorPubSub(f"127.0.0.1:{server.getsockname()[1]}")) as pubsub, pytest.raises(error):
            pubsub.publish("projects/p/topics/t", b"", {})


def test_cloud_build_has_a_topic_if_it_is_wanted() -> None:
    """Messages about starts are left out. The deadline is longer than the function's budget."""
    item = subscriptions("proj", [], cloud_build=True)[-1]
    assert item == cloud_builds("proj")
    assert (item.topic, item.function) == ("projects/proj/topics/cloud-builds", "on_cloud_build")
    assert item.filter == 'attributes.status != "WORKING"'
    assert item.ack_deadline_seconds > BUDGETS["on_cloud_build"]
    assert subscriptions("proj", [])[-1].filter == ""
