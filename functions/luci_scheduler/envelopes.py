"""Envelopes: Pub/Sub messages inside CloudEvents, and what is inside the messages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.instants import Instant, parse_rfc3339

__all__ = ["MAX_MESSAGE_BYTES", "Message", "open_message"]

MAX_MESSAGE_BYTES = 10_000_000
"""What Pub/Sub itself takes; a build's notification may carry some megabytes of compressed fields."""


@dataclass(frozen=True, slots=True)
class Message:
    """A Pub/Sub message as pushed."""

    id: str
    data: bytes
    data_base64: str
    attributes: Mapping[str, str]
    published: Instant


def open_message(event: Any) -> Message:
    """Take the Pub/Sub message out of a CloudEvent, whichever way it came (raw push or Eventarc).

    Raises:
        MalformedError: it is not there or not as it must be.
    """
    envelope = event.data
    message = envelope.get("message") if isinstance(envelope, dict) else None
    if not isinstance(message, dict):
        raise MalformedError("the event holds no Pub/Sub message")
    text, attributes = message.get("data") or "", message.get("attributes") or {}
    if not isinstance(text, str) or not isinstance(attributes, dict):
        raise MalformedError("the Pub/Sub message's data must be a string, its attributes an object")
    if len(text) > MAX_MESSAGE_BYTES * 4 // 3 + 4:
        raise MalformedError(f"a message has at most {MAX_MESSAGE_BYTES} bytes")
    try:
        data = base64.b64decode(text, validate=True)
        published = parse_rfc3339(str(message.get("publishTime") or message.get("publish_time") or event["time"]))
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"bad Pub/Sub message: {error}") from error
    identifier = str(message.get("messageId") or message.get("message_id") or event["id"])
    return Message(identifier, data, text, {str(k): str(v) for k, v in attributes.items()}, published)
