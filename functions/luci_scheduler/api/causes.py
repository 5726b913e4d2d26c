"""The commit and the cause of an invocation, as lists show them. They cost no read."""

from __future__ import annotations

from enum import StrEnum

from luci_scheduler.api.context import Context
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId, project_of
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Flavor, Job, Result
from luci_scheduler.core.trigger import PayloadKind, Trigger, sort_key

__all__ = ["Cause", "CauseKind", "CommitRef", "cause_of", "commit_of", "result_cause", "result_commit", "trigger_cause"]


class CauseKind(StrEnum):
    """The kinds of causes of an invocation."""

    COMMIT = "commit"
    SCHEDULE = "schedule"
    PERSON = "person"
    """A person or a service that called the API."""
    JOB = "job"
    UNKNOWN = "unknown"


@frozen
class Cause:
    """The reason why an invocation ran."""

    kind: CauseKind
    by: str = ""
    """The e-mail address or identity of a person; the ID of the job that emitted the trigger; empty if not known.

    The job is named only to a caller who sees every job of its project: a check of its realm would cost a read.
    """


@frozen
class CommitRef:
    """The newest commit among the triggers of an invocation."""

    repo: str
    ref: str
    revision: str
    others: int = 0
    """How many other commits the invocation has."""


def commit_of(invocation: Invocation) -> CommitRef | None:
    """Return the newest commit of an invocation; None without one."""
    commits = [trigger for trigger in invocation.incoming_triggers if trigger.is_commit]
    if not commits:
        return None
    newest = max(commits, key=sort_key)
    repo, ref, revision = (str(newest.payload.get(name) or "") for name in ("repo", "ref", "revision"))
    return CommitRef(repo, ref, revision, len({str(item.payload.get("revision")) for item in commits}) - 1)


def result_commit(result: Result) -> CommitRef | None:
    """Return the newest commit of an invocation that has ended; None without one."""
    if not result.revisions:
        return None
    count = max(result.commit_count, len(result.revisions))
    return CommitRef(result.repo, result.ref, result.revisions[0], count - 1)


def cause_of(context: Context, invocation: Invocation) -> Cause:
    """Return the cause of an invocation: the identity that requested it, otherwise its newest trigger."""
    if invocation.triggered_by:
        return Cause(CauseKind.PERSON, invocation.triggered_by.removeprefix("user:"))
    triggers = invocation.incoming_triggers
    newest = max(triggers, key=lambda one: (one.is_commit, *sort_key(one)), default=None)
    return trigger_cause(context, newest) if newest else Cause(CauseKind.UNKNOWN)


def trigger_cause(context: Context, trigger: Trigger) -> Cause:
    """Return the cause that one trigger stands for, with the name of its job if the caller may see that."""
    if trigger.emitted_by_user:
        return Cause(CauseKind.PERSON, trigger.emitted_by_user.removeprefix("user:"))
    if trigger.is_commit:
        return Cause(CauseKind.COMMIT, _named(context, trigger))
    if trigger.kind == PayloadKind.CRON:
        return Cause(CauseKind.SCHEDULE)
    return Cause(CauseKind.JOB, _named(context, trigger)) if trigger.job_id else Cause(CauseKind.UNKNOWN)


def result_cause(job: Job, result: Result) -> Cause:
    """Return the cause of an invocation that has ended.

    A result does not name the triggers, so the kind of its job decides between a schedule and another job.
    """
    if result.triggered_by:
        return Cause(CauseKind.PERSON, result.triggered_by.removeprefix("user:"))
    if result.revisions:
        return Cause(CauseKind.COMMIT)
    return Cause(CauseKind.JOB if job.definition.flavor is Flavor.TRIGGERED else CauseKind.SCHEDULE)


def _named(context: Context, trigger: Trigger) -> str:
    is_visible = trigger.job_id and context.sees_all(project_of(JobId(trigger.job_id)))
    return trigger.job_id if is_visible else ""
