"""Normalizes answers of Buildbucket v2: protobuf's JSON allows several spellings of a value, and Go writes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["build_message"]

_STATUS = {
    0: "STATUS_UNSPECIFIED",
    1: "SCHEDULED",
    2: "STARTED",
    4: "ENDED_MASK",
    12: "SUCCESS",
    20: "FAILURE",
    36: "INFRA_FAILURE",
    68: "CANCELED",
}
_TRINARY = {0: "UNSET", 1: "YES", 2: "NO"}
_INT64: dict[int, str] = {}

_BUILD: dict[str, Any] = {
    "id": _INT64,
    "ancestorIds": _INT64,
    "status": _STATUS,
    "critical": _TRINARY,
    "retriable": _TRINARY,
    "input": {"gerritChanges": {"change": _INT64, "patchset": _INT64}},
    "output": {"status": _STATUS},
    "steps": {"status": _STATUS},
    "infra": {"backend": {"task": {"status": _STATUS, "updateId": _INT64}}},
}
"""The fields of ``buildbucket.v2.Build`` that are enums or 64-bit numbers. An enum maps numbers to names."""


def build_message(build: Mapping[str, Any]) -> dict[str, Any]:
    """Return a build with enums by name and 64-bit numbers as decimal strings; other values stay as they are."""
    return dict(_spelled(build, _BUILD))


def _spelled(value: Any, known: Mapping[Any, Any]) -> Any:
    if isinstance(value, list):
        return [_spelled(item, known) for item in value]
    if isinstance(value, Mapping):
        return {name: _spelled(item, known[name]) if name in known else item for name, item in value.items()}
    return _spelled_number(value, known)


def _spelled_number(value: Any, names: Mapping[int, str]) -> Any:
    """Return an enum's name, or a 64-bit number as text if there are no names; any other value stays as it is."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return names.get(value, value) if names else str(value)
