"""The entry points of a next release: it stores members that these functions do not know.

With ``NEXT_SCHEMA`` in the environment, its documents also have that schema.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import luci_scheduler
from luci_scheduler.adapters import documents
from luci_scheduler.adapters.documents import records, values, watchers

MEMBER = "of_next_release"
"""The name of each planted member: in the fields of a document, in its body, and in the records inside the body."""

_body_values, _path_and_fields = records._body_values, records._path_and_fields
_encode_invocation_state = records.encode_invocation_state


def _planted(record: Any) -> dict[str, Any]:
    body = _body_values(record)
    inner = [body.get("cron"), body.get("definition"), body.get("trigger"), *(body.get("pending_timers") or ())]
    for part in (body, *(part for part in inner if part)):
        part[MEMBER] = {"planted": True}
    return body


def _marked(write: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    path, document = _path_and_fields(write)
    return path, {**document, MEMBER: True}


def _marked_state(*arguments: Any) -> dict[str, Any]:
    return {**_encode_invocation_state(*arguments), MEMBER: True}


records._body_values = _planted
records._path_and_fields = _marked
records.encode_invocation_state = documents.encode_invocation_state = _marked_state
if schema := int(os.environ.get("NEXT_SCHEMA", "0")):
    records.SCHEMA = values.SCHEMA = watchers.SCHEMA = schema

# Last: the entry points import the store, which takes its encoders from the patched modules.
sys.path.insert(0, str(Path(luci_scheduler.__file__).parent.parent))
_entry_points = Path(luci_scheduler.__file__).parent.parent / "main.py"
exec(compile(_entry_points.read_text(encoding="utf-8"), str(_entry_points), "exec"))  # noqa: S102 - our own file
