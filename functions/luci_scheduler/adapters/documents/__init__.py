"""The layout of documents, which both stores share. No module here knows a database client."""

from __future__ import annotations

from luci_scheduler.adapters.documents.ids import (
    document_id,
    invocation_document_id,
    plain_id,
    watchers_document_id,
    watchers_range,
)
from luci_scheduler.adapters.documents.probes import decode_probe
from luci_scheduler.adapters.documents.records import (
    ReadVersion,
    Record,
    as_read,
    as_written,
    check_invocation_size,
    decode_deferred,
    decode_invocation,
    decode_job,
    decode_poller,
    decode_project,
    decode_trigger,
    encode_deferred,
    encode_invocation,
    encode_invocation_state,
    encode_job,
    encode_poller,
    encode_probe,
    encode_project,
    encode_trigger,
    encode_write,
)
from luci_scheduler.adapters.documents.tolerant import SET_ASIDE_ROUNDS, decode_or_set_aside, decode_readable
from luci_scheduler.adapters.documents.values import SCHEMA, check_size, stored_size
from luci_scheduler.adapters.documents.watchers import decode_watchers, encode_paused, encode_watchers

__all__ = [
    "SCHEMA",
    "SET_ASIDE_ROUNDS",
    "ReadVersion",
    "Record",
    "as_read",
    "as_written",
    "check_invocation_size",
    "check_size",
    "decode_deferred",
    "decode_invocation",
    "decode_job",
    "decode_or_set_aside",
    "decode_poller",
    "decode_probe",
    "decode_project",
    "decode_readable",
    "decode_trigger",
    "decode_watchers",
    "document_id",
    "encode_deferred",
    "encode_invocation",
    "encode_invocation_state",
    "encode_job",
    "encode_paused",
    "encode_poller",
    "encode_probe",
    "encode_project",
    "encode_trigger",
    "encode_watchers",
    "encode_write",
    "invocation_document_id",
    "plain_id",
    "stored_size",
    "watchers_document_id",
    "watchers_range",
]
