"""Triggers as JSON values, in task payloads and in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.instants import LAST_INSTANT
from luci_scheduler.core.trigger import PayloadKind, Trigger

__all__ = [
    "MAX_TRIGGER_BYTES",
    "arriving_trigger",
    "stored_bytes",
    "trigger_from_json",
    "trigger_to_json",
]

MAX_TRIGGER_BYTES = 200_000
"""The limit of one trigger, as JSON. The document of its invocation, with at most a mebibyte, holds its properties
twice (in the trigger and in the request), the other triggers of its batch, and a debug log."""

_MAX_ORDER = 10**9  # documents sort by ten digits of it
_GITILES = ("repo", "ref", "revision")
_KINDS = frozenset(PayloadKind)
_FIELDS = {field.name: field for field in fields(Trigger)}
_NUMBERS = ("created", "order_in_batch", "invocation_id")
_TYPES: Mapping[str, type] = {name: int if name in _NUMBERS else str for name in _FIELDS} | {"payload": Mapping}


def trigger_to_json(trigger: Trigger) -> dict[str, Any]:
    """Return a trigger as a JSON value, without empty fields."""
    values = {name: getattr(trigger, name) for name in _FIELDS}
    return {name: dict(value) if name == "payload" else value for name, value in values.items() if value}


def stored_bytes(trigger: Trigger) -> int:
    """Return an upper bound of the bytes that a trigger takes in a document."""
    return len(json.dumps(trigger_to_json(trigger)))


def trigger_from_json(document: Mapping[str, Any]) -> Trigger:
    """Read a trigger from the store. Members of a newer version are ignored.

    Raises:
        MalformedError: it is not an object, has no ``id``, or a member has another type than the record's field.
    """
    if not isinstance(document, Mapping):
        raise MalformedError(f"not a trigger: {type(document).__name__} instead of an object")
    values = {"created": 0} | {name: value for name, value in document.items() if name in _TYPES}
    for name, value in values.items():
        # In Python, True is an int.
        if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
            raise MalformedError(f"not a trigger: {name} must not be of the type {type(value).__name__}")
    if not values.get("id"):
        raise MalformedError("not a trigger: it has no id")
    return Trigger(**values)


def arriving_trigger(document: Mapping[str, Any]) -> Trigger:
    """Read a trigger from a task. It is accepted only if all later readers can use it.

    A trigger above `MAX_TRIGGER_BYTES` is accepted here. The engine discards it and records the reason.

    Raises:
        MalformedError: see `trigger_from_json`. Also for an unknown kind, a payload of another kind, or a number out of
            range.
    """
    trigger = trigger_from_json(document)
    if trigger.kind not in _KINDS:
        raise MalformedError(f"trigger {trigger.id[:200]!r}: {trigger.kind[:40]!r} is not a kind of trigger")
    if not (0 <= trigger.created <= LAST_INSTANT and 0 <= trigger.order_in_batch <= _MAX_ORDER):
        raise MalformedError(f"trigger {trigger.id[:200]!r}: created or order_in_batch is out of range")
    if problem := _payload_problem(trigger):
        raise MalformedError(f"trigger {trigger.id[:200]!r}: {problem}")
    return trigger


def _payload_problem(trigger: Trigger) -> str:
    payload = trigger.payload
    if trigger.is_commit and (missing := [name for name in _GITILES if not isinstance(payload.get(name), str)]):
        return f"the payload needs the string {missing[0]!r}"
    if not isinstance(payload.get("properties") or {}, dict):
        return "properties must be an object"
    tags = payload.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return "tags must be a list of strings"
    return ""
