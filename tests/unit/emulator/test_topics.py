"""The table of topics and subscriptions."""

from emulator.topics import subscriptions

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
    for item in subscriptions("proj", [PUBLISHER]):
        assert 10 <= item.ack_deadline_seconds <= 600
        assert 0 <= item.minimum_backoff_seconds <= item.maximum_backoff_seconds <= 600
        assert 20 <= item.max_delivery_attempts <= 100
        pauses = [
            min(item.maximum_backoff_seconds, item.minimum_backoff_seconds << n)
            for n in range(item.max_delivery_attempts)
        ]
        assert sum(pauses) > 3600
        assert len(item.dead_letter_topic.rpartition("/")[2]) <= 255
