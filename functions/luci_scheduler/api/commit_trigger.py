"""A job triggered by hand for one commit, as if the commit had just landed."""

from __future__ import annotations

from dataclasses import replace

from luci_scheduler.api.access import Permission
from luci_scheduler.api.backfill import require_landed, watchers_of_ref
from luci_scheduler.api.context import Context, request_key
from luci_scheduler.api.errors import invalid
from luci_scheduler.api.only_choice import repo_and_ref
from luci_scheduler.api.revisions import check_expression, resolve_revision
from luci_scheduler.api.triggering import Emitted, is_repeated, require_active, send
from luci_scheduler.core.commit_event import CommitEvent, checked_commit, gitiles_trigger, is_deletion
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.repo_url import RepoUrl

__all__ = ["WantedCommit", "trigger_at_commit"]

_ANY_HASH = "1" * 40  # checks the other members of a commit event


@frozen
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
    repository, ref = repo_and_ref(context, [job], wanted.repo, wanted.ref, wanted.revision)
    wanted = replace(wanted, repo=repository, ref=ref)
    repo = RepoUrl.read_back(_event(context, wanted, _ANY_HASH).repo)
    watcher = watchers_of_ref(context, repo, wanted.ref, [job_id])[job_id]
    event = _event(context, wanted, resolve_revision(context, repo, wanted.revision))
    require_landed(context, event, "revision")
    trigger = gitiles_trigger(
        watcher.repo, event.ref, event.revision, context.runtime.clock.now(), context.runtime.hosts
    )
    trigger = replace(trigger, id=f"{trigger.id}#trigger:{key}", emitted_by_user=context.caller)
    repeated = is_repeated(context, job_id, trigger.id, f"api-{key}")
    send(context, {job_id: [trigger]}, f"api-{key}", "trigger", revision=event.revision)
    return Emitted((trigger.id,), repeated)


def _event(context: Context, wanted: WantedCommit, revision: str) -> CommitEvent:
    try:
        names, hosts = ("repo", "ref", "revision"), context.runtime.hosts
        event = checked_commit(wanted.repo, wanted.ref, revision, names=names, hosts=hosts)
    except MalformedError as error:
        raise invalid(str(error)) from error
    if is_deletion(event.revision):
        raise invalid("revision is the hash of a deleted ref")
    return event
