"""The substitutions of a build: of the definition, of the invocation's properties, and of the scheduler. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.kv_lists import unpack_kv_list
from luci_scheduler.managers.cloud_build.commit import Log

__all__ = ["MAX_KEY_BYTES", "MAX_VALUE_BYTES", "RESERVED", "substitutions"]

MAX_KEY_BYTES = 100
"""The limits of Cloud Build, from its local validator; also `MAX_VALUE_BYTES`."""
MAX_VALUE_BYTES = 4000
RESERVED = "_SCHEDULER_"
"""The beginning of the scheduler's own keys."""

_MAX_COUNT = 200
_FOREIGN = re.compile(r"[^A-Z0-9_]")
_LOWER, _UPPER = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TO_UPPER = str.maketrans(_LOWER, _UPPER)


def substitutions(
    definition: Sequence[str], properties: Mapping[str, Any], own: Mapping[str, str], log: Log
) -> dict[str, str]:
    """Return the substitutions of a build, sorted by key. Of two with one key, the later argument's wins.

    Args:
        definition: ``_KEY:value`` items of the job's definition.
        properties: of the invocation. The property ``name`` becomes ``_NAME``.
        own: the scheduler's.
        log: gets a line for each property that is left out.

    Raises:
        PermanentError: there are more than Cloud Build accepts.
    """
    values = {**dict(unpack_kv_list(definition)), **_of_properties(properties, log), **own}
    if len(values) > _MAX_COUNT:
        raise PermanentError(f"{len(values)} substitutions, at most {_MAX_COUNT} are allowed")
    return dict(sorted(values.items()))


def _of_properties(properties: Mapping[str, Any], log: Log) -> dict[str, str]:
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    for name in sorted(properties, key=_order):
        if properties[name] is None:
            continue
        key, value = _key(name), _value(properties[name])
        if problem := _problem(name, key, value, names.get(key)):
            log(problem)
            continue
        found[key], names[key] = value, name
    return found


def _problem(name: str, key: str, value: str, other: str | None) -> str:
    """Return the line about a property that cannot become a substitution; empty if it can."""
    shown, size = quote(name), len(_order(value))
    if key.startswith(RESERVED):
        return log_lines.PROPERTY_RESERVED.format(name=shown)
    if other is not None:
        return log_lines.PROPERTY_DOUBLED.format(name=shown, other=quote(other))
    if len(key) > MAX_KEY_BYTES:
        return log_lines.PROPERTY_NAME_TOO_LONG.format(name=shown)
    return (
        log_lines.PROPERTY_TOO_LONG.format(name=shown, size=size, most=MAX_VALUE_BYTES)
        if size > MAX_VALUE_BYTES
        else ""
    )


def _order(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _key(name: str) -> str:
    """Return the key of a property: in upper case, with an underscore in front and in place of any other character."""
    return "_" + _FOREIGN.sub("_", name.translate(_TO_UPPER))


def _value(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
