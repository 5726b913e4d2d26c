"""The codec of records: a frozen dataclass in, a document of plain values out, and back.

Each document carries ``schema``. Readers ignore unknown members, so that old and new functions can run side by side
during a deployment. Only a field that a query needs is a document field. All other fields are JSON in one text, which
needs no index. IDs have 64 bits and are stored as decimal texts.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from luci_scheduler.adapters.documents.ids import document_id
from luci_scheduler.adapters.documents.probes import encode_probe
from luci_scheduler.adapters.documents.values import (
    SCHEMA,
    check_size,
    from_timestamp,
    known_fields,
    to_json,
    to_plain,
    to_timestamp,
)
from luci_scheduler.core.cleanup import Cleanup
from luci_scheduler.core.cron_machine import CronState
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.job import Flavor, Job, JobDefinition, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.poller_record import Backlog, PollerRecord
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import trigger_from_json, trigger_to_json
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.ports import (
    CreateTrigger,
    PutDeferred,
    PutJob,
    PutPoller,
    PutProbe,
    PutProject,
    UpdateTrigger,
    WriteWhole,
)

__all__ = [
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
    "encode_project",
    "encode_trigger",
    "encode_write",
]

_HASH = re.compile(r"[0-9a-f]{40}")
_COMMITS = "mutations"
"""The stored member that holds ``commits`` of a job and of a project. Existing documents have it under this name."""
_DEFINITION = (
    "task", "realm", "revision", "revision_url", "triggered_by", "properties", "tags", "incoming_triggers",
    "triggered_jobs", "started", "trace",
)  # fmt: skip
"""Fields of an invocation that never change after its creation. Later commits do not send them again."""


def encode_invocation(invocation: Invocation) -> dict[str, Any]:
    """Return the whole document of a new invocation, without its log."""
    definition = {name: to_plain(getattr(invocation, name)) for name in _DEFINITION}
    return {"schema": SCHEMA, "definition": to_json(definition), **encode_invocation_state(invocation)}


def encode_invocation_state(invocation: Invocation) -> dict[str, Any]:
    """Return the changing part of an invocation's document."""
    skip = {*_DEFINITION, "id", "job_id", "next_due", "expires"}
    state = {
        field.name: to_plain(getattr(invocation, field.name)) for field in fields(Invocation) if field.name not in skip
    }
    return {
        "state": to_json(state),
        "next_due": invocation.next_due,
        "expire_at": to_timestamp(invocation.expires),
        "commits": invocation.commits,
    }


def decode_invocation(job_id: JobId, invocation_id: InvocationId, document: Mapping[str, Any]) -> Invocation:
    """Read an invocation's document."""
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


def encode_job(job: Job) -> dict[str, Any]:
    """Return a job's document."""
    skip = {"id", "enabled"}
    record = {
        _stored(field.name): to_plain(getattr(job, field.name)) for field in fields(Job) if field.name not in skip
    }
    return {
        "schema": SCHEMA,
        "record": to_json(record),
        "enabled": job.enabled,
        "next_due": job.next_due,
        "commits": job.commits,
    }


def decode_job(job_id: JobId, document: Mapping[str, Any]) -> Job:
    """Read a job's document."""
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


def encode_trigger(record: TriggerRecord) -> dict[str, Any]:
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
        "record": to_json(
            {
                "trigger": trigger_to_json(trigger),
                "invocation_id": str(record.invocation_id),
                "discarded": record.discarded,
                "resolved": record.resolved,
                "deliveries": record.deliveries,
                **({"refused": True} if record.refused else {}),
            }
        ),
    }


def _revision(trigger: Trigger) -> str | None:
    revision = trigger.payload.get("revision") if trigger.is_commit else None
    # The API accepts any text as a revision. An index entry takes 1,500 bytes at most, and queries look for hashes
    # only.
    return revision if isinstance(revision, str) and _HASH.fullmatch(revision) else None


def decode_trigger(job_id: JobId, document: Mapping[str, Any]) -> TriggerRecord:
    """Read a trigger's document."""
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


def encode_project(record: ProjectRecord) -> dict[str, Any]:
    """Return a project's document."""
    values = {
        _stored(field.name): to_plain(getattr(record, field.name))
        for field in fields(ProjectRecord)
        if field.name != "id"
    }
    return {"schema": SCHEMA, "record": to_json(values), "commits": record.commits}


def decode_project(project: str, document: Mapping[str, Any]) -> ProjectRecord:
    """Read a project's document."""
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in json.loads(document["record"]).items()
    }
    return ProjectRecord(**known_fields(ProjectRecord, values | {"id": project, "commits": values.get(_COMMITS, 0)}))


def encode_poller(record: PollerRecord) -> dict[str, Any]:
    """Return a poller's document. The refs are compressed, because a repository may have tens of thousands."""
    backlog = {ref: [item.target, item.taken] for ref, item in record.backlog.items()}
    refs = to_json({"known": dict(record.known), "refs": record.refs, "backlog": backlog}).encode()
    return {"schema": SCHEMA, "repo": record.repo, "state": zlib.compress(refs), "commits": record.commits}


def decode_poller(job_id: JobId, document: Mapping[str, Any]) -> PollerRecord:
    """Read a poller's document."""
    values = json.loads(zlib.decompress(document["state"]))
    backlog = {ref: Backlog(target, taken) for ref, (target, taken) in values.get("backlog", {}).items()}
    return PollerRecord(job_id, document["repo"], values["known"], tuple(values["refs"]), document["commits"], backlog)


def encode_deferred(record: Deferred) -> dict[str, Any]:
    """Return a deferred task's document. ``revision`` is null if the task does not wait for a commit."""
    skip = {"id", "next_due", "revision"}
    values = {field.name: to_plain(getattr(record, field.name)) for field in fields(Deferred) if field.name not in skip}
    return {
        "schema": SCHEMA,
        "next_due": record.next_due,
        "revision": record.revision or None,
        "record": to_json(values),
    }


def decode_deferred(deferred_id: str, document: Mapping[str, Any]) -> Deferred:
    """Read a deferred task's document."""
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


def check_invocation_size(invocation: Invocation, log_bytes: int) -> None:
    """Check that the whole document of an invocation fits into the store. The parts that an update keeps count as well.

    Raises:
        PermanentError: it does not fit.
    """
    check_size(f"invocation {invocation.id} of {invocation.job_id}", encode_invocation(invocation), log_bytes)


def _path_and_fields(write: WriteWhole) -> tuple[tuple[str, ...], dict[str, Any]]:
    match write:
        case PutJob(job, _, None):
            return ("jobs", job.id), encode_job(job)
        case PutJob(job, _, triage_log):
            return ("jobs", job.id), {**encode_job(job), "triage_log": triage_log}
        case CreateTrigger(record) | UpdateTrigger(record):
            return ("jobs", record.job_id, "triggers", record.trigger.id), encode_trigger(record)
        case PutProbe(probe):
            return ("probes", probe.id), encode_probe(probe)
        case PutProject(project):
            return ("projects", project.id), encode_project(project)
        case PutPoller(poller):
            return ("pollers", poller.job_id), encode_poller(poller)
        case PutDeferred(record):
            return ("deferred", record.id), encode_deferred(record)


def _stored(name: str) -> str:
    return _COMMITS if name == "commits" else name
