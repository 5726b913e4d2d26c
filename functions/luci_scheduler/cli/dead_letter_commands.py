"""``luci-scheduler dead-letters``: list dead letters, and publish them again.

Dead letters are messages that were refused too often. Pull subscriptions named ``TOPIC-dead-letter`` keep them. The
extra ``cli`` installs the Pub/Sub client, which uses the emulator if ``PUBSUB_EMULATOR_HOST`` is set, like all of
Google's clients.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.messages import ADDED_PREFIX, SUBSCRIPTION_SUFFIX, Message, MessageSource
from luci_scheduler.cli.tables import plain, show_table

__all__ = ["add_commands", "open_messages"]

_SHOWN = 60
_EMULATOR = "PUBSUB_EMULATOR_HOST"  # Google's clients read it
_LOCAL_PROJECT = "local-"  # how the names of local clouds begin (`emulator.options`)


def add_commands(nouns: Any) -> None:
    """Add ``dead-letters`` to the parser."""
    verbs = nouns.add_parser("dead-letters", help="list or replay messages that were refused too often").add_subparsers(
        metavar="VERB", required=True
    )
    for name, summary, run in (
        ("list", "list the messages with topic and age; acknowledge none of them", _list),
        ("replay", "publish each message to its topic again, unchanged, then acknowledge it", _replay),
    ):
        parser = verbs.add_parser(name, help=summary)
        parser.add_argument("--cloud-project", required=True, metavar="PROJECT", help="the cloud project")
        parser.add_argument(
            "--subscription", default="", help="the subscription (default: all that are named TOPIC-dead-letter)"
        )
        parser.add_argument(
            "--limit",
            type=int,
            default=10,
            metavar="N",
            help="the largest number of messages of each subscription (default: %(default)s)",
        )
        parser.set_defaults(run=run, offline=True)


def open_messages(project: str) -> MessageSource:
    """Return the dead letters of a cloud project.

    Raises:
        CommandError: the Pub/Sub client is not installed, or the project is local and its Pub/Sub is not named.
    """
    if project.startswith(_LOCAL_PROJECT) and not os.environ.get(_EMULATOR):
        raise CommandError(
            f"{plain(project)} is the project of a local cloud: set {_EMULATOR} to the address of Pub/Sub that "
            "`luci-scheduler local up` prints; a local cloud in memory keeps no dead letters",
            Exit.WRONG_USAGE,
        )
    try:
        from luci_scheduler.cli.pubsub_messages import PubSubMessages  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        raise CommandError(
            "dead letters need the Pub/Sub client: pip install 'serverless-luci-scheduler[cli]'"
        ) from error
    return PubSubMessages(project)


def _list(options: argparse.Namespace) -> int:
    messages = open_messages(options.cloud_project)
    found = [message for name in _subscriptions(messages, options) for message in _peek(messages, name, options.limit)]
    if options.json:
        _write(json.dumps({"deadLetters": [_document(message) for message in found]}, indent=2))
        return Exit.DONE
    rows = [
        [
            message.topic,
            message.id,
            message.published,
            message.attributes.get(f"{ADDED_PREFIX}DeliveryCount", "-"),
            _text(message)[:_SHOWN],
        ]
        for message in found
    ]
    _write(show_table(["TOPIC", "MESSAGE", "PUBLISHED", "ATTEMPTS", "DATA"], rows) if rows else "no dead letters")
    return Exit.DONE


def _peek(messages: MessageSource, name: str, limit: int) -> Sequence[Message]:
    found = messages.pull(name, limit)
    messages.give_back(found)
    return found


def _replay(options: argparse.Namespace) -> int:
    messages = open_messages(options.cloud_project)
    replayed = []
    for name in _subscriptions(messages, options):
        for message in messages.pull(name, options.limit):
            messages.publish(message)  # a crash between the two calls replays the message again, which is harmless
            messages.acknowledge(message)
            replayed.append(message)
    if options.json:
        _write(json.dumps({"replayed": [{"topic": message.topic, "id": message.id} for message in replayed]}, indent=2))
    else:
        _write("\n".join(f"{message.id} published to {message.topic}" for message in replayed) or "no dead letters")
    return Exit.DONE


def _subscriptions(messages: MessageSource, options: argparse.Namespace) -> Sequence[str]:
    if options.limit < 1:
        raise CommandError("--limit must be at least 1", Exit.WRONG_USAGE)
    name = options.subscription.rpartition("/")[2]
    if name and not name.endswith(SUBSCRIPTION_SUFFIX):
        raise CommandError(
            f"a dead-letter subscription is named TOPIC{SUBSCRIPTION_SUFFIX}, not {name}", Exit.WRONG_USAGE
        )
    return [name] if name else messages.subscriptions()


def _document(message: Message) -> dict[str, Any]:
    return {
        "topic": message.topic,
        "id": message.id,
        "published": message.published,
        "attributes": {name: _hidden(name, value) for name, value in message.attributes.items()},
        "data": _text(message),
    }


def _hidden(name: str, value: str) -> str:
    return "..." if "token" in name.lower() else value


def _text(message: Message) -> str:
    """Return the data for people. A v2 notification has its token in ``userData``, which is hidden."""
    text = message.data.decode(errors="replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # unreadable messages are the usual dead letters
        return text
    if isinstance(document, dict):
        document = {name: "..." if name in ("userData", "user_data") else item for name, item in document.items()}
    return json.dumps(document)


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
