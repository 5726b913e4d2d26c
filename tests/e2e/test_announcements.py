"""Announcements on the official Pub/Sub emulator: its REST API takes the message, and its subscription pushes it."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from emulator.announcements import create_events_topic, events_topic
from emulator.local_cloud import LocalCloud
from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.pubsub import PubsubTopic
from luci_scheduler.core.errors import TransientError
from tests.answering import Answer, answering
from tests.waiting import until

pytestmark = [pytest.mark.emulators, pytest.mark.timeout(120)]


def test_the_official_emulator_takes_and_pushes_an_announcement(cloud: LocalCloud) -> None:
    """Attributes and data arrive as they were published; an unknown topic is a transient error."""
    url, session, got = f"http://{cloud.pubsub_address}", sessions(authenticated=False), list[Any]()

    def receive(_: str, body: Any) -> Answer:
        got.append(body["message"])
        return Answer(200)

    with answering() as server:
        server.otherwise = receive
        create_events_topic(replace(cloud.options, events=server.url + "/events"), cloud.pubsub)
        PubsubTopic(events_topic(cloud.project), url, session).publish({"event": "ended"}, b'{"schema": 1}')
        until(lambda: got, "the push of the message")
        assert server.paths[0] == "/events"
    assert (got[0]["attributes"], base64.b64decode(got[0]["data"])) == ({"event": "ended"}, b'{"schema": 1}')
    with pytest.raises(TransientError, match="NOT_FOUND"):
        PubsubTopic(f"projects/{cloud.project}/topics/missing", url, session).publish({}, b"x")
