"""Messages about jobs and invocations with their commits, causes and triggers."""

from __future__ import annotations

from functools import partial
from typing import Any

from luci_scheduler.api.causes import Cause, CauseKind, CommitRef, trigger_cause
from luci_scheduler.api.context import Context
from luci_scheduler.api.history import Described, ListedJob
from luci_scheduler.api.messages import invocation_message, job_message, job_ref, microseconds
from luci_scheduler.api.schema import message_class
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.job import Job, Result
from luci_scheduler.core.trigger import Trigger, sort_key
from luci_scheduler.display import displayed
from luci_scheduler.ports import GitCommit

__all__ = ["invocation_details", "listed_job", "trigger_details"]

_MAX_TRIGGERS = 50  # in the details of an invocation: the newest ones
_NO_CAUSE = Cause(CauseKind.UNKNOWN)


def trigger_details(context: Context, trigger: Trigger) -> Any:
    """Return a trigger with its cause."""
    return message_class("TriggerDetails")(
        id=trigger.id,
        title=trigger.title,
        url=displayed(trigger.url),
        kind=str(trigger.kind),
        created_ts=microseconds(trigger.created),
        cause=_cause(trigger_cause(context, trigger)),
    )


def invocation_details(context: Context, found: Described, *, with_triggers: bool = False) -> Any:
    """Return an invocation with its commit and cause.

    Args:
        context: the caller's context.
        found: the invocation.
        with_triggers: whether the newest triggers are listed.
    """
    item = found.invocation
    triggers = sorted(item.incoming_triggers, key=sort_key, reverse=True)
    reply = message_class("InvocationDetails")(
        invocation=invocation_message(item),
        cause=_cause(found.cause),
        summary=item.summary,
        attempts=item.attempts,
        next_attempt_ts=microseconds(item.next_due) if item.status is Status.RETRYING else 0,
        abort_requested_by=item.abort_requested_by,
        abort_reason=item.abort_reason,
        trigger_count=len(triggers),
        triggers=map(partial(trigger_details, context), triggers[:_MAX_TRIGGERS] if with_triggers else ()),
    )
    _add_commit(reply, found.commit, found.title)
    return reply


def listed_job(found: ListedJob) -> Any:
    """Return a job with its latest result."""
    reply = message_class("ListedJob")(job=job_message(found.job))
    if found.result:
        reply.latest.MergeFrom(_result(found.job, found.result))
        reply.latest.cause.MergeFrom(message_class("Cause")(**_cause(found.cause or _NO_CAUSE)))
        _add_commit(reply.latest, found.commit, found.title)
    return reply


def _result(job: Job, result: Result) -> Any:
    return message_class("InvocationDetails")(
        invocation={
            "invocation_ref": {"job_ref": job_ref(job.id), "invocation_id": result.invocation_id},
            "started_ts": microseconds(result.started),
            "finished_ts": microseconds(result.finished),
            "triggered_by": result.triggered_by,
            "status": str(result.status),
            "final": True,
            "view_url": displayed(result.view_url),
        },
        summary=result.summary,
    )


def _add_commit(reply: Any, commit: CommitRef | None, title: GitCommit | None) -> None:
    if commit is not None:
        about = {"subject": title.subject, "author": title.author} if title else {}
        place = {"repo": commit.repo, "ref": commit.ref, "revision": commit.revision, "other_commits": commit.others}
        reply.commit.MergeFrom(message_class("TriggerCommit")(**place, **about))


def _cause(cause: Cause) -> dict[str, str]:
    return {"kind": str(cause.kind), "by": cause.by}
