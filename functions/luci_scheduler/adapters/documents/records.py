"""The codec of records: a frozen dataclass in, a document of plain values out, and back.

Each document carries ``schema``. Readers refuse a newer one. They ignore unknown members, and writers keep them, so
that old and new functions can run side by side during a deployment. Only a field that a query needs is a document
field. All other fields are JSON in one text, the body, which needs no index. IDs have 64 bits and are stored as decimal
texts.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cache
from typing import Any, TypeVar

from luci_scheduler.adapters.documents.ids import document_id
from luci_scheduler.adapters.documents.probes import probe_values
from luci_scheduler.adapters.documents.tolerant import keep_unknown
from luci_scheduler.adapters.documents.values import (
    SCHEMA,
    check_schema,
    check_size,
    field_names,
    from_timestamp,
    known_fields,
    stored_size,
    to_json,
    to_plain,
    to_timestamp,
)
from luci_scheduler.core.cleanup import Cleanup
from luci_scheduler.core.cron_machine import CronState
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import is_hash
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of
from luci_scheduler.core.instants import HOUR, Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.job import Flavor, Job, JobDefinition, Result, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.poller_record import Backlog, PollerRecord
from luci_scheduler.core.probe import LIFETIME, Probe
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import trigger_from_json, trigger_to_json
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.ports import (
    CreateInvocation,
    CreateTrigger,
    PutDeferred,
    PutJob,
    PutPoller,
    PutProbe,
    PutProject,
    UpdateInvocation,
    UpdateTrigger,
    Versioned,
    Write,
    WriteWhole,
)

__all__ = [
    "ReadVersion",
    "Record",
    "as_read",
    "as_written",
    "check_invocation_size",
    "decode_deferred",
    "decode_invocation",
    "decode_job",
    "decode_poller",
    "decode_project",
    "decode_trigger",
    "encode_deferred",
    "encode_invocation",
    "encode_invocation_state",
    "encode_job",
    "encode_poller",
    "encode_probe",
    "encode_project",
    "encode_trigger",
    "encode_write",
]

_COMMITS = "mutations"
"""The stored member that holds ``commits`` of a job and of a project. Existing documents have it under this name."""
_DEFINITION = (
    "task", "realm", "revision", "revision_url", "triggered_by", "properties", "tags", "incoming_triggers",
    "triggered_jobs", "started", "trace",
)  # fmt: skip
"""Fields of an invocation that never change after its creation. Later commits do not send them again."""

Record = Job | Invocation | TriggerRecord | ProjectRecord | PollerRecord | Deferred | Probe
T = TypeVar("T", bound=Record)


@frozen
class ReadVersion:
    """A store's version of a document, with what a later write needs to keep the members of a newer version."""

    at: Any
    """The database's own version. It alone decides whether two versions are equal."""
    record: Record | None = field(default=None, compare=False, repr=False)
    """The record of that version. None: the stored body has no other members, so a later write has none to keep."""
    body: str | bytes = field(default="", compare=False, repr=False)
    """The stored body of that version."""
    definition_bytes: int = field(default=0, compare=False, repr=False)
    """Size of an invocation's stored definition, which later writes do not send; 0: not known."""


def as_read(record: T, document: Mapping[str, Any], at: Any) -> Versioned[T]:
    """Return a record that was read from ``document``, with its version."""
    return Versioned(record, ReadVersion(at, record, _stored_body(document), _definition_bytes(document)))


def as_written(write: Write, document: Mapping[str, Any], at: Any) -> ReadVersion:
    """Return the version of a document after a write of the fields ``document``."""
    match write:
        case CreateInvocation():
            return ReadVersion(at, definition_bytes=_definition_bytes(document))
        case CreateTrigger():
            return ReadVersion(at)
        case UpdateInvocation(record, ReadVersion() as before):
            return _after(before, record, document, at)
        case PutJob(record, before) | UpdateTrigger(record, before) | PutProject(record, before):
            return _after(before, record, document, at)
        case PutPoller(record, before) | PutDeferred(record, before) | PutProbe(record, before):
            return _after(before, record, document, at)
        case _:
            return ReadVersion(at)


def _after(before: ReadVersion | None, record: Record, document: Mapping[str, Any], at: Any) -> ReadVersion:
    """Return the version of a document after the write of a record over the version ``before``; None: a new one."""
    if before is None:
        return ReadVersion(at)
    if before.record is None:
        return ReadVersion(at, definition_bytes=before.definition_bytes)
    return ReadVersion(at, record, _stored_body(document), before.definition_bytes)


def _definition_bytes(document: Mapping[str, Any]) -> int:
    return len(document.get("definition", "").encode())


def _stored_body(document: Mapping[str, Any]) -> str | bytes:
    body: str | bytes = document["record"] if "record" in document else document["state"]
    return body


def _body(record: Record, version: ReadVersion | None) -> str:
    """Return the body to write, with the members of the replaced version that only a newer version knows."""
    values = _body_values(record)
    if version is None or version.record is None:
        return to_json(values)
    stored = version.body if isinstance(version.body, str) else zlib.decompress(version.body).decode()
    return keep_unknown(stored, to_json(_earlier_values(version.record, record, values)), to_json(values))


def _earlier_values(earlier: Record, record: Record, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the body's values of an earlier record. Both records share most objects, and so their values in JSON."""
    kind: type = type(record)
    if kind not in _NOT_IN_BODY:
        return _body_values(earlier)
    return {
        stored: values[stored] if (value := getattr(earlier, name)) is getattr(record, name) else to_plain(value)
        for stored, name in _body_names(kind)
    }


def _body_values(record: Record) -> dict[str, Any]:
    match record:
        case TriggerRecord():
            return _trigger_values(record)
        case Probe():
            return probe_values(record)
        case PollerRecord():
            backlog = {ref: [item.target, item.taken] for ref, item in record.backlog.items()}
            return {"known": dict(record.known), "refs": record.refs, "backlog": backlog}
        case _:
            kind: type = type(record)
            return {stored: to_plain(getattr(record, name)) for stored, name in _body_names(kind)}


@cache
def _body_names(kind: type) -> Sequence[tuple[str, str]]:
    """Return the members of a record's body, in order: each as it is stored, and as the record names it."""
    names = [name for name in field_names(kind) if name not in _NOT_IN_BODY[kind]]
    return [(_COMMITS if name == "commits" and kind is not Invocation else name, name) for name in names]


_NOT_IN_BODY: Mapping[type, frozenset[str]] = {
    Invocation: frozenset({*_DEFINITION, "id", "job_id", "next_due", "expires"}),
    Job: frozenset({"id", "enabled"}),
    ProjectRecord: frozenset({"id"}),
    Deferred: frozenset({"id", "next_due", "revision"}),
}
"""Record → the fields that are in its document's name or in fields of its document."""


def encode_invocation(invocation: Invocation) -> dict[str, Any]:
    """Return the whole document of a new invocation, without its log."""
    return {"schema": SCHEMA, "definition": _definition(invocation), **encode_invocation_state(invocation)}


def _definition(invocation: Invocation) -> str:
    return to_json({name: to_plain(getattr(invocation, name)) for name in _DEFINITION})


def encode_invocation_state(invocation: Invocation, version: ReadVersion | None = None) -> dict[str, Any]:
    """Return the changing part of an invocation's document, for a write that replaces ``version``."""
    return {
        "state": _body(invocation, version),
        "status": str(invocation.status),
        "next_due": invocation.next_due,
        "expire_at": to_timestamp(invocation.expires),
        "commits": invocation.commits,
    }


def decode_invocation(job_id: JobId, invocation_id: InvocationId, document: Mapping[str, Any]) -> Invocation:
    """Read an invocation's document.

    Raises:
        NewerVersionError: as of `check_schema`, here and for each other kind of document.
    """
    check_schema(f"invocation {invocation_id} of {job_id}", document)
    values = {**json.loads(document["definition"]), **json.loads(document["state"])}
    return Invocation(
        **known_fields(
            Invocation,
            values
            | {
                "id": invocation_id,
                "job_id": job_id,
                "status": Status(values["status"]),
                "task": TaskDefinition(**known_fields(TaskDefinition, values["task"])),
                "tags": tuple(values["tags"]),
                "incoming_triggers": tuple(trigger_from_json(item) for item in values["incoming_triggers"]),
                "outgoing_triggers": tuple(trigger_from_json(item) for item in values["outgoing_triggers"]),
                "triggered_jobs": tuple(values["triggered_jobs"]),
                "pending_timers": tuple(Timer(**known_fields(Timer, item)) for item in values["pending_timers"]),
                "handled_notifications": tuple(values["handled_notifications"]),
                "cleanup": Cleanup(**known_fields(Cleanup, values["cleanup"])) if values.get("cleanup") else None,
                "next_due": document.get("next_due"),
                "expires": from_timestamp(document.get("expire_at")),
            },
        )
    )


def encode_job(job: Job, version: ReadVersion | None = None) -> dict[str, Any]:
    """Return a job's document, for a write that replaces ``version``; likewise below.

    Lists query the fields from ``project`` to ``triggers`` (see `JobList`), and sum up ``commits``. A document that an
    older version wrote last lacks them until the next sync of configs. ``place`` is null for a job that no list has.
    """
    return {
        "schema": SCHEMA,
        "record": _body(job, version),
        "enabled": job.enabled,
        "project": project_of(job.id),
        "realm": job.definition.realm,
        "state": str(job.state),
        "place": job.place or None,
        "triggers": list(job.definition.triggered_jobs),
        "next_due": job.next_due,
        "commits": job.commits,
    }


def decode_job(job_id: JobId, document: Mapping[str, Any]) -> Job:
    """Read a job's document."""
    check_schema(f"job {job_id}", document)
    values = json.loads(document["record"])
    definition = values["definition"]
    return Job(
        **known_fields(
            Job,
            values
            | {
                "id": job_id,
                "commits": values.get(_COMMITS, 0),
                "enabled": document["enabled"],
                "cron": CronState(**known_fields(CronState, values.get("cron", {}))),
                "active_invocations": tuple(InvocationId(int(item)) for item in values["active_invocations"]),
                "recent": tuple(_result(item) for item in values.get("recent", ())),
                "definition": JobDefinition(
                    **known_fields(
                        JobDefinition,
                        definition
                        | {
                            "task": TaskDefinition(**known_fields(TaskDefinition, definition["task"])),
                            "flavor": Flavor(definition["flavor"]),
                            "triggered_jobs": tuple(definition["triggered_jobs"]),
                            "policy": TriggeringPolicy(**known_fields(TriggeringPolicy, definition["policy"])),
                        },
                    )
                ),
            },
        )
    )


def _result(values: Mapping[str, Any]) -> Result:
    read = {
        "invocation_id": InvocationId(int(values["id"])),
        "status": Status(values["status"]),
        "revisions": tuple(values["revisions"]),
    }
    return Result(**known_fields(Result, {**values, **read}))


def encode_trigger(record: TriggerRecord, version: ReadVersion | None = None) -> dict[str, Any]:
    """Return a trigger's document.

    ``pending`` is the sort key of a pending trigger, and null in a marker. ``revision`` is the commit of a gitiles
    trigger, and null in any other trigger.
    """
    trigger = record.trigger
    return {
        "schema": SCHEMA,
        "revision": _revision(trigger),
        "pending": f"{trigger.created:020d}-{trigger.order_in_batch:010d}" if record.is_pending else None,
        "expire_at": to_timestamp(record.expires),
        "record": _body(record, version),
    }


def _trigger_values(record: TriggerRecord) -> dict[str, Any]:
    return {
        "trigger": trigger_to_json(record.trigger),
        "invocation_id": str(record.invocation_id),
        "discarded": record.discarded,
        "resolved": record.resolved,
        "deliveries": record.deliveries,
        **({"refused": True} if record.refused else {}),
    }


def _revision(trigger: Trigger) -> str | None:
    revision = trigger.payload.get("revision") if trigger.is_commit else None
    # The API accepts any text as a revision. An index entry takes 1,500 bytes at most, and queries look for hashes
    # only.
    return revision if is_hash(revision) else None


def decode_trigger(job_id: JobId, document: Mapping[str, Any]) -> TriggerRecord:
    """Read a trigger's document."""
    check_schema(f"a trigger of {job_id}", document)
    values = json.loads(document["record"])
    return TriggerRecord(
        job_id=job_id,
        trigger=trigger_from_json(values["trigger"]),
        invocation_id=InvocationId(int(values["invocation_id"])),
        discarded=values["discarded"],
        resolved=values["resolved"],
        expires=from_timestamp(document.get("expire_at")),
        deliveries=tuple(values["deliveries"]),
        refused=values.get("refused", False),
    )


def encode_project(record: ProjectRecord, version: ReadVersion | None = None) -> dict[str, Any]:
    """Return a project's document."""
    return {"schema": SCHEMA, "record": _body(record, version), "commits": record.commits}


def decode_project(project: str, document: Mapping[str, Any]) -> ProjectRecord:
    """Read a project's document."""
    check_schema(f"project {project}", document)
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in json.loads(document["record"]).items()
    }
    return ProjectRecord(**known_fields(ProjectRecord, values | {"id": project, "commits": values.get(_COMMITS, 0)}))


def encode_poller(record: PollerRecord, version: ReadVersion | None = None) -> dict[str, Any]:
    """Return a poller's document. The refs are compressed, because a repository may have tens of thousands."""
    state = zlib.compress(_body(record, version).encode())
    return {"schema": SCHEMA, "repo": record.repo, "state": state, "commits": record.commits}


def decode_poller(job_id: JobId, document: Mapping[str, Any]) -> PollerRecord:
    """Read a poller's document."""
    check_schema(f"poller {job_id}", document)
    values = json.loads(zlib.decompress(document["state"]))
    backlog = {ref: Backlog(target, taken) for ref, (target, taken) in values.get("backlog", {}).items()}
    return PollerRecord(job_id, document["repo"], values["known"], tuple(values["refs"]), document["commits"], backlog)


def encode_probe(probe: Probe, version: ReadVersion | None = None) -> dict[str, Any]:
    """Return a probe's document. Firestore deletes it an hour after functions stop marking it, or later."""
    expires = Instant(probe.created + LIFETIME + HOUR)
    return {"schema": SCHEMA, "state": _body(probe, version), "expire_at": to_timestamp(expires)}


def encode_deferred(record: Deferred, version: ReadVersion | None = None) -> dict[str, Any]:
    """Return a deferred task's document. ``revision`` is null if the task does not wait for a commit."""
    return {
        "schema": SCHEMA,
        "next_due": record.next_due,
        "revision": record.revision or None,
        "record": _body(record, version),
    }


def decode_deferred(deferred_id: str, document: Mapping[str, Any]) -> Deferred:
    """Read a deferred task's document."""
    check_schema(f"deferred task {deferred_id}", document)
    values = json.loads(document["record"])
    queried = {"id": deferred_id, "next_due": document["next_due"], "revision": document.get("revision") or ""}
    return Deferred(**known_fields(Deferred, values | queried))


def encode_write(write: WriteWhole) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the path of a replaced document (collection and ID in turn), and its fields.

    Raises:
        PermanentError: its name is empty or not valid Unicode.
    """
    path, document = _path_and_fields(write)
    document_id(path[-1])
    return path, document


def check_invocation_size(
    invocation: Invocation, document: Mapping[str, Any], log_bytes: int, version: ReadVersion | None = None
) -> None:
    """Check that the whole document of an invocation fits into the store.

    Args:
        invocation: the invocation.
        document: the fields to write, without the log.
        log_bytes: the size of the whole log.
        version: the version that the write replaces, whose definition stays; None for a new document.

    Raises:
        PermanentError: it does not fit.
    """
    kept = 0
    if version is not None:
        kept = version.definition_bytes or len(_definition(invocation).encode(errors="surrogatepass"))
        kept += stored_size({"schema": SCHEMA})
    check_size(f"invocation {invocation.id} of {invocation.job_id}", document, log_bytes + kept)


def _path_and_fields(write: WriteWhole) -> tuple[tuple[str, ...], dict[str, Any]]:
    match write:
        case PutJob(job, version, triage_log):
            log = {} if triage_log is None else {"triage_log": triage_log}
            return ("jobs", job.id), {**encode_job(job, version), **log}
        case CreateTrigger(record):
            return ("jobs", record.job_id, "triggers", record.trigger.id), encode_trigger(record)
        case UpdateTrigger(record, version):
            return ("jobs", record.job_id, "triggers", record.trigger.id), encode_trigger(record, version)
        case PutProbe(probe, version):
            return ("probes", probe.id), encode_probe(probe, version)
        case PutProject(project, version):
            return ("projects", project.id), encode_project(project, version)
        case PutPoller(poller, version):
            return ("pollers", poller.job_id), encode_poller(poller, version)
        case PutDeferred(record, version):
            return ("deferred", record.id), encode_deferred(record, version)
