"""The shares of an invocation's document, chosen so that no document can reach the store's limit.

Firestore allows 1,048,576 bytes per document. We fill 1,000,000 of them. The rest covers names, and 16 bytes for each
chunk of the log in addition to its text:

============================  =========  ==================================================================
part                          bytes      enforced by
============================  =========  ==================================================================
definition                    600,000    triage, which takes no more triggers than fit into it
  of which the job's task     150,000    the validator of configs
  of which one trigger        400,000    arrival: 200,000 (``MAX_TRIGGER_BYTES``), as properties are also in the request
  of which all else            50,000    names, revision, triggered jobs
state without emitted ones     50,000    timers, keys of deliveries, reasons of bounded length
log                           350,000    appending, which cuts it to 200,000 before it would exceed this
============================  =========  ==================================================================

The shares of a definition can shift: a small task leaves more for a batch, and thousands of triggered jobs leave less.
The triggers that a job emits belong to its state. This space is taken from the log, which is then cut more. The same
holds for a definition larger than in the table, because a job may have a task from before the validator's limit. If not
even a log of ``LOG_LIMIT`` fits with the definition, no invocation is created: its triggers are discarded, with a
visible reason.
"""

from __future__ import annotations

import json
from typing import Any

from luci_scheduler.core.debug_log import LOG_LIMIT
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.trigger_json import stored_bytes, trigger_to_json

__all__ = [
    "MAX_DEFINITION_BYTES",
    "MAX_DOCUMENT_BYTES",
    "MAX_TASK_BYTES",
    "check_invocation",
    "definition_bytes",
    "json_bytes",
    "log_limits",
]

MAX_DOCUMENT_BYTES = 1_000_000
"""The limit of any document."""
MAX_DEFINITION_BYTES = 600_000
"""The limit of the constant part of an invocation, mostly its task and its triggers."""
MAX_TASK_BYTES = 150_000
"""The limit of a job's task, as JSON."""

_STATE_BYTES = 50_000  # for the members of an invocation that change, without its log and emitted triggers
_FIRST_LINES = 10_000  # in addition to the block of the triage, which is cut to LOG_LIMIT
_MIN_LOG = 1_000  # bytes of log that are kept even if the document has no room left


def json_bytes(value: Any) -> int:
    """Return how many bytes a value takes as JSON in a document."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass"))


def definition_bytes(invocation: Invocation) -> int:
    """Return how many bytes the constant part of an invocation's document takes, at most a few hundred too many."""
    # The same members as in the stored definition; a test compares the sizes.
    named = {
        "task": {"kind": invocation.task.kind, "fields": dict(invocation.task.fields)},
        "realm": invocation.realm,
        "revision": invocation.revision,
        "revision_url": invocation.revision_url,
        "triggered_by": invocation.triggered_by,
        "properties": None if invocation.properties is None else dict(invocation.properties),
        "tags": invocation.tags,
        "incoming_triggers": [trigger_to_json(trigger) for trigger in invocation.incoming_triggers],
        "triggered_jobs": invocation.triggered_jobs,
        "trace": invocation.trace,
    }
    return json_bytes(named) + 300  # the start instant, and a trace that is filled in later


def log_limits(invocation: Invocation) -> tuple[int, int]:
    """Return the limit of an invocation's log in bytes, and the size to which a log beyond the limit is cut."""
    most = max(_MIN_LOG, min(2 * LOG_LIMIT, _room(invocation)))
    # A cut log keeps a quarter of its limit free. Cutting has to read the log, and must not happen with each line.
    return most, min(LOG_LIMIT, most - most // 4)


def check_invocation(invocation: Invocation) -> None:
    """Check that the document of a new invocation has room for its log.

    Raises:
        PermanentError: it does not. The message is shown on the discarded triggers.
    """
    room = _room(invocation) - _FIRST_LINES
    if room < LOG_LIMIT:
        size = definition_bytes(invocation)
        most = size + room - LOG_LIMIT
        raise PermanentError(
            f"an invocation with task and triggers of {size} bytes cannot be stored, at most {most} fit into a "
            "document: make the job's task or the trigger's payload smaller"
        )


def _room(invocation: Invocation) -> int:
    emitted = sum(stored_bytes(trigger) for trigger in invocation.outgoing_triggers)
    return MAX_DOCUMENT_BYTES - _STATE_BYTES - definition_bytes(invocation) - emitted
