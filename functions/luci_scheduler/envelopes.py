"""Envelopes: the Pub/Sub message inside a CloudEvent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import Instant, in_range, parse_rfc3339
from luci_scheduler.core.untrusted import PARSER_ERRORS, decode_base64

__all__ = ["MAX_MESSAGE_BYTES", "Event", "Message", "open_message"]

MAX_MESSAGE_BYTES = 10_000_000
"""Pub/Sub's own limit. A build's notification may carry some megabytes of compressed fields."""

_MAX_ID = 500  # characters; Pub/Sub's IDs have about twenty, and the markers of triggers store them


class Event(Protocol):
    """A CloudEvent as the framework delivers it."""

    @property
    def data(self) -> Any:
        """The payload: any JSON value."""

    def __getitem__(self, attribute: str, /) -> Any:
        """Return a context attribute such as ``id`` or ``time``."""


@frozen
class Message:
    """A Pub/Sub message as pushed."""

    id: str
    data: bytes
    data_base64: str
    """The data as sent, in base64."""
    attributes: Mapping[str, str]
    published: Instant


def open_message(event: Event) -> Message:
    """Return the Pub/Sub message of a CloudEvent, from a raw push or from Eventarc.

    Raises:
        MalformedError: the event holds no message, or a message with a member of a wrong type or size.
    """
    message = _find_message(event.data)
    text, attributes = message.get("data") or "", message.get("attributes") or {}
    try:
        data = decode_base64(text)
        published = in_range(parse_rfc3339(_either(message, "publishTime", "publish_time") or str(event["time"])))
        identifier = _either(message, "messageId", "message_id") or str(event["id"])
        identifier.encode()  # half of a surrogate pair in a stored ID would stop every later reader
    except PARSER_ERRORS as error:
        raise MalformedError(f"bad Pub/Sub message: {error}") from error
    if len(identifier) > _MAX_ID:
        raise MalformedError(f"a message's ID has at most {_MAX_ID} characters")
    return Message(identifier, data, text, {str(k): str(v) for k, v in attributes.items()}, published)


def _either(message: Mapping[str, Any], *spellings: str) -> str:
    """Return a member by its first spelling, or an empty text. Pub/Sub pushes both spellings, Eventarc one of them."""
    return next((str(message[name]) for name in spellings if message.get(name)), "")


def _find_message(envelope: Any) -> dict[str, Any]:
    """Return the message of an envelope, whose data is a text of bounded length and whose attributes are an object."""
    message = envelope.get("message") if isinstance(envelope, dict) else None
    if not isinstance(message, dict):
        raise MalformedError("the event holds no Pub/Sub message")
    text, attributes = message.get("data") or "", message.get("attributes") or {}
    if not isinstance(text, str) or not isinstance(attributes, dict):
        raise MalformedError("the Pub/Sub message's data must be a string, its attributes an object")
    if len(text) > MAX_MESSAGE_BYTES * 4 // 3 + 4:
        raise MalformedError(f"a message has at most {MAX_MESSAGE_BYTES} bytes")
    return message
