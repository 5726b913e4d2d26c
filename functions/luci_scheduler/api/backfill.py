"""Backfill: a trigger for each commit of a range, for jobs that watch where it lies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context, request_hash
from luci_scheduler.api.errors import ApiError, Code, failed_precondition, invalid
from luci_scheduler.api.triggering import require_active, send
from luci_scheduler.core.commit_event import gitiles_trigger
from luci_scheduler.core.commit_filters import CommitFilters
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.job import Job, PolicyKind
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl, parse_repo_url
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.ports import Commit, GitilesError, LogPage, Watcher

__all__ = ["MAX_COMMITS", "Backfill", "BackfillPlan", "backfill_commits"]

MAX_COMMITS = 100
"""Commits that one backfill may have; a longer range is refused, not cut."""

_MAX_JOBS = 10
_REVISION = re.compile(r"[0-9a-f]{40}")
_REF = re.compile(r"refs/(?!.*(\.\.|@\{))[^\s\x00-\x20\x7f~^:?*\[\\]+")
"""What git lets a ref be called: nothing that means something else in a range of commits."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """What is asked for: the commits that lead from one revision to another on a ref."""

    job_ids: tuple[JobId, ...]
    repo: str
    """In any spelling; triggers have that of each job's config."""
    ref: str
    """Full name; each job must watch it."""
    from_revision: str
    """A hash; the commit itself gets no trigger, nor what leads to it."""
    to_revision: str
    """A hash; the newest commit that gets a trigger."""


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """What a backfill brings, or has brought."""

    commits: tuple[Commit, ...]
    """Oldest first: the order of the triggers."""
    notes: Mapping[JobId, str]
    """For each job, in words, what its policy makes of the triggers."""
    emitted: bool = False


def backfill_commits(context: Context, wanted: Backfill, *, preview: bool, request_id: str = "") -> BackfillPlan:
    """Emit a trigger for each commit of a range to each of the jobs, or only tell which those are.

    The triggers have IDs of their own, so that commits run again which have run before; path filters are not asked. The same
    ``request_id`` has no second effect. Costs a read for each job, one for who watches, and two calls to Gitiles.

    Raises:
        ApiError: INVALID_ARGUMENT; NOT_FOUND: a job, or the range; PERMISSION_DENIED; FAILED_PRECONDITION: a job is paused or
            does not watch the ref, the range's end is not on the ref, or the host does not let the scheduler read the repository.
        TransientError: Gitiles, the store or the queue failed; the same request again continues it.
    """
    repo = _checked(wanted)
    key = "" if preview else request_hash(context.caller, request_id)
    jobs = context.jobs_to(Permission.TRIGGER, wanted.job_ids)
    if not preview:
        for job in jobs.values():
            require_active(job)
    spelling = {job_id: watcher.repo for job_id, watcher in _watchers(context, repo, wanted, jobs).items()}
    commits = _commits(context, repo, wanted)
    notes = {job_id: _note(job, len(commits)) for job_id, job in jobs.items()}
    if preview or not commits:
        return BackfillPlan(commits, notes)
    triggers = {
        job_id: [
            _trigger(context, spelling[job_id], wanted.ref, item, number, key) for number, item in enumerate(commits)
        ]
        for job_id in jobs
    }
    about = {"from_revision": wanted.from_revision, "to_revision": wanted.to_revision}
    send(context, triggers, f"api-{key}", "backfill", **about)
    return BackfillPlan(commits, notes, emitted=True)


def _checked(wanted: Backfill) -> RepoUrl:
    if not 0 < len(set(wanted.job_ids)) <= _MAX_JOBS:
        raise invalid(f"jobs must name 1 to {_MAX_JOBS} jobs")
    for name, revision in (("from_revision", wanted.from_revision), ("to_revision", wanted.to_revision)):
        if not _REVISION.fullmatch(revision):
            raise invalid(f"{name} must be 40 lower-case hexadecimal digits")
    if not _REF.fullmatch(wanted.ref):
        raise invalid("ref must be a full ref name (refs/...)")
    try:
        return parse_repo_url(wanted.repo)
    except BadRepoUrlError as error:
        raise invalid(f"repo: {error}") from error


def _watchers(context: Context, repo: RepoUrl, wanted: Backfill, jobs: Mapping[JobId, Job]) -> Mapping[JobId, Watcher]:
    """Return how each of the jobs watches the ref.

    Only what a job watches is listed for it: the scheduler's right to read repositories is not lent to others.
    """
    found: dict[JobId, Watcher] = {}
    own = [watcher for watcher in context.runtime.store.watchers(str(repo)) if watcher.job_id in jobs]
    for watcher in CommitFilters().by_ref(own, wanted.ref):
        found.setdefault(watcher.job_id, watcher)
    for job_id in jobs:
        if job_id not in found:
            raise failed_precondition(f"job {job_id} does not watch {wanted.ref} of {repo}")
    return found


def _commits(context: Context, repo: RepoUrl, wanted: Backfill) -> tuple[Commit, ...]:
    """Return the commits of the range, oldest first; all of them have landed on the ref.

    Whoever may push anywhere in the repository, to a code review for instance, is not to have it built as what has landed.
    """
    if _log(context, repo, wanted, behind=wanted.ref, limit=1).commits:
        raise failed_precondition(f"to_revision {wanted.to_revision} is not on {wanted.ref} of {repo}")
    page = _log(context, repo, wanted, behind=wanted.from_revision, limit=MAX_COMMITS + 1)
    if len(page.commits) > MAX_COMMITS or page.next:
        raise invalid(f"the range has more than {MAX_COMMITS} commits: backfill it in parts")
    return page.commits[::-1]


def _log(context: Context, repo: RepoUrl, wanted: Backfill, *, behind: str, limit: int) -> LogPage:
    """Return what leads to the range's end but not to ``behind``, newest first."""
    try:
        return context.runtime.gitiles.log(repo, wanted.to_revision, limit=limit, exclude=behind)
    except GitilesError as error:
        about = f"{behind}..{wanted.to_revision} of {repo}"
        if error.transient:
            raise TransientError(f"the commits {about} could not be listed: {error}") from error
        if error.code == "NOT_FOUND":
            raise ApiError(Code.NOT_FOUND, f"the repository has no commits {about}: {error}") from error
        raise failed_precondition(f"the commits {about} could not be listed: {error}") from error


def _trigger(context: Context, repo: str, ref: str, commit: Commit, number: int, key: str) -> Trigger:
    trigger = gitiles_trigger(repo, ref, commit.id, context.runtime.clock.now())
    return replace(trigger, id=f"{trigger.id}#backfill:{key}", order_in_batch=number, emitted_by_user=context.caller)


def _note(job: Job, commits: int) -> str:
    policy = job.definition.policy
    if job.paused:
        return "The job is paused: resume it first."
    if policy.kind == PolicyKind.NEWEST_FIRST or policy.max_batch_size == 1:
        return f"{commits} invocations, at most {policy.max_concurrent_invocations} at a time."
    return (
        f"Up to {min(commits, policy.max_batch_size)} commits share an invocation, which runs the newest of them: "
        f"so says the job's policy, {policy.kind}."
    )
