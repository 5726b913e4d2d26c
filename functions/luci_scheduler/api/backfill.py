"""Backfill: one trigger for each commit of a range, for jobs that watch the ref."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context, request_key
from luci_scheduler.api.errors import ApiError, Code, failed_precondition, invalid
from luci_scheduler.api.triggering import require_active, send
from luci_scheduler.core.commit_event import CommitEvent, checked_commit, gitiles_trigger, is_deletion
from luci_scheduler.core.commit_filters import CommitFilters
from luci_scheduler.core.errors import MalformedError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.job import Job
from luci_scheduler.core.policy.registry import policy_class
from luci_scheduler.core.repo_url import RepoUrl, parse_repo_url
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.engine.commit import has_landed
from luci_scheduler.ports import GitCommit, GitilesError

__all__ = ["MAX_COMMITS", "Backfill", "BackfillPlan", "backfill_commits"]

MAX_COMMITS = 100
"""The largest number of commits of one backfill; a longer range is refused, not cut."""

_MAX_JOBS = 10  # with MAX_COMMITS: a thousand triggers, as many as EmitTriggers takes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backfill:
    """A request: the commits that lead from one revision to another on a ref."""

    job_ids: tuple[JobId, ...]
    repo: str
    """The repository in any spelling; a trigger uses the spelling of its job's config."""
    ref: str
    """Full name; each job must watch it."""
    from_revision: str
    """A hash; this commit and its ancestors get no trigger."""
    to_revision: str
    """A hash; the newest commit that gets a trigger."""


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """The commits of a backfill, and the effect on each job."""

    commits: tuple[GitCommit, ...]
    """Oldest first: the order of the triggers."""
    notes: Mapping[JobId, str]
    """For each job, a sentence about how its policy handles the triggers."""
    emitted: bool = False


def backfill_commits(context: Context, wanted: Backfill, *, preview: bool, request_id: str = "") -> BackfillPlan:
    """Emit one trigger for each commit of a range to each of the jobs, or only list the commits.

    The triggers have new IDs, so commits that have run before run again; path filters do not apply. The same
    ``request_id`` has no second effect. Costs one read for each job, one for the watchers, and two calls to Gitiles.

    Raises:
        ApiError: INVALID_ARGUMENT; NOT_FOUND: the range; PERMISSION_DENIED; FAILED_PRECONDITION: a job is paused or
            does not watch the ref, the range's end is not on the ref, or the scheduler may not read the repository.
        NoSuchJobError: a job does not exist or is not visible.
        TransientError: Gitiles or the store failed; the same request again continues the backfill.
    """
    end = _checked(wanted)
    repo = parse_repo_url(end.repo)
    key = "" if preview else request_key(context.caller, request_id)
    jobs = context.jobs_to(Permission.TRIGGER, wanted.job_ids)
    if not preview:
        for job in jobs.values():
            require_active(job)
    spelling = {job_id: watcher.repo for job_id, watcher in _watchers(context, repo, wanted, jobs).items()}
    commits = _commits(context, end, wanted.from_revision)
    notes = {job_id: _note(job, len(commits)) for job_id, job in jobs.items()}
    if preview or not commits:
        return BackfillPlan(commits, notes)
    triggers = {
        job_id: [
            _trigger(context, spelling[job_id], wanted.ref, item, number, key) for number, item in enumerate(commits)
        ]
        for job_id in jobs
    }
    start, end_revision = wanted.from_revision, wanted.to_revision
    send(context, triggers, f"api-{key}", "backfill", from_revision=start, to_revision=end_revision)
    return BackfillPlan(commits, notes, emitted=True)


def _checked(wanted: Backfill) -> CommitEvent:
    """Return the end of the range, after the checks that apply to commit events."""
    if not 0 < len(set(wanted.job_ids)) <= _MAX_JOBS:
        raise invalid(f"jobs must name 1 to {_MAX_JOBS} jobs")
    try:
        checked_commit(wanted.repo, wanted.ref, wanted.from_revision, names=("repo", "ref", "from_revision"))
        end = checked_commit(wanted.repo, wanted.ref, wanted.to_revision, names=("repo", "ref", "to_revision"))
    except MalformedError as error:
        raise invalid(str(error)) from error
    if is_deletion(end.revision):
        raise invalid("to_revision is the hash of a deleted ref")
    return end


def _watchers(context: Context, repo: RepoUrl, wanted: Backfill, jobs: Mapping[JobId, Job]) -> Mapping[JobId, Watcher]:
    """Return how each of the jobs watches the ref.

    Commits are listed only for refs that the jobs watch, so a caller cannot use the scheduler to read other
    repositories.
    """
    found: dict[JobId, Watcher] = {}
    own = [watcher for watcher in context.runtime.store.watchers(str(repo)) if watcher.job_id in jobs]
    for watcher in CommitFilters().by_ref(own, wanted.ref):
        found.setdefault(watcher.job_id, watcher)
    for job_id in jobs:
        if job_id not in found:
            raise failed_precondition(f"job {job_id} does not watch {wanted.ref} of {repo}")
    return found


def _commits(context: Context, end: CommitEvent, start: str) -> tuple[GitCommit, ...]:
    """Return the commits from ``start`` to the end of the range, oldest first; all of them have landed on the ref."""
    gitiles = context.runtime.gitiles
    if not _call_host(end, end.ref, lambda: has_landed(gitiles, end)):
        raise failed_precondition(f"to_revision {end.revision} is not on {end.ref} of {end.repo}")
    repo = parse_repo_url(end.repo)
    page = _call_host(end, start, lambda: gitiles.log(repo, end.revision, limit=MAX_COMMITS + 1, exclude=start))
    if len(page.commits) > MAX_COMMITS or page.next:
        raise invalid(f"the range has more than {MAX_COMMITS} commits: backfill it in parts")
    return page.commits[::-1]


def _call_host(end: CommitEvent, start: str, call: Callable[[], T]) -> T:
    """Call the repository's host about the commits from ``start`` to the range's end, and translate its errors."""
    try:
        return call()
    except GitilesError as error:
        about = f"{start}..{end.revision} of {end.repo}"
        if error.transient:
            raise TransientError(f"the commits {about} could not be listed: {error}") from error
        if error.code == "NOT_FOUND":
            raise ApiError(Code.NOT_FOUND, f"the repository has no commits {about}: {error}") from error
        raise failed_precondition(f"the commits {about} could not be listed: {error}") from error


def _trigger(context: Context, repo: str, ref: str, commit: GitCommit, number: int, key: str) -> Trigger:
    trigger = gitiles_trigger(repo, ref, commit.id, context.runtime.clock.now())
    return replace(trigger, id=f"{trigger.id}#backfill:{key}", order_in_batch=number, emitted_by_user=context.caller)


def _note(job: Job, commits: int) -> str:
    if job.paused:
        return "The job is paused: resume it first."
    policy = job.definition.policy
    return policy_class(policy.kind).forecast(policy, commits)
