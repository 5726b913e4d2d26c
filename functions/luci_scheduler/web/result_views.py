"""Results, commits and causes as every list shows them. Wording is decided here, not in templates."""

from __future__ import annotations

from typing import Any

from luci_scheduler.api.causes import Cause, CauseKind, CommitRef, cause_of, commit_of, result_cause, result_commit
from luci_scheduler.api.commit_titles import Titles
from luci_scheduler.api.context import Context
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.humanized import exact_duration
from luci_scheduler.core.instants import Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation, result_of
from luci_scheduler.core.job import Job, Result
from luci_scheduler.web.addresses import address, invocation_address, job_address
from luci_scheduler.web.presentation import ago, label_of, safe_url, status_of

__all__ = [
    "CauseView",
    "CommitView",
    "ResultView",
    "cause_json",
    "cause_view",
    "commit_json",
    "commit_view",
    "invocation_result",
    "result_json",
    "result_view",
]

_SHORT = 8  # digits of a hash in a list

_WORDS = {
    CauseKind.COMMIT: "commit",
    CauseKind.SCHEDULE: "schedule",
    CauseKind.JOB: "another job",
    CauseKind.PERSON: "a caller",
    CauseKind.UNKNOWN: "not known",
}


@frozen
class CommitView:
    """A commit in a list; the macro ``commit`` shows it."""

    short: str
    """The first digits of its hash; another revision in full."""
    address: str
    """The page that explains the commit in all jobs; empty if the trigger does not hold a whole commit."""
    title: str
    """Hash, ref and repository, for people who point at it."""
    subject: str
    author: str
    others: int
    """How many other commits the invocation has."""


@frozen
class CauseView:
    """The cause of an invocation in a list; the macro ``cause`` shows it."""

    kind: str
    words: str
    address: str
    """The page of the job that caused it; empty without one."""


@frozen
class ResultView:
    """An invocation in a list; the macros ``result``, ``commit`` and ``cause`` show its parts."""

    address: str
    invocation_id: str
    status: str
    label: str
    """CSS class of the color of the result."""
    when: str
    at: str
    duration: str
    view_url: str
    summary: str
    """The reason of a failure; empty if it is not known."""
    commit: CommitView | None
    cause: CauseView


def commit_view(commit: CommitRef | None, titles: Titles) -> CommitView | None:
    """Return a commit as lists show it; None without one."""
    if commit is None:
        return None
    repo, ref, revision = commit.repo, commit.ref, commit.revision
    known = titles.get((repo, revision))
    return CommitView(
        short=revision[:_SHORT] if len(revision) == 40 else revision,  # noqa: PLR2004 - digits of a hash
        address=address("commits", repo=repo, revision=revision, ref=ref) if repo and revision else "",
        title=" ".join(text for text in (revision, ref, repo) if text),
        subject=known.subject if known else "",
        author=known.author if known else "",
        others=commit.others,
    )


def cause_view(cause: Cause) -> CauseView:
    """Return the cause of an invocation as lists show it."""
    if cause.kind is CauseKind.JOB and cause.by:
        return CauseView(str(cause.kind), cause.by.partition("/")[2], job_address(cause.by))
    if cause.kind is CauseKind.PERSON and cause.by:
        return CauseView(str(cause.kind), cause.by, "")
    return CauseView(str(cause.kind), _WORDS[cause.kind], job_address(cause.by) if cause.by else "")


def result_view(job: Job, result: Result, titles: Titles, now: Instant) -> ResultView:
    """Return an invocation of a job that has ended, as its job's document keeps it."""
    return ResultView(
        address=invocation_address(job.id, result.invocation_id),
        invocation_id=str(result.invocation_id),
        status=str(result.status),
        label=label_of(result.status),
        when=ago(result.finished, now),
        at=format_rfc3339(result.finished),
        duration=exact_duration(result.finished - result.started),
        view_url=safe_url(result.view_url),
        summary=result.summary,
        commit=commit_view(result_commit(result), titles),
        cause=cause_view(result_cause(job, result)),
    )


def invocation_result(context: Context, invocation: Invocation, titles: Titles, now: Instant) -> ResultView:
    """Return an invocation in the history of its job: its result, or its present status."""
    status = status_of(invocation)
    return ResultView(
        address=invocation_address(invocation.job_id, invocation.id),
        invocation_id=str(invocation.id),
        status=str(status),
        label=label_of(status),
        when=ago(invocation.started, now),
        at=format_rfc3339(invocation.started),
        duration=exact_duration((invocation.finished or now) - invocation.started),
        view_url=safe_url(invocation.view_url),
        summary=result_of(invocation).summary if status.is_final else invocation.summary,
        commit=commit_view(commit_of(invocation), titles),
        cause=cause_view(cause_of(context, invocation)),
    )


def commit_json(commit: CommitRef | None, titles: Titles) -> dict[str, Any] | None:
    """Return the JSON twin of a commit in a list; ``subject`` and ``author`` are null if they are not known."""
    if commit is None:
        return None
    known = titles.get((commit.repo, commit.revision))
    return {
        "repo": commit.repo,
        "ref": commit.ref,
        "revision": commit.revision,
        "subject": known.subject if known else None,
        "author": known.author if known else None,
        "other_commits": commit.others,
    }


def cause_json(cause: Cause) -> dict[str, Any]:
    """Return the JSON twin of a cause."""
    return {"kind": str(cause.kind), "by": cause.by or None}


def result_json(job: Job, result: Result, titles: Titles) -> dict[str, Any]:
    """Return the JSON twin of an invocation that has ended."""
    return {
        "invocation_id": str(result.invocation_id),
        "status": str(result.status),
        "started": format_rfc3339(result.started),
        "finished": format_rfc3339(result.finished),
        "summary": result.summary or None,
        "commit": commit_json(result_commit(result), titles),
        "cause": cause_json(result_cause(job, result)),
    }
