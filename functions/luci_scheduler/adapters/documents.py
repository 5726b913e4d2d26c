"""How records are laid out in documents: plain values in, plain values out; no database client.

Each document carries ``schema``; readers ignore members that they do not know, so that old and new functions can run
side by side during a deployment. Only what a query uses is a field of its own; everything else is JSON in a text that
needs no index. IDs are 64-bit and travel as decimal texts.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import structlog

from luci_scheduler.core.cleanup import Cleanup
from luci_scheduler.core.cron_machine import CronState
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.job import Flavor, Job, JobDefinition, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.poller_record import Backlog, PollerRecord
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.sizes import MAX_DOCUMENT_BYTES
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import trigger_from_json, trigger_to_json
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.core.untrusted import storable
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.ports import CreateTrigger, PutDeferred, PutJob, PutPoller, PutProject, UpdateTrigger, WriteWhole

__all__ = [
    "SCHEMA",
    "SET_ASIDE_ROUNDS",
    "check_invocation_size",
    "check_size",
    "decode_deferred",
    "decode_invocation",
    "decode_job",
    "decode_poller",
    "decode_project",
    "decode_trigger",
    "decode_watchers",
    "document_id",
    "encode_deferred",
    "encode_invocation",
    "encode_invocation_state",
    "encode_job",
    "encode_paused",
    "encode_poller",
    "encode_project",
    "encode_trigger",
    "encode_watchers",
    "invocation_document_id",
    "plain_id",
    "put",
    "readable",
    "sorted_out",
    "stored_size",
    "watchers_document_id",
    "watchers_range",
]

_logger = structlog.stdlib.get_logger("luci_scheduler")

T = TypeVar("T")
R = TypeVar("R")

SCHEMA = 1

_MAX_ID_BYTES = 1_000  # Firestore takes 1,500 bytes
_MAX_REASON = 500  # characters
_MARK_BYTES = 17  # beside the name of a paused trigger
_HASH = re.compile(r"[0-9a-f]{40}")

_DEFINITION = (
    "task", "realm", "revision", "revision_url", "triggered_by", "properties", "tags", "incoming_triggers",
    "triggered_jobs", "started", "trace",
)  # fmt: skip
"""Fields of an invocation that never change after its creation: later commits do not send them again."""


def document_id(identifier: str) -> str:
    """Encode an identifier as a document ID: no slashes, no leading dots or underscores, bounded length.

    Raises:
        PermanentError: the identifier is empty, or is no text that can be encoded.
    """
    try:
        encoded = quote(identifier, safe="")
    except UnicodeEncodeError as error:
        raise PermanentError(f"the identifier {identifier[:200]!a} holds half of a surrogate pair") from error
    if not encoded:
        raise PermanentError("an empty identifier names no document")
    if len(encoded) > _MAX_ID_BYTES:
        return "sha256-" + hashlib.sha256(identifier.encode()).hexdigest()
    if encoded[:1] in "._":
        return f"%{ord(encoded[0]):02X}{encoded[1:]}"
    return encoded


def plain_id(encoded: str) -> str:
    """Return the identifier that a document ID stands for; hashed ones (over 1,000 bytes) cannot be turned back."""
    return unquote(encoded)


def invocation_document_id(invocation_id: InvocationId) -> str:
    """Encode an invocation's ID so that the order of names is the order of numbers: newest first."""
    return f"{invocation_id:019d}"


def check_size(what: str, document: Mapping[str, Any], extra: int = 0) -> None:
    """Check that a document fits into the store, ``extra`` bytes of its log included.

    Raises:
        PermanentError: it does not; or it holds a text that cannot be encoded.
    """
    try:
        size = extra + stored_size(document)
    except UnicodeEncodeError as error:
        raise PermanentError(f"{storable(what)} holds half of a surrogate pair, which cannot be stored") from error
    if size > MAX_DOCUMENT_BYTES:
        raise PermanentError(f"{what} would have {size} bytes, a document can hold {MAX_DOCUMENT_BYTES}")


def stored_size(document: Mapping[str, Any]) -> int:
    """Return how many bytes a document's values take in the store."""
    return sum(_size(value) for value in document.values())


def check_invocation_size(invocation: Invocation, log_bytes: int) -> None:
    """Check that an invocation's document fits into the store as a whole: what an update leaves as it is counts too.

    Raises:
        PermanentError: it does not.
    """
    check_size(f"invocation {invocation.id} of {invocation.job_id}", encode_invocation(invocation), log_bytes)


def encode_invocation(invocation: Invocation) -> dict[str, Any]:
    """Return the whole document of a new invocation, but for its log."""
    definition = {name: _plain(getattr(invocation, name)) for name in _DEFINITION}
    return {"schema": SCHEMA, "definition": _dumps(definition), **encode_invocation_state(invocation)}


def encode_invocation_state(invocation: Invocation) -> dict[str, Any]:
    """Return the part of an invocation's document that changes."""
    skip = {*_DEFINITION, "id", "job_id", "next_due", "expires"}
    state = {
        field.name: _plain(getattr(invocation, field.name)) for field in fields(Invocation) if field.name not in skip
    }
    return {
        "state": _dumps(state),
        "next_due": invocation.next_due,
        "expire_at": _timestamp(invocation.expires),
        "commits": invocation.commits,
    }


def decode_invocation(job_id: JobId, invocation_id: InvocationId, document: Mapping[str, Any]) -> Invocation:
    """Read an invocation's document."""
    values = {**json.loads(document["definition"]), **json.loads(document["state"])}
    return Invocation(
        **_known(
            Invocation,
            values
            | {
                "id": invocation_id,
                "job_id": job_id,
                "status": Status(values["status"]),
                "task": TaskDefinition(**_known(TaskDefinition, values["task"])),
                "tags": tuple(values["tags"]),
                "incoming_triggers": tuple(trigger_from_json(item) for item in values["incoming_triggers"]),
                "outgoing_triggers": tuple(trigger_from_json(item) for item in values["outgoing_triggers"]),
                "triggered_jobs": tuple(values["triggered_jobs"]),
                "pending_timers": tuple(Timer(**_known(Timer, item)) for item in values["pending_timers"]),
                "handled_notifications": tuple(values["handled_notifications"]),
                "cleanup": Cleanup(**_known(Cleanup, values["cleanup"])) if values.get("cleanup") else None,
                "next_due": document.get("next_due"),
                "expires": _instant(document.get("expire_at")),
            },
        )
    )


def readable(documents: Iterable[T], name: Callable[[T], str], decode: Callable[[T], R]) -> list[R]:
    """Decode documents one by one; those that cannot be read are logged and left out: one does not hide the others.

    Such a document may have been written by a newer version of the functions, during a deployment that was rolled back.
    """
    found = []
    for document in documents:
        try:
            found.append(decode(document))
        except Exception as error:
            _logger.exception("document_unreadable", document=name(document), reason=repr(error))
    return found


SET_ASIDE_ROUNDS = 3
"""Reads of one list of pending triggers: each sets aside the triggers that cannot be read, the next shows those behind them."""


def sorted_out(
    documents: Iterable[T], name: Callable[[T], str], decode: Callable[[T], R]
) -> tuple[list[R], list[tuple[T, dict[str, Any]]]]:
    """Decode documents of pending triggers one by one.

    Returns:
        the records, and each document that cannot be decoded with the fields that set it aside: it is pending no more and
        keeps the reason. Each of those is logged.
    """
    found, bad = [], []
    for document in documents:
        try:
            found.append(decode(document))
        except Exception as error:
            _logger.exception("trigger_set_aside", document=name(document), reason=repr(error)[:_MAX_REASON])
            bad.append((document, {"pending": None, "unreadable": repr(error)[:_MAX_REASON]}))
    return found, bad


def put(
    write: WriteWhole,
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return where a document is put that is replaced as a whole, as collection and ID in turn, and its fields.

    Raises:
        PermanentError: its name is empty or cannot be encoded.
    """
    path, document = _placed(write)
    document_id(path[-1])
    return path, document


def _placed(
    write: WriteWhole,
) -> tuple[tuple[str, ...], dict[str, Any]]:
    match write:
        case PutJob(job, _, None):
            return ("jobs", job.id), encode_job(job)
        case PutJob(job, _, triage_log):
            return ("jobs", job.id), {**encode_job(job), "triage_log": triage_log}
        case CreateTrigger(record) | UpdateTrigger(record):
            return ("jobs", record.job_id, "triggers", record.trigger.id), encode_trigger(record)
        case PutProject(project):
            return ("projects", project.id), encode_project(project)
        case PutPoller(poller):
            return ("pollers", poller.job_id), encode_poller(poller)
        case PutDeferred(record):
            return ("deferred", record.id), encode_deferred(record)


def encode_job(job: Job) -> dict[str, Any]:
    """Return a job's document."""
    skip = {"id", "enabled"}
    record = {field.name: _plain(getattr(job, field.name)) for field in fields(Job) if field.name not in skip}
    return {
        "schema": SCHEMA,
        "record": _dumps(record),
        "enabled": job.enabled,
        "next_due": job.next_due,
        "commits": job.mutations,
    }


def decode_job(job_id: JobId, document: Mapping[str, Any]) -> Job:
    """Read a job's document."""
    values = json.loads(document["record"])
    definition = values["definition"]
    return Job(
        **_known(
            Job,
            values
            | {
                "id": job_id,
                "enabled": document["enabled"],
                "cron": CronState(**_known(CronState, values.get("cron", {}))),
                "active_invocations": tuple(InvocationId(int(item)) for item in values["active_invocations"]),
                "definition": JobDefinition(
                    **_known(
                        JobDefinition,
                        definition
                        | {
                            "task": TaskDefinition(**_known(TaskDefinition, definition["task"])),
                            "flavor": Flavor(definition["flavor"]),
                            "triggered_jobs": tuple(definition["triggered_jobs"]),
                            "policy": TriggeringPolicy(**_known(TriggeringPolicy, definition["policy"])),
                        },
                    )
                ),
            },
        )
    )


def encode_trigger(record: TriggerRecord) -> dict[str, Any]:
    """Return a trigger's document.

    ``pending`` is the sort key of the pending ones and null in a marker; ``revision`` the commit that a gitiles trigger
    tells of, and null in others.
    """
    trigger = record.trigger
    return {
        "schema": SCHEMA,
        "revision": _revision(trigger),
        "pending": f"{trigger.created:020d}-{trigger.order_in_batch:010d}" if record.is_pending else None,
        "expire_at": _timestamp(record.expires),
        "record": _dumps(
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
    # What somebody emitted may say anything; an index takes 1,500 bytes, and only hashes are asked for.
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
        expires=_instant(document.get("expire_at")),
        deliveries=tuple(values["deliveries"]),
        refused=values.get("refused", False),
    )


def encode_project(record: ProjectRecord) -> dict[str, Any]:
    """Return a project's document."""
    values = {field.name: _plain(getattr(record, field.name)) for field in fields(ProjectRecord) if field.name != "id"}
    return {"schema": SCHEMA, "record": _dumps(values), "commits": record.mutations}


def decode_project(project: str, document: Mapping[str, Any]) -> ProjectRecord:
    """Read a project's document."""
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in json.loads(document["record"]).items()
    }
    return ProjectRecord(**_known(ProjectRecord, values | {"id": project}))


def encode_poller(record: PollerRecord) -> dict[str, Any]:
    """Return a poller's document; the refs are compressed, a repository may have tens of thousands."""
    backlog = {ref: [item.target, item.taken] for ref, item in record.backlog.items()}
    refs = _dumps({"known": dict(record.known), "refs": record.refs, "backlog": backlog}).encode()
    return {"schema": SCHEMA, "repo": record.repo, "state": zlib.compress(refs), "commits": record.mutations}


def decode_poller(job_id: JobId, document: Mapping[str, Any]) -> PollerRecord:
    """Read a poller's document."""
    values = json.loads(zlib.decompress(document["state"]))
    backlog = {ref: Backlog(target, taken) for ref, (target, taken) in values.get("backlog", {}).items()}
    return PollerRecord(job_id, document["repo"], values["known"], tuple(values["refs"]), document["commits"], backlog)


def encode_deferred(record: Deferred) -> dict[str, Any]:
    """Return a deferred task's document; ``revision`` is null where it waits for no commit."""
    skip = {"id", "next_due", "revision"}
    values = {field.name: _plain(getattr(record, field.name)) for field in fields(Deferred) if field.name not in skip}
    return {
        "schema": SCHEMA,
        "next_due": record.next_due,
        "revision": record.revision or None,
        "record": _dumps(values),
    }


def decode_deferred(deferred_id: str, document: Mapping[str, Any]) -> Deferred:
    """Read a deferred task's document."""
    values = json.loads(document["record"])
    queried = {"id": deferred_id, "next_due": document["next_due"], "revision": document.get("revision") or ""}
    return Deferred(**_known(Deferred, values | queried))


def watchers_document_id(repo: str, project: str) -> str:
    """Name the document of one project's watchers of a repository.

    The name of a repository's older document, which all projects shared, is the part before the exclamation mark, which no encoded
    identifier has: one range of names holds the older document and those of all projects.
    """
    return f"{document_id(repo)}!{document_id(project)}"


def watchers_range(repo: str) -> tuple[str, str]:
    """Return the first name of a repository's documents of watchers, and the first name behind them."""
    return document_id(repo), f'{document_id(repo)}"'


def encode_watchers(repo: str, project: str, watchers: tuple[Watcher, ...]) -> dict[str, Any]:
    """Return the fields to write into the document of one project's watchers; marks of paused triggers stay as they are.

    Raises:
        PermanentError: the document would be too large if each of the triggers was paused.
    """
    document = {"schema": SCHEMA, "watchers": _dumps([_watcher_row(watcher) for watcher in watchers])}
    marks = sum(len(trigger.encode()) + _MARK_BYTES for trigger in {watcher.trigger_job_id for watcher in watchers})
    size = stored_size(document) + marks
    if size > MAX_DOCUMENT_BYTES:
        raise PermanentError(
            f"the watchers that project {project} has of {repo} would take {size} bytes, at most {MAX_DOCUMENT_BYTES} fit into "
            "their document: use fewer or shorter refs, patterns and targets"
        )
    return document


def encode_paused(trigger_job_id: JobId, *, paused: bool) -> dict[str, Any]:
    """Return the fields to merge into the document of a project's watchers when one of its gitiles triggers is paused or resumed.

    A mark is never removed: it overrides the mark that an older document may have.
    """
    return {"schema": SCHEMA, "paused": {trigger_job_id: paused}}


def _watcher_row(watcher: Watcher) -> list[Any]:
    paths = [watcher.path_regexps, watcher.path_regexps_exclude]
    return [watcher.job_id, watcher.trigger_job_id, watcher.repo, watcher.refs, *(paths if any(paths) else ())]


def decode_watchers(named: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Watcher]:
    """Read the documents of a repository's watchers, each with its name; a project that cannot be read is logged and left out.

    The older document, which all projects shared, counts for projects that lack their own, and its marks for triggers that
    have not been paused or resumed since.
    """
    texts: dict[str, str] = {}
    paused: dict[str, bool] = {}
    for name, document in sorted(named, key=lambda pair: pair[0]):  # the older document is the first one
        _, is_own, project = name.partition("!")
        own = {plain_id(project): document["watchers"]} if "watchers" in document else {}
        texts.update(own if is_own else document.get("projects", {}))
        paused.update(document.get("paused", {}))
    found = readable(sorted(texts.items()), lambda pair: f"the watchers of project {pair[0]}", _rows_of)
    watchers = [watcher for of_project in found for watcher in of_project]
    return [replace(item, paused=True) if paused.get(item.trigger_job_id) else item for item in watchers]


def _rows_of(project_and_text: tuple[str, str]) -> list[Watcher]:
    """Read one project's rows; those without path filters are shorter."""
    return [
        Watcher(JobId(job), JobId(trigger_job), repo, *(tuple(texts) for texts in lists[:3]))
        for job, trigger_job, repo, *lists in json.loads(project_and_text[1])
    ]


def _timestamp(instant: Instant | None) -> datetime | None:
    """Return what the store's rule for deleting documents reads; whole seconds are enough for it."""
    return None if instant is None else datetime.fromtimestamp(instant // SECOND, UTC)


def _instant(timestamp: datetime | None) -> Instant | None:
    return None if timestamp is None else Instant(int(timestamp.timestamp()) * SECOND)


def _size(value: Any) -> int:
    match value:
        case str():
            return len(value.encode())
        case bytes():
            return len(value)
        case Mapping():
            return sum(len(name.encode()) + 1 + _size(item) for name, item in value.items())
        case _:
            return 16


def _known(record: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(record)}
    return {name: value for name, value in values.items() if name in names}


def _plain(value: Any) -> Any:
    match value:
        case Trigger():
            return trigger_to_json(value)
        case TaskDefinition():
            return {"kind": value.kind, "fields": dict(value.fields)}
        case Timer() | Cleanup() | TriggeringPolicy() | JobDefinition() | CronState():
            return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        case tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return dict(value)
        case _:
            return value


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
