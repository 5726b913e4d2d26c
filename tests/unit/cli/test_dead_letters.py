"""Dead letters through the command."""

import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.exceptions import RefreshError, TransportError

from emulator.options import Options
from luci_scheduler.cli import dead_letter_commands
from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.main import main
from luci_scheduler.cli.messages import Message
from luci_scheduler.cli.pubsub_messages import PubSubMessages

COMMITS = "gitiles-commit-dead-letter"
ADDED = {"CloudPubSubDeadLetterSourceDeliveryCount": "20", "CloudPubSubDeadLetterSourceSubscription": "gitiles-commit"}


class FakeMessages:
    """Subscriptions in memory; pulled messages are away until they are given back or acknowledged."""

    def __init__(self) -> None:
        data = json.dumps({"buildPubsub": {}, "userData": "canary-token"}).encode()
        self.waiting = [
            Message(COMMITS, "r1", "1", "2026-03-01T12:00:00", b"{}", ADDED),
            Message(
                COMMITS,
                "r2",
                "2",
                "2026-03-01T12:00:01",
                b"not json",
                {**ADDED, "auth_token": "canary-token", "k": "v"},
            ),
            Message("builds-dead-letter", "r3", "3", "2026-03-01T12:00:02", data, ADDED),
        ]
        self.out: list[Message] = []
        self.events: list[tuple[str, str]] = []
        self.project = ""

    def subscriptions(self) -> Sequence[str]:
        return sorted({message.subscription for message in self.waiting})

    def pull(self, subscription: str, limit: int) -> Sequence[Message]:
        found = [message for message in self.waiting if message.subscription == subscription][:limit]
        self.waiting = [message for message in self.waiting if message not in found]
        self.out += found
        return found

    def give_back(self, messages: Sequence[Message]) -> None:
        self.waiting += messages

    def publish(self, message: Message) -> None:
        self.events.append(("publish", message.id))
        assert message.own_attributes == {
            name: text for name, text in message.attributes.items() if name in ("k", "auth_token")
        }

    def acknowledge(self, message: Message) -> None:
        self.events.append(("acknowledge", message.id))


@pytest.fixture(name="messages")
def _messages(monkeypatch: pytest.MonkeyPatch) -> FakeMessages:
    fake = FakeMessages()
    monkeypatch.setattr(dead_letter_commands, "open_messages", lambda _project: fake)
    return fake


def _run(*arguments: str) -> int:
    return main(["dead-letters", *arguments, "--cloud-project", "p"], {})


def test_listing_acknowledges_nothing_and_shows_no_token(
    messages: FakeMessages, capsys: pytest.CaptureFixture[str]
) -> None:
    """All subscriptions are listed; every message becomes available again."""
    assert _run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["builds", "3"],
        ["gitiles-commit", "1"],
        ["gitiles-commit", "2"],
    ]
    assert len(messages.waiting) == 3
    assert messages.events == []
    assert _run("list", "--json", "--subscription", COMMITS, "--limit", "1") == 0
    (found,) = json.loads(capsys.readouterr().out)["deadLetters"]
    assert (found["topic"], found["attributes"]) == ("gitiles-commit", ADDED)
    assert _run("list", "--json") == 0
    assert "canary-token" not in capsys.readouterr().out + "".join(lines)


def test_replay_publishes_before_it_acknowledges(messages: FakeMessages, capsys: pytest.CaptureFixture[str]) -> None:
    """One subscription is listed, up to the limit."""
    assert _run("replay", "--subscription", f"projects/p/subscriptions/{COMMITS}", "--limit", "5") == 0
    assert messages.events == [("publish", "1"), ("acknowledge", "1"), ("publish", "2"), ("acknowledge", "2")]
    assert "1 published to gitiles-commit" in capsys.readouterr().out
    assert [message.id for message in messages.waiting] == ["3"]


def test_only_dead_letters_are_replayed(messages: FakeMessages) -> None:
    """A replay takes no messages from a subscription that has another name."""
    assert _run("replay", "--subscription", "gitiles-commit") == Exit.WRONG_USAGE
    assert _run("list", "--limit", "0") == Exit.WRONG_USAGE
    assert messages.events == messages.out == []


def test_without_the_client_the_command_names_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The client is an optional extra."""
    monkeypatch.setitem(sys.modules, "luci_scheduler.cli.pubsub_messages", None)
    assert _run("list") == 1
    assert "serverless-luci-scheduler[cli]" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["list", "replay"])
def test_without_credentials_there_is_one_line(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client fails while it is created."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert _run(verb) == Exit.NOT_ALLOWED
    message = capsys.readouterr().err
    assert "gcloud auth application-default login" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("options", [[], ["--subscription", COMMITS]])
@pytest.mark.parametrize("verb", ["list", "replay"])
def test_an_unreachable_pubsub_gives_one_line(
    verb: str, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A closed port refuses at once; the command does not retry for a minute."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{_closed_port()}")
    assert _run(verb, *options) == Exit.UNAVAILABLE
    message = capsys.readouterr().err
    assert "no answer from Pub/Sub" in message
    assert len(message.splitlines()) == 1


def _closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


class _Broken:
    """A Pub/Sub client whose every call fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise self._error

        return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exceptions.NotFound("no such subscription"), Exit.NOT_FOUND),
        (exceptions.PermissionDenied("not yours"), Exit.NOT_ALLOWED),
        (exceptions.Unauthenticated("who?"), Exit.NOT_ALLOWED),
        (RefreshError("reauthentication is needed\nand more"), Exit.NOT_ALLOWED),
        (TransportError("no way there"), Exit.UNAVAILABLE),
        (exceptions.ServiceUnavailable("down"), Exit.UNAVAILABLE),
        (exceptions.RetryError("Timeout of 60.0s exceeded", None), Exit.UNAVAILABLE),
        (TimeoutError(), Exit.UNAVAILABLE),
    ],
)
def test_pubsub_errors_have_exit_codes(error: Exception, code: Exit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of the client fails with one line."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    messages = PubSubMessages("p")
    monkeypatch.setattr(messages, "_subscriber", _Broken(error))
    monkeypatch.setattr(messages, "_publisher", _Broken(error))
    message = Message(COMMITS, "r", "1", "", b"", {})
    for call in (
        messages.subscriptions,
        lambda: messages.pull(COMMITS, 1),
        lambda: messages.give_back([message]),
        lambda: messages.publish(message),
        lambda: messages.acknowledge(message),
    ):
        with pytest.raises(CommandError) as raised:
            call()
        assert raised.value.code == code
        assert "\n" not in str(raised.value)


def test_unreadable_messages_are_listed_unchanged() -> None:
    """Unreadable messages are the usual dead letters."""
    deep = b"[" * 100_000
    assert dead_letter_commands._text(Message(COMMITS, "r", "1", "", deep, {})) == deep.decode()


def test_a_local_cloud_needs_the_address_of_its_pubsub(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Advice about gcloud would be wrong there: a local cloud takes no credentials."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    assert main(["dead-letters", "list", "--cloud-project", "local-0a1b2c3d"], {}) == Exit.WRONG_USAGE
    said = capsys.readouterr().err
    assert "local-0a1b2c3d is the project of a local cloud: set PUBSUB_EMULATOR_HOST" in said
    assert "gcloud" not in said
    assert Options().project.startswith(dead_letter_commands._LOCAL_PROJECT)


class Clients:
    """Pub/Sub's two clients, with the topic of one subscription."""

    def __init__(self, topic: str | Exception) -> None:
        self.published: list[str] = []
        self.asked: list[str] = []
        self._topic = topic

    def get_subscription(self, subscription: str, **_: Any) -> Any:
        self.asked.append(subscription)
        if isinstance(self._topic, Exception):
            raise self._topic
        return SimpleNamespace(topic=self._topic)

    def publish(self, request: Any, **_: Any) -> None:
        self.published.append(request["topic"])


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("projects/builds/topics/cloud-builds", "projects/builds/topics/cloud-builds"),
        (exceptions.PermissionDenied("no"), "projects/p/topics/a-cloud-builds-builds"),
        (exceptions.NotFound("no"), "projects/p/topics/a-cloud-builds-builds"),
    ],
)
def test_a_replay_goes_to_the_topic_of_the_subscription(
    monkeypatch: pytest.MonkeyPatch, topic: str | Exception, expected: str
) -> None:
    """Cloud Build's topic is in the project of the builds, and never has a prefix. It is read once."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:9")
    messages, clients = PubSubMessages("p"), Clients(topic)
    messages._subscriber = messages._publisher = clients
    for number in "12":
        messages.publish(Message("a-cloud-builds-builds-dead-letter", "r", number, "", b"x", ADDED))
    assert clients.published == [expected] * 2
    assert clients.asked == ["projects/p/subscriptions/a-cloud-builds-builds"]
