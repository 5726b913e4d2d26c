"""The webhook's function as deployed: gunicorn answers before a refused body arrives, and Pub/Sub gets the event."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from emulator.supervisor import FunctionProcess
from tests.answering import Answer, Answering, answering
from tests.pushes import SECRET, delivery, payload

_TOPIC = "projects/p/topics/gitiles-commit"
_SECONDS = 60.0  # a busy machine takes seconds to answer


@pytest.fixture(scope="module", name="pubsub")
def _pubsub() -> Iterator[Answering]:
    with answering() as server:
        yield server


@pytest.fixture(scope="module", name="port")
def _port(pubsub: Answering) -> Iterator[int]:
    environment = {
        "SCHEDULER_GITHUB_WEBHOOK_SECRETS": f"the secret before it,{SECRET}",
        "SCHEDULER_COMMIT_TOPIC": _TOPIC,
        "SCHEDULER_PUBSUB_URL": pubsub.url,
        "SCHEDULER_LOCAL": "true",
        "THREADS": "4",
    }
    process = FunctionProcess("on_github_push", environment, signature="http")
    process.start()
    try:
        process.wait_until_ready()
        yield process.port
    finally:
        process.stop()


def _send(port: int, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, str]:
    """Send a request with exactly these bytes of a body, and return the status and the body of the answer."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as connection:
        connection.sendall(f"POST /github HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.partition(b"\r\n\r\n")[2]:
            part = connection.recv(4096)
            if not part:
                break
            answer += part
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), text.decode()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"X-Hub-Signature-256": ""}, 401),
        ({"X-Hub-Signature-256": "sha1=0"}, 401),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Length": "26214401"}, 413),
    ],
)
def test_an_answer_comes_before_the_body(port: int, changes: Mapping[str, str], expected: int) -> None:
    """The sender announces a body and sends none of it."""
    code, _ = _send(port, {"Content-Length": "5000", **delivery(b""), **changes})
    assert code == expected


def test_a_push_reaches_the_topic(port: int, pubsub: Answering) -> None:
    """The second secret signs it, and the real client of Pub/Sub sends it."""
    asked: list[Any] = []

    def answer(path: str, body: Any) -> Answer:
        asked.append((path, body))
        return Answer(200, b'{"messageIds": ["1"]}')

    pubsub.otherwise = answer
    body = json.dumps(payload({"pushed_at": int(time.time())})).encode()
    assert _send(port, {"Content-Length": str(len(body)), **delivery(body)}, body) == (200, "OK\n")
    ((path, published),) = asked
    assert path == f"/v1/{_TOPIC}:publish"
    assert json.loads(base64.b64decode(published["messages"][0]["data"]))["ref"] == "refs/heads/main"
    pubsub.otherwise = lambda *_: Answer(500)
    body += b" "  # another delivery
    assert _send(port, {"Content-Length": str(len(body)), **delivery(body)}, body)[0] == 503
