"""A job triggered by hand for one commit, as if the commit had just landed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from luci_scheduler.api.access import Permission
from luci_scheduler.api.backfill import require_landed, watchers_of_ref
from luci_scheduler.api.context import Context, request_key
from luci_scheduler.api.errors import invalid
from luci_scheduler.api.overviews import visible_sources
from luci_scheduler.api.revisions import check_expression, resolve_revision
from luci_scheduler.api.triggering import Emitted, is_repeated, require_active, send
from luci_scheduler.core.commit_event import CommitEvent, checked_commit, gitiles_trigger, is_deletion
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.job import Job
from luci_scheduler.core.ref_validation import REGEXP
from luci_scheduler.core.repo_url import BadRepoUrlError, parse_repo_url
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.managers.task_kind import PolledRepo

__all__ = ["WantedCommit", "trigger_at_commit"]

_ANY_HASH = "1" * 40  # checks the other members of a commit event
_HEX = re.compile("[0-9a-fA-F]{4,40}")


@dataclass(frozen=True, slots=True)
class WantedCommit:
    """A commit that a user names."""

    repo: str
    """The repository in any spelling; the trigger uses the spelling of the job's config. Empty: the job's only
    repository."""
    ref: str
    """The full name of a ref that the job watches. Empty: the job's only ref. If it watches several refs or a pattern,
    an empty ref stands for the branch that the revision names, and for main if that is HEAD."""
    revision: str
    """As `api.revisions` reads it."""


def trigger_at_commit(context: Context, job_id: JobId, wanted: WantedCommit, request_id: str) -> Emitted:
    """Trigger a job for one commit.

    A commit that has run before runs again, and path filters do not apply. The same ``request_id`` has no second
    effect, if the revision still names the same commit: a full hash always does. Costs three reads, one for each
    project that watches the repository, and up to ten for the jobs that trigger it if the repository or the ref is not
    given; one call to Gitiles, and one more if the revision is not a hash.

    Raises:
        ApiError: INVALID_ARGUMENT; NOT_FOUND: the revision; PERMISSION_DENIED; FAILED_PRECONDITION: the job is paused
            or does not watch the ref, or the commit is not on it.
        NoSuchJobError: the job does not exist or is not visible.
        TransientError: Gitiles or the store failed; send the same request again.
    """
    check_expression(wanted.revision)
    key = request_key(context.caller, request_id)
    job = context.job_to(Permission.TRIGGER, job_id)
    require_active(job)
    wanted = _completed(context, job, wanted)
    repo = parse_repo_url(_event(wanted, _ANY_HASH).repo)
    watcher = watchers_of_ref(context, repo, wanted.ref, [job_id])[job_id]
    event = _event(wanted, resolve_revision(context, repo, wanted.revision))
    require_landed(context, event, "revision")
    trigger = gitiles_trigger(watcher.repo, event.ref, event.revision, context.runtime.clock.now())
    trigger = replace(trigger, id=f"{trigger.id}#trigger:{key}", emitted_by_user=context.caller)
    repeated = is_repeated(context, job_id, trigger.id, f"api-{key}")
    send(context, {job_id: [trigger]}, f"api-{key}", "trigger", revision=event.revision)
    return Emitted((trigger.id,), repeated)


def _completed(context: Context, job: Job, wanted: WantedCommit) -> WantedCommit:
    """Return the commit with its repository and ref, as the configs of the jobs that trigger this job name them.

    Raises:
        ApiError: INVALID_ARGUMENT: the job watches none or several.
    """
    if wanted.repo and wanted.ref:
        return wanted
    tasks = [source.definition.task for source in visible_sources(context, job)]
    polled = [found for found in (kind_of(task).polled_repo(task) for task in tasks) if found]
    repo = wanted.repo or _only("repo", [item.url for item in polled])
    return replace(wanted, repo=repo, ref=wanted.ref or _watched_ref(repo, polled, wanted.revision))


def _watched_ref(repo: str, polled: Sequence[PolledRepo], revision: str) -> str:
    """Return the only ref of a repository that is polled; otherwise the branch that the revision names."""
    refs = [ref for item in polled if _normal(item.url) == _normal(repo) for ref in item.refs]
    is_one = len(refs) <= 1 and not any(ref.startswith(REGEXP) for ref in refs)
    return _only("ref", refs if is_one else [_branch_of(revision)])


def _branch_of(expression: str) -> str:
    """Return the ref of the branch that an expression begins with, main for HEAD; empty for a hash."""
    name = re.split("[~^]", expression)[0]
    if _HEX.fullmatch(name):
        return ""
    return name if name.startswith("refs/") else f"refs/heads/{'main' if name == 'HEAD' else name}"


def _normal(url: str) -> str:
    try:
        return str(parse_repo_url(url))
    except BadRepoUrlError:
        return url


def _only(name: str, found: Sequence[str]) -> str:
    """Return the only one of these texts."""
    first, *others = dict.fromkeys(found) or [""]
    if others or not first:
        raise invalid(
            f"{name} must be given: the job watches {'several, or a pattern' if found else 'none that is known'}"
        )
    return first


def _event(wanted: WantedCommit, revision: str) -> CommitEvent:
    try:
        event = checked_commit(wanted.repo, wanted.ref, revision, names=("repo", "ref", "revision"))
    except MalformedError as error:
        raise invalid(str(error)) from error
    if is_deletion(event.revision):
        raise invalid("revision is the hash of a deleted ref")
    return event
