"""Values inside documents: the types that JSON and Firestore share, and conversions to and from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import Any

from luci_scheduler.core.cleanup import Cleanup
from luci_scheduler.core.cron_machine import CronState
from luci_scheduler.core.errors import NewerVersionError, PermanentError
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Timer
from luci_scheduler.core.job import JobDefinition, Result, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.sizes import MAX_DOCUMENT_BYTES
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import trigger_to_json
from luci_scheduler.core.untrusted import storable

__all__ = [
    "SCHEMA",
    "check_schema",
    "check_size",
    "field_names",
    "from_timestamp",
    "known_fields",
    "stored_size",
    "to_json",
    "to_plain",
    "to_timestamp",
]

SCHEMA = 1
"""The version of the layout, in each document. Raise it only when an older function would misread a new document: older
functions then leave such documents alone. A new member needs no new version, because older functions keep it."""


def check_schema(what: str, document: Mapping[str, Any]) -> None:
    """Refuse a document of a newer layout.

    Raises:
        NewerVersionError: only a newer function can read the document.
    """
    version = document.get("schema", SCHEMA)
    if isinstance(version, int) and version > SCHEMA:
        raise NewerVersionError(f"{what} has schema {version}, and this function reads schema {SCHEMA}")


def to_timestamp(instant: Instant | None) -> datetime | None:
    """Return the time that Firestore's TTL policy reads to delete a document; whole seconds suffice."""
    return None if instant is None else datetime.fromtimestamp(instant // SECOND, UTC)


def from_timestamp(timestamp: datetime | None) -> Instant | None:
    """Return the instant of a time that ``to_timestamp`` stored."""
    return None if timestamp is None else Instant(int(timestamp.timestamp()) * SECOND)


def known_fields(record: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return only the values for which a record has a field. A newer version of the functions may have stored more."""
    names = field_names(record)
    return {name: value for name, value in values.items() if name in names}


@cache
def field_names(record: type) -> Mapping[str, None]:
    """Return the names of a record's fields, in order."""
    return dict.fromkeys(field.name for field in fields(record))


_JSON_TYPES = frozenset({type(None), bool, int, float, str})  # most values have one of these types exactly


def to_plain(value: Any) -> Any:
    """Return a record's value in a form that JSON can hold."""
    kind = type(value)
    if kind in _JSON_TYPES:
        return value
    if kind is tuple:
        return [to_plain(item) for item in value]
    match value:
        case Trigger():
            return trigger_to_json(value)
        case TaskDefinition():
            return {"kind": value.kind, "fields": dict(value.fields)}
        case Result():
            # A list keeps the unknown members of an item that has a member ``id``.
            named = _plain_fields(value)
            return {"id": str(named.pop("invocation_id")), **named}
        case Timer() | Cleanup() | TriggeringPolicy() | JobDefinition() | CronState():
            return _plain_fields(value)
        case dict() | Mapping():
            return dict(value)
        case _:
            return value


def _plain_fields(record: Any) -> dict[str, Any]:
    kind: type = type(record)
    return {name: to_plain(getattr(record, name)) for name in field_names(kind)}


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def to_json(value: Any) -> str:
    """Write a value as compact JSON."""
    return _encode(value)


def check_size(what: str, document: Mapping[str, Any], extra: int = 0) -> None:
    """Check that a document fits into the store.

    Args:
        what: names the document in the error.
        document: the fields.
        extra: bytes of the log, which is not part of ``document``.

    Raises:
        PermanentError: the document is too large, or holds a text that is not valid Unicode.
    """
    try:
        size = extra + stored_size(document)
    except UnicodeEncodeError as error:
        raise PermanentError(f"{storable(what)} holds half of a surrogate pair, which cannot be stored") from error
    if size > MAX_DOCUMENT_BYTES:
        raise PermanentError(f"{what} would have {size} bytes, a document can hold {MAX_DOCUMENT_BYTES}")


def stored_size(document: Mapping[str, Any]) -> int:
    """Return how many bytes the values of a document take in the store."""
    return sum(_size(value) for value in document.values())


_FIXED_BYTES = 16  # at most, of a number, a boolean, null or a time


def _size(value: Any) -> int:
    match value:
        case str():
            return len(value.encode())
        case int() | None:
            return _FIXED_BYTES
        case bytes():
            return len(value)
        case dict() | Mapping():
            return sum(len(name.encode()) + 1 + _size(item) for name, item in value.items())
        case list():
            return sum(_size(item) for item in value)
        case _:
            return _FIXED_BYTES
