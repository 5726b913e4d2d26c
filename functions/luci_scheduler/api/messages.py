"""Conversions between the API's messages and the scheduler's records."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import json_format

from luci_scheduler.api.errors import invalid, no_such_job
from luci_scheduler.api.schema import message_class
from luci_scheduler.api.service import state_of
from luci_scheduler.api.triggering import MAX_EMITTED
from luci_scheduler.core.identifiers import InvocationId, JobId, split_job_id
from luci_scheduler.core.instants import MICROSECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.core.trigger_json import MAX_TRIGGER_BYTES
from luci_scheduler.display import displayed

__all__ = [
    "empty",
    "invocation_id_of",
    "invocation_message",
    "job_id_of",
    "job_ids_of",
    "job_message",
    "job_ref",
    "microseconds",
    "trigger_of",
]

_NAME = re.compile(r"[^/\x00-\x1f]{1,200}")


def job_id_of(ref: Any) -> JobId:
    """Return the job that a JobRef names.

    Raises:
        ApiError: NOT_FOUND: no job has such a name.
    """
    if not (_NAME.fullmatch(ref.project) and _NAME.fullmatch(ref.job)):
        raise no_such_job()
    return JobId(f"{ref.project}/{ref.job}")


def job_ids_of(refs: Any) -> tuple[JobId, ...]:
    """Return the jobs that repeated JobRefs name.

    Raises:
        ApiError: INVALID_ARGUMENT: there are too many; NOT_FOUND: no job has such a name.
    """
    if len(refs) > MAX_EMITTED:
        raise invalid(f"{len(refs)} jobs are too many for one request: at most {MAX_EMITTED}")
    return tuple(job_id_of(ref) for ref in refs)


def invocation_id_of(ref: Any) -> tuple[JobId, InvocationId]:
    """Return the job and the invocation that an InvocationRef names; the ID may be 0, which no invocation has.

    Raises:
        ApiError: NOT_FOUND.
    """
    job_id = job_id_of(ref.job_ref)
    return job_id, InvocationId(max(0, ref.invocation_id))


def job_ref(job_id: JobId) -> Any:
    """Return a JobRef."""
    project, name = split_job_id(job_id)
    return message_class("JobRef")(project=project, job=name)


def microseconds(instant: Instant | None) -> int:
    """Return an instant in microseconds, the unit of messages; 0 if there is none."""
    return 0 if instant is None else instant // MICROSECOND


def empty() -> Any:
    """Return an empty message."""
    return message_class("Empty")()


def job_message(job: Job) -> Any:
    """Return a Job message; it has the configured schedule even while the job is paused."""
    return message_class("Job")(
        job_ref=job_ref(job.id),
        schedule=job.definition.schedule,
        state={"ui_status": str(state_of(job))},
        paused=job.paused,
    )


def invocation_message(invocation: Invocation) -> Any:
    """Return an Invocation message."""
    final = invocation.status.is_final
    return message_class("Invocation")(
        invocation_ref={"job_ref": job_ref(invocation.job_id), "invocation_id": invocation.id},
        started_ts=microseconds(invocation.started),
        finished_ts=microseconds(invocation.finished) if final else 0,
        triggered_by=invocation.triggered_by,
        status=str(invocation.status),
        final=final,
        config_revision=invocation.revision,
        view_url=displayed(invocation.view_url),
    )


def trigger_of(message: Any) -> Trigger:
    """Return the trigger in a message; fields that only the scheduler sets stay empty.

    Raises:
        ApiError: INVALID_ARGUMENT: it is too large, or its properties are nested too deeply.
    """
    if (
        size := message.ByteSize()
    ) > MAX_TRIGGER_BYTES:  # its JSON is not smaller; the check comes before the conversion
        raise invalid(f"the trigger {message.id[:200]!r} has {size} bytes, at most {MAX_TRIGGER_BYTES} are allowed")
    kind = PayloadKind(message.WhichOneof("payload") or PayloadKind.NONE)
    payload: dict[str, Any] = {}
    if kind in (PayloadKind.GITILES, PayloadKind.BUILDBUCKET):
        try:
            payload = _whole(json_format.MessageToDict(getattr(message, kind), preserving_proto_field_name=True))
        except (RecursionError, ValueError, json_format.Error) as error:
            raise invalid(f"the properties of trigger {message.id!r} cannot be read: {error}") from error
    elif kind is PayloadKind.NOOP:
        payload = {"data": message.noop.data}
    if kind is PayloadKind.GITILES:
        payload = {"repo": "", "ref": "", "revision": "", **payload}
    return Trigger(id=message.id, created=Instant(0), kind=kind, payload=payload, title=message.title, url=message.url)


def _whole(value: Any) -> Any:
    """Return a JSON value with whole numbers as integers: a Struct has only floating-point numbers."""
    match value:
        case dict():
            return {name: _whole(item) for name, item in value.items()}
        case list():
            return [_whole(item) for item in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value
