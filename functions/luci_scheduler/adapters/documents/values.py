"""Values inside documents: the types that JSON and Firestore share, and the way to them and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from luci_scheduler.core.cleanup import Cleanup
from luci_scheduler.core.cron_machine import CronState
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Timer
from luci_scheduler.core.job import JobDefinition, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import trigger_to_json

__all__ = ["SCHEMA", "from_timestamp", "known_fields", "to_json", "to_plain", "to_timestamp"]

SCHEMA = 1
"""The version of the layout, in each document."""


def to_timestamp(instant: Instant | None) -> datetime | None:
    """Return the time that Firestore's TTL policy reads to delete a document; whole seconds suffice."""
    return None if instant is None else datetime.fromtimestamp(instant // SECOND, UTC)


def from_timestamp(timestamp: datetime | None) -> Instant | None:
    """Return the instant of a time that ``to_timestamp`` stored."""
    return None if timestamp is None else Instant(int(timestamp.timestamp()) * SECOND)


def known_fields(record: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a record has a field for. A newer version of the functions may have stored more."""
    names = {field.name for field in fields(record)}
    return {name: value for name, value in values.items() if name in names}


def to_plain(value: Any) -> Any:
    """Return a record's value as JSON can hold it."""
    match value:
        case Trigger():
            return trigger_to_json(value)
        case TaskDefinition():
            return {"kind": value.kind, "fields": dict(value.fields)}
        case Timer() | Cleanup() | TriggeringPolicy() | JobDefinition() | CronState():
            return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
        case tuple():
            return [to_plain(item) for item in value]
        case Mapping():
            return dict(value)
        case _:
            return value


def to_json(value: Any) -> str:
    """Write a value as compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
