"""Pub/Sub in memory delivers like the real one: at least once, with pauses, until an acknowledgement."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from emulator.clock import SteppedClock
from emulator.memory_pubsub import MemoryPubSub
from emulator.topics import PushSubscription, subscriptions
from luci_scheduler.core.instants import SECOND
from tests.waiting import until

START = 1_773_756_432 * SECOND
TOPIC = "projects/proj/topics/gitiles-commit"


class Target:
    """A function that keeps its requests and gives the chosen answers."""

    def __init__(self) -> None:
        self.code = 200
        self.seen: list[tuple[str, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["Content-Type"] == "application/json"
                outer.seen.append((self.path, body))
                self.send_response(outer.code)
                if outer.code == 302:
                    self.send_header("Location", "/")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def target() -> Iterator[Target]:
    """A function that accepts everything."""
    started = Target()
    yield started
    started.stop()


@pytest.fixture
def clock() -> SteppedClock:
    """A clock that stands until the test moves it."""
    return SteppedClock(START)


@pytest.fixture
def pubsub(clock: SteppedClock) -> Iterator[MemoryPubSub]:
    """Pub/Sub without topics."""
    made = MemoryPubSub(clock)
    yield made
    made.close()


def commits(**changes: Any) -> PushSubscription:
    return replace(subscriptions("proj", [])[0], **changes)


def test_a_subscription_has_as_many_deliveries_at_once_as_wanted(clock: SteppedClock) -> None:
    """Each runs in a thread of its subscription."""
    made = MemoryPubSub(clock, workers=7)
    before = set(threading.enumerate())
    made.create_topics([commits()], {"on_gitiles_commit": "http://127.0.0.1:9"})
    assert len(set(threading.enumerate()) - before) == 7
    made.close()


def test_a_message_is_pushed_as_the_service_pushes_it(target: Target, pubsub: MemoryPubSub) -> None:
    """The path ends in the topic's name. The body has both spellings of each name, and the attempt."""
    pubsub.create_topics([commits()], {"on_gitiles_commit": target.url})
    pubsub.publish(TOPIC, b"data", {"k": "v"})
    until(lambda: target.seen)
    assert target.seen == [
        (
            f"/{TOPIC}",
            {
                "message": {
                    "data": base64.b64encode(b"data").decode(),
                    "attributes": {"k": "v"},
                    "messageId": "1",
                    "message_id": "1",
                    "publishTime": "2026-03-17T14:07:12Z",
                    "publish_time": "2026-03-17T14:07:12Z",
                },
                "subscription": "projects/proj/subscriptions/gitiles-commit",
                "deliveryAttempt": 1,
            },
        )
    ]


def test_messages_that_a_subscription_leaves_out(target: Target, pubsub: MemoryPubSub) -> None:
    """An attribute with the value is left out; without the attribute, or with another value, a message is delivered."""
    pubsub.create_topics([commits(left_out=("status", "WORKING"))], {"on_gitiles_commit": target.url})
    for number, status in enumerate(["WORKING", "SUCCESS", "WORKING", ""]):
        pubsub.publish(TOPIC, str(number).encode(), {"status": status} if status else {})
    until(lambda: len(target.seen) == 2)
    seen = {base64.b64decode(body["message"]["data"]) for _, body in target.seen}
    assert seen == {b"1", b"3"}


@pytest.mark.parametrize(("data", "attributes", "absent"), [(b"", {"a": "b"}, "data"), (b"x", {}, "attributes")])
def test_empty_fields_are_left_out(
    target: Target, pubsub: MemoryPubSub, data: bytes, attributes: dict[str, str], absent: str
) -> None:
    """The service leaves out empty fields, so functions must not expect them."""
    pubsub.create_topics([commits()], {"on_gitiles_commit": target.url})
    pubsub.publish(TOPIC, data, attributes)
    until(lambda: target.seen)
    assert absent not in target.seen[0][1]["message"]


@pytest.mark.parametrize("code", [200, 201, 202, 204])
def test_an_acknowledged_message_is_not_delivered_again(
    target: Target, pubsub: MemoryPubSub, clock: SteppedClock, code: int
) -> None:
    """An acknowledged message is not delivered again, even much later."""
    target.code = code
    pubsub.create_topics([commits()], {"on_gitiles_commit": target.url})
    pubsub.publish(TOPIC, b"first", {})
    until(lambda: len(target.seen) == 1)
    clock.advance(3600 * SECOND)
    pubsub.publish(TOPIC, b"second", {})
    until(lambda: len(target.seen) == 2)
    assert [body["message"]["messageId"] for _, body in target.seen] == ["1", "2"]


@pytest.mark.parametrize("code", [203, 205, 302, 400, 404, 409, 429, 500, 503])
def test_a_refused_message(target: Target, pubsub: MemoryPubSub, clock: SteppedClock, code: int) -> None:
    """It is delivered again under its ID after the pause, and not before."""
    target.code = code
    pubsub.create_topics([commits()], {"on_gitiles_commit": target.url})
    pubsub.publish(TOPIC, b"x", {})
    until(lambda: len(target.seen) == 1)
    target.code = 200
    advance_until(clock, lambda: len(target.seen) == 2)
    assert [(body["message"]["messageId"], body["deliveryAttempt"]) for _, body in target.seen] == [("1", 1), ("1", 2)]
    assert clock.now() >= START + SECOND


def advance_until(clock: SteppedClock, holds: Callable[[], object]) -> None:
    """Move the clock by tenths of a second until a condition holds."""

    def holds_now() -> object:
        clock.advance(SECOND // 10)
        return holds()

    until(holds_now)


def test_the_pauses_double_up_to_a_limit(target: Target, pubsub: MemoryPubSub, clock: SteppedClock) -> None:
    """They start at one second and end at the limit; then the message is a dead letter."""
    target.code = 500
    item = commits(maximum_backoff_seconds=4, max_delivery_attempts=6)
    pubsub.create_topics([item], {"on_gitiles_commit": target.url})
    pubsub.publish(TOPIC, b"x", {"a": "b"})
    for attempt, pause in enumerate((1, 2, 4, 4, 4), start=1):
        until(lambda attempt=attempt: len(target.seen) == attempt)
        before = clock.now()
        advance_until(clock, lambda attempt=attempt: len(target.seen) > attempt)
        assert clock.now() - before >= pause * SECOND
    letters: list[Any] = []
    until(lambda: letters.extend(pubsub.dead_letters(item)) or letters)
    ((data, attributes),) = letters
    assert data == b"x"
    assert attributes["a"] == "b"
    assert attributes["CloudPubSubDeadLetterSourceSubscription"] == "gitiles-commit"
    assert attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "6"
    assert pubsub.dead_letters(item) == []


def test_no_function_listens_at_first(target: Target, pubsub: MemoryPubSub, clock: SteppedClock) -> None:
    """A refused connection is not an acknowledgment."""
    target.stop()
    pubsub.create_topics([commits()], {"on_gitiles_commit": target.url})
    pubsub.publish(TOPIC, b"x", {})
    other = ThreadingHTTPServer(
        ("127.0.0.1", int(target.url.rpartition(":")[2])), BaseHTTPRequestHandler, bind_and_activate=False
    )
    other.allow_reuse_address = True
    got = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.set()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    other.RequestHandlerClass = Handler
    other.server_bind()
    other.server_activate()
    thread = threading.Thread(target=other.serve_forever, args=(0.01,))
    thread.start()
    try:
        advance_until(clock, got.is_set)
        assert got.is_set()
        assert target.seen == []
    finally:
        other.shutdown()
        other.server_close()
        thread.join()


def test_a_hundred_messages_from_many_threads(target: Target, pubsub: MemoryPubSub) -> None:
    """Each arrives once, under its own ID."""
    pubsub.create_topics([commits()], {"on_gitiles_commit": target.url})
    threads = [threading.Thread(target=lambda: [pubsub.publish(TOPIC, b"x", {}) for _ in range(10)]) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: len(target.seen) >= 100)
    assert sorted(int(body["message"]["messageId"]) for _, body in target.seen) == list(range(1, 101))


def test_dropping_the_backlog(target: Target, pubsub: MemoryPubSub, clock: SteppedClock) -> None:
    """A message that waits for another try is dropped; one published later arrives."""
    target.code = 500
    item = commits()
    pubsub.create_topics([item], {"on_gitiles_commit": target.url})
    pubsub.publish(TOPIC, b"old", {})
    until(lambda: len(target.seen) == 1)
    pubsub.drop_backlog([item], clock.now())
    target.code = 200
    clock.advance(3600 * SECOND)
    pubsub.publish(TOPIC, b"new", {})
    until(lambda: any(body["message"]["messageId"] == "2" for _, body in target.seen))
    assert [body["message"]["messageId"] for _, body in target.seen] == ["1", "2"]


def test_missing_topics(target: Target, pubsub: MemoryPubSub) -> None:
    """Publishing needs a topic and a message. Creating a topic twice changes nothing."""
    for _ in range(2):
        pubsub.create_topics([commits()], {"on_gitiles_commit": target.url})
    assert pubsub.topic_exists(TOPIC)
    assert not pubsub.topic_exists("projects/proj/topics/other")
    with pytest.raises(LookupError, match="no topic projects/proj/topics/other"):
        pubsub.publish("projects/proj/topics/other", b"x", {})
    with pytest.raises(ValueError, match="data or attributes"):
        pubsub.publish(TOPIC, b"", {})
