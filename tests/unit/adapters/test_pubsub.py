"""The client of the topic of announcements: its request, and how it judges each answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.pubsub import PubsubTopic
from luci_scheduler.core.errors import PermanentError, TransientError
from tests.answering import Answer, answering

TOPIC = "projects/p/topics/invocation-events"


def _error(status: int, code: str) -> Answer:
    return Answer(status, json.dumps({"error": {"code": status, "status": code, "message": "why\nnot"}}).encode())


def test_a_message_is_one_request() -> None:
    """Data in base64, attributes as they are."""
    asked: list[Any] = []
    with answering() as server:

        def answer(_path: str, body: Any) -> Answer:
            asked.append(body)
            return Answer(200, b'{"messageIds": ["1"]}')

        server.otherwise = answer
        PubsubTopic(TOPIC, server.url + "/", sessions(authenticated=False)).publish({"event": "ended"}, b"{}")
    assert server.paths == [f"/v1/{TOPIC}:publish"]
    assert asked == [{"messages": [{"data": base64.b64encode(b"{}").decode(), "attributes": {"event": "ended"}}]}]


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (_error(400, "INVALID_ARGUMENT"), PermanentError, r"INVALID_ARGUMENT: why\\nnot"),
        (_error(403, "PERMISSION_DENIED"), TransientError, "PERMISSION_DENIED"),
        (_error(404, "NOT_FOUND"), TransientError, f"{TOPIC}: NOT_FOUND"),
        (_error(429, "RESOURCE_EXHAUSTED"), TransientError, "RESOURCE_EXHAUSTED"),
        (Answer(400, b"<html>proxy"), TransientError, "HTTP 400"),
        (Answer(200, b"<html>please sign in"), TransientError, "HTTP 200"),
        (Answer(200, b"{}"), TransientError, "HTTP 200"),
        (Answer(302, b"", {"Location": "https://example.com/"}), TransientError, "HTTP 302"),
        (Answer(200, b"x" * 70_000), TransientError, "no answer: TooLargeError"),
        (Answer(500, b'{"error": "odd"}'), TransientError, "HTTP 500"),
    ],
)
def test_only_pubsub_itself_can_refuse_a_message(answer: Answer, error: type[Exception], text: str) -> None:
    """A proxy's answer, a missing grant and a missing topic are tried again; only a bad message is not."""
    with answering(answer) as server, pytest.raises(error, match=text) as caught:
        PubsubTopic(TOPIC, server.url, sessions(authenticated=False)).publish({}, b"{}")
    assert getattr(caught.value, "throttled", False) is (answer.status == 429)
