"""Backfill: one trigger for each commit of a range, for jobs that watch the ref."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context, request_key
from luci_scheduler.api.errors import ApiError, Code, HostUnavailableError, failed_precondition, invalid
from luci_scheduler.api.only_choice import repo_and_ref
from luci_scheduler.api.revisions import check_expression, resolve_revision
from luci_scheduler.api.triggering import is_repeated, require_active, send
from luci_scheduler.core.commit_event import CommitEvent, checked_commit, gitiles_trigger, is_deletion
from luci_scheduler.core.commit_filters import CommitFilters, has_path_filter
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import Job
from luci_scheduler.core.policy.registry import policy_class
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.engine.commit import has_landed
from luci_scheduler.ports import GitCommit, GitilesError

__all__ = ["MAX_COMMITS", "Backfill", "BackfillPlan", "backfill_commits", "require_landed", "watchers_of_ref"]

MAX_COMMITS = 100
"""The largest number of commits of one backfill; a longer range is refused, not cut."""

_ANY_HASH = "1" * 40  # checks the other members of a commit event
_MAX_JOBS = 10  # with MAX_COMMITS: a thousand triggers, as many as EmitTriggers takes

T = TypeVar("T")


@frozen
class Backfill:
    """A request: the commits that lead from one revision to another on a ref."""

    job_ids: tuple[JobId, ...]
    repo: str
    """The repository in any spelling; a trigger uses the spelling of its job's config. Empty: the only
    repository of the jobs."""
    ref: str
    """Full name; each job must watch it. Empty: as in `api.only_choice`, where the range's end names the branch."""
    from_revision: str
    """As `api.revisions` reads it; this commit and its ancestors get no trigger."""
    to_revision: str
    """As `api.revisions` reads it; the newest commit that gets a trigger."""


@frozen
class BackfillPlan:
    """The commits of a backfill, and the effect on each job."""

    commits: tuple[GitCommit, ...]
    """Oldest first: the order of the triggers."""
    notes: Mapping[JobId, str]
    """For each job, a sentence about how its policy handles the triggers."""
    from_revision: str
    """The hash of the range's beginning."""
    to_revision: str
    """The hash of the range's end."""
    emitted: bool = False
    trigger_ids: Mapping[JobId, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """The emitted triggers of each job, in the order of the commits."""
    repeated: bool = False
    """Whether the same request had emitted them before."""
    ran: Mapping[JobId, Mapping[str, InvocationId]] = field(default_factory=dict)
    """In a preview: for each job, the commits that an invocation has taken, each with the invocation."""
    filtered: Mapping[JobId, Collection[str]] = field(default_factory=dict)
    """In a preview: for each job, the commits that its path filter excludes. A backfill runs them anyway."""


def backfill_commits(context: Context, wanted: Backfill, *, preview: bool, request_id: str = "") -> BackfillPlan:
    """Emit one trigger for each commit of a range to each of the jobs, or only list the commits.

    The triggers have new IDs, so commits that have run before run again; path filters do not apply. The same
    ``request_id`` has no second effect, if both ends of the range still name the same commits: a full hash always does.
    Costs one read for each job, one for the watchers and two more, two calls to Gitiles, and one more call for each end
    that is not a hash. A preview also costs one read for each commit and job. Without repository or ref, up to ten more
    for the jobs that trigger each job.

    Raises:
        ApiError: INVALID_ARGUMENT; NOT_FOUND: the range; PERMISSION_DENIED; FAILED_PRECONDITION: a job is paused or
            does not watch the ref, the range's end is not on the ref, or the scheduler may not read the repository.
        NoSuchJobError: a job does not exist or is not visible.
        TransientError: Gitiles or the store failed; the same request again continues the backfill.
    """
    _check(context, wanted)
    key = "" if preview else request_key(context.caller, request_id)
    jobs = context.jobs_to(Permission.TRIGGER, wanted.job_ids)
    if not preview:
        for job in jobs.values():
            require_active(job)
    repository, ref = repo_and_ref(context, jobs.values(), wanted.repo, wanted.ref, wanted.to_revision)
    wanted = replace(wanted, repo=repository, ref=ref)
    repo = RepoUrl.read_back(_end(context, wanted, _ANY_HASH).repo)
    watchers = watchers_of_ref(context, repo, wanted.ref, jobs)
    start = resolve_revision(context, repo, wanted.from_revision, "from_revision")
    end = _end(context, wanted, resolve_revision(context, repo, wanted.to_revision, "to_revision"))
    commits = _commits(context, end, start, diffs=preview and any(map(has_path_filter, watchers.values())))
    notes = {job_id: _note(job, len(commits)) for job_id, job in jobs.items()}
    plan = BackfillPlan(commits, notes, start, end.revision)
    if preview:
        ran, filtered = _ran(context, watchers, wanted.ref, commits), _filtered(watchers, commits)
        return replace(plan, ran=ran, filtered=filtered)
    if not commits:
        return plan
    return replace(plan, **_emit(context, wanted, plan, watchers, key))


def _emit(
    context: Context, wanted: Backfill, plan: BackfillPlan, watchers: Mapping[JobId, Watcher], key: str
) -> Mapping[str, Any]:
    """Emit the triggers of a plan, and return the members of the plan that change."""
    triggers = {
        job_id: [
            _trigger(context, watcher.repo, wanted.ref, item, number, key) for number, item in enumerate(plan.commits)
        ]
        for job_id, watcher in watchers.items()
    }
    first = min(triggers)
    repeated = is_repeated(context, first, triggers[first][0].id, f"api-{key}")
    start, end = plan.from_revision, plan.to_revision
    send(context, triggers, f"api-{key}", "backfill", from_revision=start, to_revision=end)
    ids = {job_id: tuple(item.id for item in items) for job_id, items in triggers.items()}
    return {"emitted": True, "trigger_ids": ids, "repeated": repeated}


def _check(context: Context, wanted: Backfill) -> None:
    """Refuse a wrong request as far as no call is needed for that."""
    if not 0 < len(set(wanted.job_ids)) <= _MAX_JOBS:
        raise invalid(f"jobs must name 1 to {_MAX_JOBS} jobs")
    check_expression(wanted.from_revision, "from_revision")
    check_expression(wanted.to_revision, "to_revision")
    if is_deletion(wanted.to_revision):
        raise invalid("to_revision is the hash of a deleted ref")
    if wanted.repo and wanted.ref:
        _end(context, wanted, _ANY_HASH)


def _end(context: Context, wanted: Backfill, revision: str) -> CommitEvent:
    """Return the end of the range, after the checks that apply to commit events."""
    try:
        names, hosts = ("repo", "ref", "to_revision"), context.runtime.hosts
        return checked_commit(wanted.repo, wanted.ref, revision, names=names, hosts=hosts)
    except MalformedError as error:
        raise invalid(str(error)) from error


def watchers_of_ref(context: Context, repo: RepoUrl, ref: str, job_ids: Collection[JobId]) -> Mapping[JobId, Watcher]:
    """Return how each of the jobs watches a ref; costs one read for each project that watches the repository.

    Commits are read only of refs that the jobs watch, so a caller cannot use the scheduler to read other repositories.

    Raises:
        ApiError: FAILED_PRECONDITION: a job does not watch the ref.
    """
    found: dict[JobId, Watcher] = {}
    own = [watcher for watcher in context.runtime.store.watchers(str(repo)) if watcher.job_id in job_ids]
    for watcher in CommitFilters().by_ref(own, ref):
        found.setdefault(watcher.job_id, watcher)
    for job_id in job_ids:
        if job_id not in found:
            raise failed_precondition(f"job {job_id} does not watch {ref} of {repo}")
    return found


def _ran(
    context: Context, watchers: Mapping[JobId, Watcher], ref: str, commits: Sequence[GitCommit]
) -> Mapping[JobId, Mapping[str, InvocationId]]:
    """Return the commits whose own triggers an invocation of the job has taken."""
    keys = [
        (job_id, gitiles_trigger(watcher.repo, ref, commit.id, Instant(0)).id)
        for job_id, watcher in watchers.items()
        for commit in commits
    ]
    ran: dict[JobId, dict[str, InvocationId]] = {job_id: {} for job_id in watchers}
    for record in context.runtime.store.triggers(keys) if keys else ():
        if record.invocation_id:
            ran[record.job_id][str(record.trigger.payload["revision"])] = record.invocation_id
    return ran


def _filtered(watchers: Mapping[JobId, Watcher], commits: Sequence[GitCommit]) -> Mapping[JobId, Collection[str]]:
    """Return the commits that the jobs' path filters exclude; without those whose patterns cost too much to decide."""
    filtered = {job_id: set[str]() for job_id in watchers}
    for commit in commits:
        for job_id in CommitFilters().excluded_by_paths(list(watchers.values()), commit.known_diff):
            filtered[job_id].add(commit.id)
    return filtered


def _commits(context: Context, end: CommitEvent, start: str, *, diffs: bool) -> tuple[GitCommit, ...]:
    """Return the commits from ``start`` to the end of the range, oldest first; all of them have landed on the ref."""
    gitiles = context.runtime.gitiles
    require_landed(context, end, "to_revision")
    repo = RepoUrl.read_back(end.repo)
    page = _call_host(
        end, start, lambda: gitiles.log(repo, end.revision, limit=MAX_COMMITS + 1, exclude=start, diffs=diffs)
    )
    if len(page.commits) > MAX_COMMITS or page.next:
        raise invalid(f"the range has more than {MAX_COMMITS} commits: backfill it in parts")
    return page.commits[::-1]


def require_landed(context: Context, commit: CommitEvent, name: str) -> None:
    """Refuse a commit that is not on its ref; costs one call to the repository's host.

    Args:
        context: the caller's context.
        commit: the commit.
        name: the name of its field in the error.

    Raises:
        ApiError: FAILED_PRECONDITION: it is not, or the scheduler may not read the repository; NOT_FOUND.
        HostUnavailableError: the host did not answer.
    """
    if not _call_host(commit, commit.ref, lambda: has_landed(context.runtime.gitiles, commit)):
        raise failed_precondition(f"{name} {commit.revision} is not on {commit.ref} of {commit.repo}")


def _call_host(end: CommitEvent, start: str, call: Callable[[], T]) -> T:
    """Call the repository's host about the commits from ``start`` to the range's end, and translate its errors."""
    try:
        return call()
    except GitilesError as error:
        about = f"{start}..{end.revision} of {end.repo}"
        if error.transient:
            raise HostUnavailableError(
                f"the commits {about} could not be listed, because its host did not answer ({error}): try again"
            ) from error
        if error.code == "NOT_FOUND":
            raise ApiError(Code.NOT_FOUND, f"the repository has no commits {about}: {error}") from error
        raise failed_precondition(f"the commits {about} could not be listed: {error}") from error


def _trigger(context: Context, repo: str, ref: str, commit: GitCommit, number: int, key: str) -> Trigger:
    trigger = gitiles_trigger(repo, ref, commit.id, context.runtime.clock.now(), context.runtime.hosts)
    return replace(trigger, id=f"{trigger.id}#backfill:{key}", order_in_batch=number, emitted_by_user=context.caller)


def _note(job: Job, commits: int) -> str:
    if job.paused:
        return "The job is paused: resume it first."
    policy = job.definition.policy
    return policy_class(policy.kind).forecast(policy, commits)
