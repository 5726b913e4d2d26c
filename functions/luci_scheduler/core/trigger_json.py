"""Triggers as JSON values, in task payloads and in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.trigger import Trigger

__all__ = ["MAX_TRIGGER_BYTES", "stored_bytes", "trigger_from_json", "trigger_to_json"]

MAX_TRIGGER_BYTES = 200_000
"""Of one trigger, as JSON. Its invocation's document, which may have a mebibyte, holds its properties twice (in the
trigger and in the request), other triggers of its batch, and a debug log."""

_FIELDS = {field.name: field for field in fields(Trigger)}


def trigger_to_json(trigger: Trigger) -> dict[str, Any]:
    """Return a trigger as a JSON value; empty fields are left out."""
    values = {name: getattr(trigger, name) for name in _FIELDS}
    return {name: dict(value) if name == "payload" else value for name, value in values.items() if value}


def stored_bytes(trigger: Trigger) -> int:
    """Return how many bytes a trigger takes in a document at most."""
    return len(json.dumps(trigger_to_json(trigger)))


def trigger_from_json(document: Mapping[str, Any]) -> Trigger:
    """Read a trigger back; members of a newer version are ignored.

    Raises:
        MalformedError: it is no object, or has no ``id``.
    """
    if not isinstance(document, Mapping):
        raise MalformedError(f"not a trigger: {type(document).__name__} instead of an object")
    try:
        return Trigger(**{"created": 0} | {name: value for name, value in document.items() if name in _FIELDS})
    except TypeError as error:
        raise MalformedError(f"not a trigger: {error}") from error
