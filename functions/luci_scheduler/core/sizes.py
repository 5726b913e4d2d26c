"""How the bytes of an invocation's document are shared out, so that none can reach the store's limit.

Firestore takes 1,048,576 bytes a document. 1,000,000 of them are ours to fill, the rest covers names, and the 16 bytes that each
chunk of the log takes beside its text:

============================  =========  ==================================================================
part                          bytes      kept by
============================  =========  ==================================================================
definition                    600,000    a triage takes up no more triggers than fit into it (``allocate``)
  of which the job's task     150,000    the validator of configs
  of which one trigger        400,000    intake: 200,000 (``MAX_TRIGGER_BYTES``), whose properties are the request's too
  of which all else            50,000    names, revision, the jobs that it triggers
state without emitted ones     50,000    timers, keys of deliveries, reasons of bounded length
log                           350,000    appending, which cuts it to 200,000 once it would pass this
============================  =========  ==================================================================

A definition may be shared out in another way: a small task leaves more to a batch, thousands of triggered jobs leave less. What
a job emits belongs to its state and takes its room from the log, which is cut harder then; so does a definition that is larger
than the table says, as a job may have a task from before the validator's limit. Where not even a whole log of ``LOG_LIMIT``
would fit beside the definition, there is no invocation: its triggers are discarded, visibly.
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
"""Of any document."""
MAX_DEFINITION_BYTES = 600_000
"""Of what never changes of an invocation: its task and its triggers, above all."""
MAX_TASK_BYTES = 150_000
"""Of a job's task, as JSON."""

_STATE_BYTES = 50_000
_FIRST_LINES = 10_000  # beside the block of the triage, which is cut to LOG_LIMIT
_MIN_LOG = 1_000


def json_bytes(value: Any) -> int:
    """Return how many bytes a value takes as JSON in a document."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass"))


def definition_bytes(invocation: Invocation) -> int:
    """Return how many bytes that part of an invocation's document takes which never changes; a few hundred too many, perhaps."""
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
    return json_bytes(named) + 300  # the instant of its start, and a trace that is yet to be filled in


def log_limits(invocation: Invocation) -> tuple[int, int]:
    """Return how many bytes an invocation's log may grow to, and to how many it is cut when it would pass them."""
    most = max(_MIN_LOG, min(2 * LOG_LIMIT, _room(invocation)))
    # A quarter is left to grow: a log that is cut is read once, which is not to happen with each line.
    return most, min(LOG_LIMIT, most - most // 4)


def check_invocation(invocation: Invocation) -> None:
    """Check that the document of a new invocation has room for its log.

    Raises:
        PermanentError: it has not; the message is meant for who looks for the triggers.
    """
    room = _room(invocation) - _FIRST_LINES
    if room < LOG_LIMIT:
        size = definition_bytes(invocation)
        most = size + room - LOG_LIMIT
        raise PermanentError(
            f"an invocation with task and triggers of {size} bytes cannot be stored, at most {most} fit into a document: make "
            "the job's task or what the trigger carries smaller"
        )


def _room(invocation: Invocation) -> int:
    emitted = sum(stored_bytes(trigger) for trigger in invocation.outgoing_triggers)
    return MAX_DOCUMENT_BYTES - _STATE_BYTES - definition_bytes(invocation) - emitted
