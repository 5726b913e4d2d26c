"""Dead letters through the command."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from luci_scheduler.cli import dead_letter_commands
from luci_scheduler.cli.dead_letter_commands import Letter
from luci_scheduler.cli.main import main
from luci_scheduler.cli.session import Exit

COMMITS = "gitiles-commit-dead-letter"
ADDED = {"CloudPubSubDeadLetterSourceDeliveryCount": "20", "CloudPubSubDeadLetterSourceSubscription": "gitiles-commit"}


class FakeLetters:
    """Subscriptions in memory; what was pulled is away until it is given back or acknowledged."""

    def __init__(self) -> None:
        data = json.dumps({"buildPubsub": {}, "userData": "canary-token"}).encode()
        self.waiting = [
            Letter(COMMITS, "r1", "1", "2026-03-01T12:00:00", b"{}", ADDED),
            Letter(
                COMMITS,
                "r2",
                "2",
                "2026-03-01T12:00:01",
                b"not json",
                {**ADDED, "auth_token": "canary-token", "k": "v"},
            ),
            Letter("builds-dead-letter", "r3", "3", "2026-03-01T12:00:02", data, ADDED),
        ]
        self.out: list[Letter] = []
        self.events: list[tuple[str, str]] = []
        self.project = ""

    def subscriptions(self) -> Sequence[str]:
        return sorted({letter.subscription for letter in self.waiting})

    def pull(self, subscription: str, limit: int) -> Sequence[Letter]:
        found = [letter for letter in self.waiting if letter.subscription == subscription][:limit]
        self.waiting = [letter for letter in self.waiting if letter not in found]
        self.out += found
        return found

    def give_back(self, letters: Sequence[Letter]) -> None:
        self.waiting += letters

    def publish(self, letter: Letter) -> None:
        self.events.append(("publish", letter.id))
        assert letter.own_attributes == {
            name: text for name, text in letter.attributes.items() if name in ("k", "auth_token")
        }

    def acknowledge(self, letter: Letter) -> None:
        self.events.append(("acknowledge", letter.id))


@pytest.fixture(name="letters")
def _letters(monkeypatch: pytest.MonkeyPatch) -> FakeLetters:
    fake = FakeLetters()
    monkeypatch.setattr(dead_letter_commands, "open_letters", lambda _project: fake)
    return fake


def _run(*arguments: str) -> int:
    return main(["dead-letters", *arguments, "--cloud-project", "p"], {})


def test_listing_acknowledges_nothing_and_shows_no_token(
    letters: FakeLetters, capsys: pytest.CaptureFixture[str]
) -> None:
    """All subscriptions; every message waits again."""
    assert _run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["builds", "3"],
        ["gitiles-commit", "1"],
        ["gitiles-commit", "2"],
    ]
    assert len(letters.waiting) == 3
    assert letters.events == []
    assert _run("list", "--json", "--subscription", COMMITS, "--limit", "1") == 0
    (found,) = json.loads(capsys.readouterr().out)["deadLetters"]
    assert (found["topic"], found["attributes"]) == ("gitiles-commit", ADDED)
    assert _run("list", "--json") == 0
    assert "canary-token" not in capsys.readouterr().out + "".join(lines)


def test_replay_publishes_before_it_acknowledges(letters: FakeLetters, capsys: pytest.CaptureFixture[str]) -> None:
    """One subscription, as many as told."""
    assert _run("replay", "--subscription", f"projects/p/subscriptions/{COMMITS}", "--limit", "5") == 0
    assert letters.events == [("publish", "1"), ("acknowledge", "1"), ("publish", "2"), ("acknowledge", "2")]
    assert "1 published to gitiles-commit" in capsys.readouterr().out
    assert [letter.id for letter in letters.waiting] == ["3"]


def test_only_dead_letters_are_replayed(letters: FakeLetters) -> None:
    """Another subscription's messages are not taken from it."""
    assert _run("replay", "--subscription", "gitiles-commit") == Exit.WRONG_USAGE
    assert _run("list", "--limit", "0") == Exit.WRONG_USAGE
    assert letters.events == letters.out == []


def test_without_the_client_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """An optional extra."""
    monkeypatch.setitem(sys.modules, "luci_scheduler.cli.pubsub_letters", None)
    assert _run("list") == 1
    assert "serverless-luci-scheduler[cli]" in capsys.readouterr().err
