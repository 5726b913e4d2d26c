"""Invocations with their commits and causes: the history of a job, and one invocation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from luci_scheduler.api.commit_titles import commit_titles
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import invalid
from luci_scheduler.api.service import MAX_PAGE
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.page_cursor import BadCursorError, decode_cursor, encode_cursor
from luci_scheduler.core.trigger import PayloadKind, Trigger, sort_key

__all__ = [
    "MAX_SCANNED",
    "Described",
    "HistoryPage",
    "NamedCommit",
    "cause_of",
    "commit_of",
    "describe_all",
    "describe_invocation",
    "get_history",
    "named_commits",
]

MAX_SCANNED = 500
"""Invocations that one call reads to find those with the requested results."""


@dataclass(frozen=True, slots=True)
class NamedCommit:
    """A commit of a trigger, with its subject and author if they are known quickly."""

    repo: str
    """As the trigger spells it."""
    ref: str
    revision: str
    subject: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class Described:
    """An invocation with its newest commit."""

    invocation: Invocation
    commit: NamedCommit | None
    """The newest commit of its triggers; None without one."""
    commit_count: int
    """The number of its commit triggers."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of a job's history, newest first."""

    invocations: tuple[Described, ...]
    next_cursor: str
    """The cursor of the next page; empty at the end of the history."""


def get_history(
    context: Context, job_id: JobId, statuses: Collection[str] = (), cursor: str = "", page_size: int = 0
) -> HistoryPage:
    """Return a page of a job's invocations with their commits, newest first.

    With ``statuses``, the page has only invocations of these statuses. It may then have fewer of them, or none, before
    the end of the history: a cursor means that there is more. Costs one read for the job and one for each invocation
    that is read: one more than the page has, or with ``statuses`` at most `MAX_SCANNED`. Subjects cost what
    `commit_titles` costs.

    Args:
        context: the caller's context.
        job_id: the job.
        statuses: names of statuses; empty: all.
        cursor: ``next_cursor`` of the previous page; empty for the first page.
        page_size: the number of invocations; 50 if it is not between 1 and 50.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        ApiError: INVALID_ARGUMENT: a status or the cursor is unknown.
    """
    wanted = _statuses(statuses)
    try:
        after = decode_cursor(cursor)
    except BadCursorError as error:
        raise invalid(f"cursor: {error}: pass next_cursor of the previous page") from error
    context.visible_job(job_id)
    size = page_size if 0 < page_size <= MAX_PAGE else MAX_PAGE
    found, last = _scan(context, job_id, wanted, after, size)
    return HistoryPage(tuple(describe_all(context, found)), encode_cursor(last))


def _scan(
    context: Context, job_id: JobId, wanted: Collection[Status], after: InvocationId | None, size: int
) -> tuple[list[Invocation], InvocationId]:
    """Return up to ``size`` wanted invocations, and the last one that was considered; 0 at the end of the history."""
    found: list[Invocation] = []
    scanned, chunk = 0, size + 1 if len(wanted) == len(Status) else MAX_PAGE
    while scanned < MAX_SCANNED:
        listed = context.runtime.store.invocations(job_id, chunk, after)
        for item in listed:
            if len(found) == size:
                return found, found[-1].id
            if item.status in wanted:
                found.append(item)
            after = item.id
        if len(listed) < chunk:
            return found, InvocationId(0)
        scanned += len(listed)
    return found, after or InvocationId(0)


def _statuses(names: Collection[str]) -> frozenset[Status]:
    try:
        return frozenset(map(Status, names)) or frozenset(Status)
    except ValueError as error:
        raise invalid(f"statuses must be among {', '.join(Status)}: {error}") from error


def describe_invocation(context: Context, job_id: JobId, invocation_id: InvocationId) -> Described:
    """Return an invocation with its newest commit; costs two reads, and what `commit_titles` costs.

    Raises:
        NoSuchJobError: the job does not exist or is not visible.
        NoSuchInvocationError: the invocation does not exist.
    """
    context.visible_job(job_id)
    (found,) = describe_all(context, [context.invocation(job_id, invocation_id)])
    return found


def describe_all(context: Context, invocations: Sequence[Invocation]) -> list[Described]:
    """Return invocations of visible jobs with their newest commits; costs what `commit_titles` costs."""
    newest = [max(_commits(item), key=sort_key, default=None) for item in invocations]
    named = iter(named_commits(context, [commit_of(item) for item in newest if item is not None]))
    commits = [next(named) if item is not None else None for item in newest]
    return [Described(item, commit, len(_commits(item))) for item, commit in zip(invocations, commits, strict=True)]


def commit_of(trigger: Trigger) -> NamedCommit:
    """Return the commit of a commit trigger, without its subject."""
    return NamedCommit(*(str(trigger.payload.get(name, "")) for name in ("repo", "ref", "revision")))


def named_commits(context: Context, commits: Sequence[NamedCommit]) -> list[NamedCommit]:
    """Return commits with their subjects and authors, as far as they are known; costs what `commit_titles` costs."""
    titles = commit_titles(context, [(item.repo, item.revision) for item in commits])
    found = [(item, titles.get((item.repo, item.revision))) for item in commits]
    return [replace(item, subject=known.subject, author=known.author) if known else item for item, known in found]


def _commits(invocation: Invocation) -> list[Trigger]:
    return [trigger for trigger in invocation.incoming_triggers if trigger.is_commit]


def cause_of(trigger: Trigger) -> str:
    """Return the cause that a trigger stands for, in a few words: ``commit, found by proj/poller``."""
    who, job = trigger.emitted_by_user.removeprefix("user:"), trigger.job_id
    if trigger.kind is PayloadKind.CRON:
        return "schedule"
    if trigger.id.startswith("rerun:"):
        return f"rerun by {who}"
    if "#backfill:" in trigger.id:
        return f"backfill by {who}"
    if trigger.kind is PayloadKind.WEBUI or "#trigger:" in trigger.id:
        return f"triggered by {who}"
    if who:
        return f"emitted by {who}"
    if trigger.is_commit:
        return f"commit, found by {job}" if job else "commit"
    return f"job {job}" if job else "trigger"
