"""``luci-scheduler dead-letters``: messages that were refused too often, looked at and published again.

They wait in pull subscriptions called ``TOPIC-dead-letter``. The client of Pub/Sub comes with the extra ``cli``; it speaks to
the emulator where ``PUBSUB_EMULATOR_HOST`` says so, as all of Google's clients do.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from luci_scheduler.cli.session import CommandError, Exit, show_table

__all__ = ["Letter", "Letters", "add_commands", "open_letters"]

_SUFFIX = "-dead-letter"
_ADDED = "CloudPubSubDeadLetterSource"
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of a dead-letter subscription."""

    subscription: str
    """Short name."""
    receipt: str
    """What it is acknowledged by."""
    id: str
    published: str
    data: bytes
    attributes: Mapping[str, str]

    @property
    def topic(self) -> str:
        """Short name of the topic that it came from."""
        return self.subscription.removesuffix(_SUFFIX)

    @property
    def own_attributes(self) -> dict[str, str]:
        """Its attributes as they were published, without those that Pub/Sub added when it gave up."""
        return {name: value for name, value in self.attributes.items() if not name.startswith(_ADDED)}


class Letters(Protocol):
    """What is needed of Pub/Sub."""

    def subscriptions(self) -> Sequence[str]:
        """Return the short names of all dead-letter subscriptions."""

    def pull(self, subscription: str, limit: int) -> Sequence[Letter]:
        """Take up to ``limit`` messages; they come again unless they are acknowledged."""

    def give_back(self, letters: Sequence[Letter]) -> None:
        """Let messages come again at once."""

    def publish(self, letter: Letter) -> None:
        """Publish a message to its topic, as it was; it is durable when this returns."""

    def acknowledge(self, letter: Letter) -> None:
        """Be done with a message."""


def add_commands(nouns: Any) -> None:
    """Add ``dead-letters`` to the parser of nouns."""
    verbs = nouns.add_parser("dead-letters", help="messages that were refused too often").add_subparsers(
        metavar="VERB", required=True
    )
    for name, told, run in (
        ("list", "what waits, with its topic and age; nothing is acknowledged", _list),
        ("replay", "publish each message to its topic again, as it was, and acknowledge it then", _replay),
    ):
        parser = verbs.add_parser(name, help=told)
        parser.add_argument("--cloud-project", required=True, metavar="PROJECT", help="the cloud project")
        parser.add_argument(
            "--subscription", default="", help="one subscription (default: all called TOPIC-dead-letter)"
        )
        parser.add_argument(
            "--limit", type=int, default=10, metavar="N", help="how many of each (default: %(default)s)"
        )
        parser.set_defaults(run=run, offline=True)


def open_letters(project: str) -> Letters:
    """Return the dead letters of a cloud project.

    Raises:
        CommandError: the client of Pub/Sub is not installed.
    """
    try:
        from luci_scheduler.cli.pubsub_messages import PubSubLetters  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        raise CommandError(
            "dead letters need the client of Pub/Sub: pip install 'serverless-luci-scheduler[cli]'"
        ) from error
    return PubSubLetters(project)


def _list(options: argparse.Namespace) -> int:
    letters = open_letters(options.cloud_project)
    found = [letter for name in _names(letters, options) for letter in _looked_at(letters, name, options.limit)]
    if options.json:
        _write(json.dumps({"deadLetters": [_document(letter) for letter in found]}, indent=2))
        return Exit.DONE
    rows = [
        [
            letter.topic,
            letter.id,
            letter.published,
            letter.attributes.get(f"{_ADDED}DeliveryCount", "-"),
            _text(letter)[:_SHOWN],
        ]
        for letter in found
    ]
    _write(show_table(["TOPIC", "MESSAGE", "PUBLISHED", "ATTEMPTS", "DATA"], rows) if rows else "no dead letters")
    return Exit.DONE


def _looked_at(letters: Letters, name: str, limit: int) -> Sequence[Letter]:
    found = letters.pull(name, limit)
    letters.give_back(found)
    return found


def _replay(options: argparse.Namespace) -> int:
    letters = open_letters(options.cloud_project)
    replayed = []
    for name in _names(letters, options):
        for letter in letters.pull(name, options.limit):
            letters.publish(letter)  # a crash between the two replays it twice, which does no harm
            letters.acknowledge(letter)
            replayed.append(letter)
    if options.json:
        _write(json.dumps({"replayed": [{"topic": letter.topic, "id": letter.id} for letter in replayed]}, indent=2))
    else:
        _write("\n".join(f"{letter.id} published to {letter.topic}" for letter in replayed) or "no dead letters")
    return Exit.DONE


def _names(letters: Letters, options: argparse.Namespace) -> Sequence[str]:
    if options.limit < 1:
        raise CommandError("--limit must be at least 1", Exit.WRONG_USAGE)
    name = options.subscription.rpartition("/")[2]
    if name and not name.endswith(_SUFFIX):
        raise CommandError(f"a dead-letter subscription is called TOPIC{_SUFFIX}, not {name}", Exit.WRONG_USAGE)
    return [name] if name else letters.subscriptions()


def _document(letter: Letter) -> dict[str, Any]:
    return {
        "topic": letter.topic,
        "id": letter.id,
        "published": letter.published,
        "attributes": {name: _hidden(name, value) for name, value in letter.attributes.items()},
        "data": _text(letter),
    }


def _hidden(name: str, value: str) -> str:
    return "..." if "token" in name.lower() else value


def _text(letter: Letter) -> str:
    """Return the data for people; a v2 notification carries its token in ``userData``, which is not shown."""
    text = letter.data.decode(errors="replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # what nobody can read is what ends up here
        return text
    if isinstance(document, dict):
        document = {name: "..." if name in ("userData", "user_data") else item for name, item in document.items()}
    return json.dumps(document)


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
