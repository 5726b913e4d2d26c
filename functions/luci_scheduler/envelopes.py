"""Envelopes: Pub/Sub messages inside CloudEvents, and what is inside the messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.instants import LAST_INSTANT, Instant, parse_rfc3339
from luci_scheduler.core.untrusted import PARSER_ERRORS, decode_base64

__all__ = ["MAX_MESSAGE_BYTES", "Message", "open_message"]

MAX_MESSAGE_BYTES = 10_000_000
"""What Pub/Sub itself takes; a build's notification may carry some megabytes of compressed fields."""

_MAX_ID = 500  # characters; those of Pub/Sub have some twenty, and markers keep them


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
        data = decode_base64(text)
        published = parse_rfc3339(str(message.get("publishTime") or message.get("publish_time") or event["time"]))
        identifier = str(message.get("messageId") or message.get("message_id") or event["id"])
        identifier.encode()
    except PARSER_ERRORS as error:
        raise MalformedError(f"bad Pub/Sub message: {error}") from error
    if not 0 <= published <= LAST_INSTANT:
        raise MalformedError("the Pub/Sub message was not published between the years 1970 and 2262")
    if len(identifier) > _MAX_ID:
        raise MalformedError(f"a message's ID has at most {_MAX_ID} characters")
    return Message(identifier, data, text, {str(k): str(v) for k, v in attributes.items()}, published)
