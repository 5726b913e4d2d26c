"""Why a commit did or did not run: its outcome in every job that watches its repository."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from luci_scheduler.api.access import Permission
from luci_scheduler.api.commit_host import CommitHost
from luci_scheduler.api.commit_titles import remember_titles
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import invalid
from luci_scheduler.api.explain_absence import AbsenceExplainer
from luci_scheduler.api.explain_trigger import explain_trigger, origin_of
from luci_scheduler.api.explanation import (
    CommitFacts,
    CommitQuery,
    ExplainedCommit,
    Explanation,
    Origin,
    WatchingJob,
)
from luci_scheduler.api.revisions import check_expression, resolve_revision
from luci_scheduler.budget import limited, time_left
from luci_scheduler.core.commit_event import gitiles_trigger
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.discards import NOT_ON_REF, NOT_SERVED
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.ref_validation import REGEXP
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.ports import GitilesError

__all__ = ["MAX_JOBS", "MAX_REQUESTED", "MAX_TRIGGERS", "explain_commit"]

MAX_JOBS = 500
"""Jobs that one call explains: the first visible ones by ID."""

MAX_REQUESTED = 10
"""Triggers of one job that users requested (reruns, backfills, emitted triggers): the newest ones."""

MAX_TRIGGERS = 4 * MAX_JOBS
"""Triggers of one commit that are read to find the requested ones."""

_RESOLVE_SECONDS = 5.0

_MAX_REFS = 20
"""Literal refs of one job for which the commit's own trigger is looked up."""

_Invocations = Mapping[tuple[JobId, InvocationId], Invocation]


@frozen
class _Triggers:
    """The commit's triggers in one job."""

    own: TriggerRecord | None = None
    """The commit's own trigger. If it landed on several refs: the trigger that got furthest."""
    requested: tuple[TriggerRecord, ...] = ()
    """The triggers that users requested, oldest first."""

    @property
    def records(self) -> tuple[TriggerRecord, ...]:
        """All triggers of the commit, its own trigger first."""
        return (self.own, *self.requested) if self.own else self.requested


def explain_commit(context: Context, repo: str, revision: str, ref: str = "") -> ExplainedCommit:
    """Return a commit, and its outcome in every visible job that watches its repository.

    Each job has one explanation of the commit itself. It is followed, oldest first, by one explanation for each trigger
    that a user requested for the commit by a rerun, a backfill or the API (the newest ten).

    The commit's own trigger is looked up by its ID, so no number of other triggers can hide it: on ``ref``, or on each
    ref that the job names literally. The other triggers are found by the commit's hash, up to `MAX_TRIGGERS` in all
    jobs. If there are more, every sentence that may be incomplete says so.

    The cost does not depend on the length of the history: one read for the watchers; for each job one read, one for
    each ref that is tried, one for each trigger and one for its invocation. If a job has no trigger, also one query for
    deferred tasks that wait for the commit, and two reads for each of up to `MAX_POLLERS` gitiles jobs. For a caller
    who may see nothing there, only the watchers are read, and no expression is resolved.

    The repository's host is asked for the commit itself and, if a job has no trigger, on which refs it is: at most
    `MAX_HOST_CALLS` calls of a few seconds. Without the host, the answer says so and holds all that is stored.

    Args:
        context: the caller's context.
        repo: the repository, in any spelling.
        revision: the commit, as `api.revisions` reads it.
        ref: the ref on which it landed; empty: any ref.

    Raises:
        ApiError: INVALID_ARGUMENT; NOT_FOUND and FAILED_PRECONDITION, as `resolve_revision` does.
        TransientError: the store or, for an expression, the repository's host did not answer.
    """
    query = _parse_query(repo, revision, ref, context.runtime.hosts)
    watching = _watching_jobs(context, query)
    if not watching:
        return ExplainedCommit(CommitFacts(""))
    with limited(time_left(_RESOLVE_SECONDS)):
        query = replace(query, revision=resolve_revision(context, query.repo, revision))
    triggers, is_cut = _triggers_by_job(context, query, watching)
    invocations = _read_invocations(context, triggers.values())
    host = CommitHost(context.runtime.gitiles, query)
    absence = AbsenceExplainer(context, query, host, watching, _landed_refs(triggers.values()))
    explanations: list[Explanation] = []
    for item in watching:
        of_job = triggers[item.job.id]
        found = [absence.explain(item)] if of_job.own is None else []
        found += _explain_triggers(context, item, of_job, invocations)
        if is_cut:
            own_may_be_missing = of_job.own is None and not _knows_all_refs(query, item)
            found[0] = _incomplete(found[0], own_may_be_missing=own_may_be_missing)
        explanations += found
    return ExplainedCommit(_facts(context, query, host, absence), watching[0].watchers[0].repo, tuple(explanations))


def _facts(context: Context, query: CommitQuery, host: CommitHost, absence: AbsenceExplainer) -> CommitFacts:
    """Return the commit, if it has reached a visible job or a ref that one watches.

    The scheduler reads repositories under its own account, and other refs may be hidden from the caller.
    """
    commit = host.commit
    if isinstance(commit, GitilesError):
        return CommitFacts(query.revision, problem=str(commit))
    remember_titles(context, query.repo, [replace(commit, diff=())])
    return CommitFacts(query.revision, commit if absence.is_known else None)


def _landed_refs(triggers: Iterable[_Triggers]) -> list[str]:
    """Return the refs of the commit's triggers, without refs that did not lead to it."""
    records = [item for of_job in triggers for item in of_job.records]
    wrong = (NOT_ON_REF, NOT_SERVED)
    return list(
        dict.fromkeys(str(item.trigger.payload["ref"]) for item in records if not item.discarded.startswith(wrong))
    )


def _parse_query(repo: str, revision: str, ref: str, hosts: CommitHosts) -> CommitQuery:
    check_expression(revision)
    if ref and not ref.startswith("refs/"):
        raise invalid("ref must be a full ref name (refs/...), or empty")
    try:
        return CommitQuery(hosts.parse(repo), revision, ref)
    except BadRepoUrlError as error:
        raise invalid(f"repo: {error}") from error


def _watching_jobs(context: Context, query: CommitQuery) -> list[WatchingJob]:
    if not context.sees_some():
        return []
    by_job: dict[JobId, list[Watcher]] = {}
    for watcher in context.runtime.store.watchers(str(query.repo)):
        by_job.setdefault(watcher.job_id, []).append(watcher)
    # Jobs of other projects are removed before the list is cut, so they take up no places. One document per project and
    # repository holds the watchers, which bounds their number.
    wanted = [job_id for job_id in sorted(by_job) if context.sees_some(project_of(job_id))]
    jobs = context.runtime.store.jobs(wanted) if wanted else []
    visible = sorted((job for job in jobs if context.may(Permission.GET, job)), key=lambda job: job.id)
    return [WatchingJob(job, tuple(by_job[job.id])) for job in visible[:MAX_JOBS]]


def _triggers_by_job(
    context: Context, query: CommitQuery, watching: Sequence[WatchingJob]
) -> tuple[Mapping[JobId, _Triggers], bool]:
    """Return the commit's triggers by job, and whether there may be more than were searched.

    Triggers of other repositories that have the same commit are left out.
    """
    store, revision = context.runtime.store, query.revision
    keys = [
        (item.job.id, gitiles_trigger(repo, ref, revision, Instant(0)).id)
        for item in watching
        for repo, ref in _literal_refs(query, item)[:_MAX_REFS]
    ]
    known = store.triggers(keys) if keys else []
    listed = store.triggers_of_revision(revision, MAX_TRIGGERS)
    # Both lists may contain the commit's own trigger, so records are collected by ID.
    by_job: dict[JobId, dict[str, TriggerRecord]] = {item.job.id: {} for item in watching}
    for record in (*listed, *known):
        if record.job_id in by_job and _is_of_commit(query, record.trigger, context.runtime.hosts):
            by_job[record.job_id][record.trigger.id] = record
    return {job_id: _sort_out(list(records.values())) for job_id, records in by_job.items()}, len(
        listed
    ) >= MAX_TRIGGERS


def _read_invocations(context: Context, triggers: Iterable[_Triggers]) -> _Invocations:
    keys = {
        (record.job_id, record.invocation_id) for item in triggers for record in item.records if record.invocation_id
    }
    return {(item.job_id, item.id): item for item in context.runtime.store.invocations_by_id(sorted(keys))}


def _explain_triggers(
    context: Context, item: WatchingJob, triggers: _Triggers, invocations: _Invocations
) -> list[Explanation]:
    now = context.runtime.clock.now()
    return [
        explain_trigger(item.job, record, invocations.get((record.job_id, record.invocation_id)), now)
        for record in triggers.records
    ]


def _incomplete(explanation: Explanation, *, own_may_be_missing: bool) -> Explanation:
    """Add that not every trigger of the commit was searched, and which ones may be missing."""
    missing = (
        "the commit's own trigger may be among the others: name the ref on which it landed"
        if own_may_be_missing
        else "reruns, backfills and emitted triggers of it may be missing here"
    )
    also = f" This commit has more than {MAX_TRIGGERS - 1} triggers, and not all of them were searched; {missing}."
    return replace(explanation, sentence=explanation.sentence + also)


def _watched_refs(query: CommitQuery, item: WatchingJob) -> list[tuple[str, str]]:
    """Return each repository, in the config's spelling, and ref on which the commit can have landed."""
    return [(watcher.repo, ref) for watcher in item.watchers for ref in ((query.ref,) if query.ref else watcher.refs)]


def _literal_refs(query: CommitQuery, item: WatchingJob) -> list[tuple[str, str]]:
    return list(dict.fromkeys(entry for entry in _watched_refs(query, item) if not entry[1].startswith(REGEXP)))


def _knows_all_refs(query: CommitQuery, item: WatchingJob) -> bool:
    """Return whether the commit's own trigger was looked up under every name that it can have."""
    has_patterns = any(ref.startswith(REGEXP) for _, ref in _watched_refs(query, item))
    return len(_literal_refs(query, item)) <= _MAX_REFS and not has_patterns


def _is_of_commit(query: CommitQuery, trigger: Trigger, hosts: CommitHosts) -> bool:
    try:
        repo = hosts.parse(str(trigger.payload.get("repo", "")))
    except BadRepoUrlError:  # an emitted trigger may hold any text
        return False
    return repo == query.repo and query.ref in ("", trigger.payload.get("ref"))


def _sort_out(records: Sequence[TriggerRecord]) -> _Triggers:
    own = [record for record in records if origin_of(record.trigger) is Origin.COMMIT]
    requested = sorted(
        (record for record in records if origin_of(record.trigger) is not Origin.COMMIT),
        key=lambda record: (record.trigger.created, record.trigger.id),
    )
    return _Triggers(max(own, key=_progress, default=None), tuple(requested[-MAX_REQUESTED:]))


def _progress(record: TriggerRecord) -> tuple[bool, bool]:
    return bool(record.invocation_id), record.is_pending
