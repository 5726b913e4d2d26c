"""Triggers that people and programs request: emit, trigger now, rerun.

Each request is recorded as a deferred task, which ``on_task`` runs. A trigger is new if its ID is new. IDs are derived
from the caller's ``request_id``, so the same request has one effect even if it is sent again, or five times at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context, request_key
from luci_scheduler.api.errors import failed_precondition, invalid
from luci_scheduler.core.commit_event import is_deletion, trigger_commit
from luci_scheduler.core.deferred import deferred_id
from luci_scheduler.core.errors import MalformedError, PermanentError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import MICROSECOND, MINUTE, SECOND, Instant, to_datetime
from luci_scheduler.core.job import Job
from luci_scheduler.core.kv_lists import check_kv_list
from luci_scheduler.core.queue_tasks import TriggerTask
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.core.trigger_json import MAX_TRIGGER_BYTES, stored_bytes
from luci_scheduler.engine.deferral import defer_all, emit_work, trigger_work

__all__ = [
    "MAX_EMITTED",
    "Batch",
    "Emitted",
    "check_count",
    "emit_triggers",
    "is_repeated",
    "require_active",
    "rerun_invocation",
    "send",
    "trigger_job",
]

MAX_EMITTED = 1000
"""Triggers that one request may contain, counted once for each job."""

_MAX_CLOCK_DIFFERENCE = 15 * MINUTE  # the original's
_MAX_TIMESTAMP = 1 << 53  # microseconds; as nanoseconds it still fits into 64 bits
_PART_BYTES = 800_000
"""The size of the triggers of one deferred task, as JSON; its document has room for 1,000,000 bytes."""

_PAUSE = SECOND
"""The pause between the parts of one job, so that each part's triggers are newer than the previous part's."""


@frozen
class Batch:
    """A trigger and its jobs; ``created`` and ``emitted_by_user`` are set when it is emitted."""

    trigger: Trigger
    job_ids: tuple[JobId, ...]


@frozen
class Emitted:
    """The triggers of a request."""

    trigger_ids: tuple[str, ...]
    repeated: bool
    """Whether the same request had emitted them before."""


def emit_triggers(context: Context, batches: Sequence[Batch], timestamp: int = 0) -> None:
    """Emit triggers, oldest batch first; either every job gets its triggers, or none does.

    A job skips a trigger whose ID it has seen. A paused job accepts triggers and drops them, as in the original.

    Args:
        context: the caller's context.
        batches: the triggers and their jobs.
        timestamp: when, in microseconds, at most 15 minutes from now; 0: now.

    Raises:
        ApiError: INVALID_ARGUMENT; PERMISSION_DENIED.
        NoSuchJobError: some jobs do not exist or are not visible; the text names them.
        TransientError: not all triggers are recorded; emit the same triggers again.
    """
    check_count(sum(len(batch.job_ids) for batch in batches))
    created = _created(timestamp, context.runtime.clock.now())
    triggers: dict[JobId, list[Trigger]] = {}
    for number, batch in enumerate(batches):
        trigger = replace(
            batch.trigger,
            created=created,
            order_in_batch=number,
            emitted_by_user=context.caller,
            job_id="",
            invocation_id=0,
        )
        if problem := _problem(context, trigger):  # the size includes the members added above
            raise invalid(f"bad trigger #{number} ({quote(trigger.id)}) - {problem}")
        for job_id in batch.job_ids:
            triggers.setdefault(job_id, []).append(trigger)
    context.jobs_to(Permission.TRIGGER, list(triggers))
    send(context, triggers, context.fresh_key(), "emit", check=True)


def check_count(triggers: int) -> None:
    """Check the number of triggers in one request, counted once for each job.

    Raises:
        ApiError: INVALID_ARGUMENT.
    """
    if triggers > MAX_EMITTED:
        raise invalid(f"{triggers} triggers, counted for each job, are too many for one request: at most {MAX_EMITTED}")


def trigger_job(context: Context, job_id: JobId, request_id: str) -> Emitted:
    """Trigger a job as the button on its page does.

    The same ``request_id`` has no second effect. Costs three reads.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        ApiError: INVALID_ARGUMENT; PERMISSION_DENIED; FAILED_PRECONDITION: the job is paused.
    """
    key = request_key(context.caller, request_id)
    require_active(context.job_to(Permission.TRIGGER, job_id))
    trigger = Trigger(
        id=f"webui:{key}", created=context.runtime.clock.now(), kind=PayloadKind.WEBUI, emitted_by_user=context.caller
    )
    repeated = is_repeated(context, job_id, trigger.id, f"api-{key}")
    send(context, {job_id: [trigger]}, f"api-{key}", "trigger")
    return Emitted((trigger.id,), repeated)


def rerun_invocation(context: Context, job_id: JobId, invocation_id: InvocationId, request_id: str) -> Emitted:
    """Emit an invocation's triggers again, under new IDs, for the job's present definition.

    The same ``request_id`` has no second effect. Costs four reads.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        NoSuchInvocationError: the invocation does not exist.
        ApiError: INVALID_ARGUMENT; PERMISSION_DENIED; FAILED_PRECONDITION: the job is paused, or the invocation had no
            triggers.
    """
    key = request_key(context.caller, request_id)
    require_active(context.job_to(Permission.TRIGGER, job_id))
    incoming = context.invocation(job_id, invocation_id).incoming_triggers
    if not incoming:
        raise failed_precondition("the invocation had no triggers that could be emitted again")
    created = context.runtime.clock.now()
    triggers = [
        replace(
            trigger,
            id=f"rerun:{invocation_id}:{key}:{number}",
            title=trigger.title or trigger.id,
            created=created,
            order_in_batch=number,
            emitted_by_user=context.caller,
            job_id="",
            invocation_id=0,
        )
        for number, trigger in enumerate(incoming)
    ]
    repeated = is_repeated(context, job_id, triggers[0].id, f"api-{key}")
    send(context, {job_id: triggers}, f"api-{key}", "rerun", invocation_id=str(invocation_id))
    return Emitted(tuple(trigger.id for trigger in triggers), repeated)


def is_repeated(context: Context, job_id: JobId, trigger_id: str, key: str) -> bool:
    """Return whether a request was recorded before; costs two reads.

    Args:
        context: the caller's context.
        job_id: the job.
        trigger_id: a trigger of the request.
        key: the request's idempotency key, as `send` gets it.
    """
    store = context.runtime.store
    # The work comes first: it is deleted only after its triggers are stored.
    if store.deferred(deferred_id(TriggerTask.kind, job_id, key)) is not None:
        return True
    return store.trigger(job_id, trigger_id) is not None


def send(
    context: Context,
    triggers: Mapping[JobId, Sequence[Trigger]],
    key: str,
    action: str,
    *,
    check: bool = False,
    **about: str,
) -> None:
    """Record triggers as deferred tasks, through which they will reach their jobs, and write audit lines.

    The triggers of one job are one task and so one triage. If they do not fit into the task's document, they are split
    into several tasks, one second apart. Each task has a key derived from ``key``, and the same triggers are always
    split in the same way.

    Args:
        context: the caller's context.
        triggers: the triggers of each job.
        key: the request's idempotency key.
        action: the action in the audit line.
        check: whether the triggers' commits must have landed on their refs.
        about: more fields of the audit line.

    Raises:
        TransientError: not all triggers are recorded; send the same triggers again.
    """
    limits, now = context.runtime.limits, context.runtime.clock.now()
    works = []
    for job_id, items in triggers.items():
        for number, part in enumerate(_parts(items)):
            part_key, due = f"{key}-{number}" if number else key, Instant(now + number * _PAUSE)
            work = trigger_work(job_id, part, part_key, now, due)
            works.append(emit_work(work, part, limits.commit_wait) if check else work)
    defer_all(context.runtime, works)
    for job_id, items in triggers.items():
        names = [item.id for item in items]
        context.audit(Permission.TRIGGER, how=action, job_id=job_id, trigger_ids=names, key=key, **about)


def require_active(job: Job) -> None:
    """Refuse to trigger a paused job, which would drop the trigger.

    Raises:
        ApiError: FAILED_PRECONDITION.
    """
    if job.paused:
        raise failed_precondition("Cannot trigger a paused job. Resume it first.")


def _parts(triggers: Sequence[Trigger]) -> list[list[Trigger]]:
    """Return triggers in order, split so that each part fits into a document."""
    parts: list[list[Trigger]] = []
    room = 0
    for trigger in triggers:
        size = stored_bytes(trigger)
        if not parts or size > room:
            parts.append([])
            room = _PART_BYTES
        parts[-1].append(trigger)
        room -= size
    return parts


def _created(timestamp: int, now: Instant) -> Instant:
    if not timestamp:
        return now
    if not 0 < timestamp <= _MAX_TIMESTAMP:
        raise invalid("the provided timestamp doesn't look like a valid number of microseconds since epoch")
    created = Instant(timestamp * MICROSECOND)
    if abs(created - now) > _MAX_CLOCK_DIFFERENCE:
        side = "future" if created > now else "past"
        raise invalid(
            f"the provided timestamp ({_shown(created)}) is more than 15 min in the {side} "
            f"based on the server clock value {_shown(now)}"
        )
    return created


def _shown(instant: Instant) -> str:
    """Return an instant as Go prints it."""
    moment: datetime = to_datetime(instant)
    fraction = f".{instant % 10**9:09d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def _problem(context: Context, trigger: Trigger) -> str:
    if not trigger.id:
        return "trigger id is required"
    if trigger.kind == PayloadKind.CRON:
        return "emitting cron triggers through API is not allowed"
    if trigger.kind == PayloadKind.WEBUI:
        return "emitting web UI triggers through API is not allowed"
    if (size := stored_bytes(trigger)) > MAX_TRIGGER_BYTES:
        return f"it has {size} bytes, at most {MAX_TRIGGER_BYTES} are allowed"
    try:
        check_kv_list("tag", trigger.payload.get("tags") or ())
    except PermanentError as error:
        return str(error)
    return _commit_problem(context, trigger) if trigger.is_commit else ""


def _commit_problem(context: Context, trigger: Trigger) -> str:
    try:
        commit = trigger_commit(trigger, context.runtime.hosts)
    except MalformedError as error:
        return str(error)
    return "the revision is the hash of a deleted ref" if is_deletion(commit.revision) else ""
