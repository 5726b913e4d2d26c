"""The notifier: events, faults, delays and retries, with messages in memory."""

import base64
import json
import random
import zlib
from typing import Any

import pytest

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import Build, BuildSpec, Callback, Outcome
from emulator.buildbucket.identifiers import BuilderId, Era
from emulator.buildbucket.large_fields import compressed_large_fields
from emulator.buildbucket.notifications import NotificationEffect, NotificationFault, v2_message
from emulator.buildbucket.plans import Announce, Manual
from emulator.buildbucket.service import Service
from emulator.buildbucket.testing import MemoryPublisher
from emulator.clock import SteppedClock
from luci_scheduler.core.instants import SECOND

START = 1_700_000_000 * SECOND
TOPIC = "projects/my-project/topics/t"
DEFAULT_TOKEN = "token"


class World:
    """A service whose notifications stay in memory."""

    def __init__(self) -> None:
        self.clock = SteppedClock(START)
        self.publisher = MemoryPublisher()
        self.service = Service(self.clock, random.Random(1), self.publisher, "bb.example", Manual())  # noqa: S311
        self.notifier = self.service.notifier

    def create(self, era: Era = "v2", builder: str = "linux", token: str = DEFAULT_TOKEN) -> Build:
        """Create a build with a callback, without announcing it."""
        callback = Callback(TOPIC, token.encode()) if era == "v2" else Callback(TOPIC, b"data", token)
        build, _ = self.service.store.create(
            BuildSpec(era, BuilderId("p", "ci", builder), "project:p", BuilderConfig(), callback=callback)
        )
        return build

    def fault(self, effect: NotificationEffect, **fields: Any) -> None:
        """Add a fault."""
        self.notifier.add_fault(NotificationFault(effect, **fields))

    def announce(self, build: Build, event: Any = "started", announce: Announce | None = None) -> None:
        """Announce an event of a build."""
        self.notifier.announce(build, event, announce or Announce())

    def tokens(self) -> list[str]:
        """Return the tokens of the published messages."""
        return [base64.b64decode(message.json().get("userData", "")).decode() for message in self.publisher.messages]


@pytest.fixture
def world() -> World:
    """A world without builds."""
    return World()


@pytest.mark.parametrize(("era", "events"), [("v2", ["created", "started", "ended"]), ("v1", ["started", "ended"])])
def test_the_announced_events_of_each_api(world: World, era: Era, events: list[str]) -> None:
    build = world.create(era)
    for event in ("created", "started", "ended"):
        before = len(world.publisher.messages)
        world.announce(build, event)
        assert (len(world.publisher.messages) > before) == (event in events)


def test_a_build_without_a_callback_is_silent(world: World) -> None:
    build, _ = world.service.store.create(BuildSpec("v2", BuilderId("p", "ci", "x"), "c", BuilderConfig()))
    world.announce(build)
    assert world.publisher.messages == []


def test_a_message_shows_the_build_at_its_publication(world: World) -> None:
    build = world.create()
    world.announce(build, announce=Announce(delay=SECOND))
    world.service.store.end(build.id, START, Outcome("FAILURE"))
    world.clock.advance(SECOND)
    world.service.timeline.run_due()
    (message,) = world.publisher.messages
    assert message.json()["buildPubsub"]["build"]["status"] == "FAILURE"
    assert message.attributes == {
        "project": "p", "bucket": "ci", "builder": "linux", "is_completed": "true", "version": "v2",
    }  # fmt: skip


def test_a_v1_message_has_its_token_in_an_attribute(world: World) -> None:
    build = world.create("v1")
    world.announce(build)
    (message,) = world.publisher.messages
    assert message.attributes == {"build_id": str(build.id), "auth_token": "token"}
    assert message.json()["user_data"] == "data"
    assert message.json()["hostname"] == "bb.example"
    assert b"\n" not in message.data


def test_the_legacy_format_of_v2_builds(world: World) -> None:
    build = world.create()
    world.notifier.legacy_format = True
    world.announce(build)
    (message,) = world.publisher.messages
    assert (message.json()["user_data"], message.attributes) == ("token", {"build_id": str(build.id)})


@pytest.mark.parametrize(
    ("effect", "value", "at_once", "later"),
    [("drop", 0, 0, 0), ("duplicate", 0, 2, 2), ("duplicate", 3, 4, 4), ("delay", SECOND, 0, 1), ("hold", 0, 0, 0)],
)
def test_the_number_of_messages_under_a_fault(
    world: World, effect: NotificationEffect, value: int, at_once: int, later: int
) -> None:
    world.fault(effect, value=value)
    world.announce(world.create())
    assert len(world.publisher.messages) == at_once
    world.clock.advance(SECOND)
    world.service.timeline.run_due()
    assert len(world.publisher.messages) == later


def test_a_held_message_follows_the_next_one(world: World) -> None:
    first, second = world.create(token="first"), world.create(token="second")
    world.fault("hold")
    world.announce(first)
    world.announce(second)
    assert world.tokens() == ["second", "first"]


def test_clearing_the_faults_publishes_held_messages(world: World) -> None:
    world.fault("hold", times=None)
    world.announce(world.create())
    assert world.tokens() == []
    world.notifier.clear_faults()
    assert world.tokens() == ["token"]


@pytest.mark.parametrize(
    ("effect", "tokens"),
    [
        ("wrong_token", ["other", "this-is-not-the-token"]),
        ("missing_token", ["other", ""]),
        ("foreign_token", ["other", "other"]),
    ],
)
def test_a_replaced_token(world: World, effect: NotificationEffect, tokens: list[str]) -> None:
    world.announce(world.create(token="other"))
    world.fault(effect)
    world.announce(world.create())
    assert world.tokens() == tokens


def test_without_another_build_a_foreign_token_is_refused(world: World) -> None:
    world.fault("foreign_token")
    world.announce(world.create())
    assert world.tokens() == ["this-is-not-the-token"]


def test_a_fault_matches_events_and_builders(world: World) -> None:
    world.fault("drop", event="end*", builder="p/*/mac", times=None)
    linux, mac = world.create(), world.create(builder="mac", token="mac")
    for build in (linux, mac):
        world.announce(build, "started")
        world.announce(build, "ended")
    assert world.tokens() == ["token", "token", "mac"]


def test_faults_add_up_and_are_used_up(world: World) -> None:
    world.fault("duplicate")
    world.fault("duplicate", value=2, times=2)
    for _ in range(3):
        world.announce(world.create())
    assert len(world.publisher.messages) == 4 + 3 + 1


@pytest.mark.parametrize(("event", "published"), [("created", 0), ("started", 0), ("ended", 1)])
def test_only_the_end_is_published_again_after_a_failure(
    world: World, event: str, published: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.publisher.failures = 3
    build = world.create()
    world.announce(build, event)
    assert f"publishing that build {build.id} has {event} failed" in caplog.text
    world.clock.advance(1 + 2 + 4 * SECOND)
    for _ in range(5):
        world.clock.advance(4 * SECOND)
        world.service.timeline.run_due()
    assert len(world.publisher.messages) == published


def test_the_end_is_abandoned_after_ten_attempts(world: World) -> None:
    world.publisher.failures = 10
    world.announce(world.create(), "ended")
    for _ in range(12):
        world.clock.advance(1024 * SECOND)
        world.service.timeline.run_due()
    assert (world.publisher.messages, world.publisher.failures) == ([], 0)


class TestLargeFields:
    """The compressed fields of a v2 message."""

    def test_they_are_a_compressed_binary_build(self) -> None:
        step = {
            "name": "s",
            "startTime": "1970-01-01T00:00:01Z",
            "endTime": "1970-01-01T00:00:02Z",
            "status": "SUCCESS",
        }
        binary = zlib.decompress(compressed_large_fields({"a": "b"}, {}, [step]))
        assert binary == (
            bytes([15 << 3 | 2, 12, 1 << 3 | 2, 10, 1 << 3 | 2, 8, 10, 1]) + b"a" + bytes([18, 3, 26, 1]) + b"b"
            b"\x82\x01\x00"
            b"\x8a\x01\x0d\x0a\x01s\x12\x02\x08\x01\x1a\x02\x08\x02\x20\x0c"
        )

    def test_an_output_is_always_present(self) -> None:
        assert zlib.decompress(compressed_large_fields({}, {}, [])) == b"\x82\x01\x00"

    def test_large_fields_beyond_the_limit_are_dropped(self, world: World) -> None:
        build = world.create()
        callback = build.spec.callback
        assert callback is not None
        body = json.loads(v2_message(build, callback, "h", limit=1).data)["buildPubsub"]
        assert body["buildLargeFieldsDropped"] is True
        assert "buildLargeFields" not in body
