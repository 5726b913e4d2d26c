"""Statuses: the commit that starts or ends an invocation records a commit status, and a task reports it to the host.

The status is deferred work, as an announcement is: its document is part of that commit, and the engine waits for no
host. If a task is lost, the sweep makes it again. A host that does not take a status for an hour gets it no more, and
one log line says so.

An invocation that has ended shows its end. A late start is dropped while the report of the end is still to come. After
that report, the start's task reports the end once more, because an earlier delivery may have sent the start last. If a
later invocation of the job has built the commit and ended, a report that had to wait shows that end.

A report may stand still and reach the host after newer ones. Its delivery then reports the newest state, unless it dies
before that. So work whose try is so late that the sweep may have repeated its task gets a last try, when no earlier
delivery can run any more. The last try reports only a state that is newer than the work's own. It reports nothing while
the job builds the commit again, because the end of that invocation comes last.
"""

from __future__ import annotations

from dataclasses import replace

from luci_scheduler.core.announcement import page_of
from luci_scheduler.core.commit_hosts import CommitHosts, HostKind
from luci_scheduler.core.commit_status import CommitStatus, State, status_of
from luci_scheduler.core.deferred import Deferred, deferred_id, postponed
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId, split_job_id
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import MAX_RECENT, Job
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.core.untrusted import PARSER_ERRORS
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.ports import CommitStatuses, GitilesError

__all__ = ["status_work", "try_status"]

_KIND = "status"
_GIVEN_UP = HOUR
"""After so long a status is given up: its commit has later ones by then, and GitHub limits the writes of an hour."""
_LATE = 10 * SECOND
"""A report that comes so long after its state may come after the report of a later invocation."""
_DELIVERY_LIFE = 11 * MINUTE
"""A delivery of `on_task` begins no call later: it has 590 seconds (`functions/luci_scheduler/budget.py`)."""
_MOST_READ = 10
"""Running invocations that a last try reads. If more have begun since, it cannot know whether one builds the commit."""
_MOST_REPORTS = 3
"""Reports of one try: each report after the first shows a state that came during the one before."""
_LAST_TRY = "last_try"
"""Member of a payload: the time of the last try, in nanoseconds. Each try that may be a repetition sets it."""
_IS_REPORTED = "is_reported"
"""Member of a payload: true if only the last try is left."""
_SWITCHED_OFF = "SCHEDULER_GITHUB_STATUSES is not true any more"
_NO_HOST = "SCHEDULER_COMMIT_HOSTS does not name the repository's host as a GitHub host any more"


@frozen
class _Recorded:
    """The status that a document holds."""

    job_id: JobId
    invocation_id: InvocationId
    status: CommitStatus

    @property
    def is_start(self) -> bool:
        """Whether the invocation had not ended."""
        return self.status.state is State.PENDING

    def is_end_of(self, start: _Recorded) -> bool:
        """Whether this is the end of the invocation whose start ``start`` is."""
        return start.is_start and not self.is_start and self.invocation_id == start.invocation_id


def status_work(runtime: Runtime, invocation: Invocation) -> Deferred | None:
    """Return the work of reporting an invocation's status; None if it builds no commit of a GitHub repository.

    The ID of the work follows from invocation and state, so each state of an invocation is one document.
    """
    status = status_of(invocation)
    if status is None or not _is_on_github(status.repo, runtime.hosts):
        return None
    payload = {
        "job": invocation.job_id,
        "invocation": str(invocation.id),
        "repo": status.repo,
        "revision": status.revision,
        "state": str(status.state),
        "context": status.context,
        "description": status.description,
    }
    now = runtime.clock.now()
    name = _work_id(_Recorded(invocation.job_id, invocation.id, status))
    return Deferred(name, _KIND, payload, now, now, Instant(now + _GIVEN_UP))


def try_status(runtime: Runtime, work: Deferred) -> Deferred | None:
    """Report a status. Return the work with a pause if the host does not take it, or None if it is done or given up.

    A repetition reports the status again; hosts show the last one. A late try reads the job before and after it
    reports. The work of a try that may be a repetition returns with a last try, `_DELIVERY_LIFE` later.

    Raises:
        PermanentError: the document holds no status.
    """
    recorded, statuses = _recorded(work), runtime.statuses
    if statuses is None or not _is_on_github(recorded.status.repo, runtime.hosts):
        _log_dropped(work, recorded, _SWITCHED_OFF if statuses is None else _NO_HOST)
        return None
    now = runtime.clock.now()
    if now - work.next_due >= runtime.limits.sweep_grace and not _is_last(work):
        work = replace(work, payload={**work.payload, _LAST_TRY: now + _DELIVERY_LIFE})
    try:
        _report(runtime, statuses, work, recorded)
    except (GitilesError, TransientError) as error:
        return _after_failure(work, recorded, error, runtime.clock.now())
    if _is_last(work) or _LAST_TRY not in work.payload:
        return None
    return _with_last_try(work, runtime.clock.now())


def _is_last(work: Deferred) -> bool:
    """Whether the status was reported, and only the last try is left."""
    return _IS_REPORTED in work.payload


def _after_failure(
    work: Deferred, recorded: _Recorded, error: GitilesError | TransientError, now: Instant
) -> Deferred | None:
    is_final = isinstance(error, GitilesError) and not error.transient
    if is_final or now >= work.expires:
        _log_dropped(work, recorded, str(error))
        return None
    left = postponed(work, now, f"the status is not reported yet: {error}")
    return replace(left, next_due=max(left.next_due, Instant(now + error.retry_after)))


def _with_last_try(work: Deferred, now: Instant) -> Deferred:
    left = postponed(work, now, "an earlier delivery may still report an older state")
    due = Instant(max(now, int(work.payload[_LAST_TRY])))
    return replace(left, payload={**work.payload, _IS_REPORTED: True}, next_due=due)


def _report(runtime: Runtime, statuses: CommitStatuses, work: Deferred, recorded: _Recorded) -> None:
    newest = _newest(runtime, work, recorded)
    if newest.is_end_of(recorded) and _is_to_come(runtime, newest):
        return  # the end's own work reports it later
    if _is_last(work) and (newest == recorded or not _is_latest(runtime, newest)):
        return
    for _ in range(_MOST_REPORTS):
        statuses.report(newest.status, _page(runtime, newest))
        shown, newest = newest, _newest(runtime, work, newest)
        if newest == shown:
            return  # otherwise a newer state may have been reported before this call was over
    raise TransientError("the state changed during each report")


def _newest(runtime: Runtime, work: Deferred, recorded: _Recorded) -> _Recorded:
    """Return the state to show instead of a recorded one. A punctual end needs no read."""
    is_late = runtime.clock.now() - work.created >= _LATE
    later = _later_end(runtime, recorded) if is_late else None
    if later is None and recorded.is_start and (end := _end(runtime, recorded)):
        return replace(recorded, status=end)
    return later or recorded


def _later_end(runtime: Runtime, recorded: _Recorded) -> _Recorded | None:
    """Return the end of the latest invocation that has built the commit after this one; None without one."""
    job = runtime.store.job(recorded.job_id)
    ended = {result.invocation_id: result.revisions for result in job.value.recent} if job is not None else {}
    for invocation_id in sorted(ended):  # IDs fall with time
        if invocation_id >= recorded.invocation_id:
            break
        if recorded.status.revision in ended[invocation_id]:
            later = replace(recorded, invocation_id=invocation_id)
            end = _end(runtime, later)
            if end is not None and _is_same_commit(end, recorded):
                return replace(later, status=end)
    return None


def _is_to_come(runtime: Runtime, end: _Recorded) -> bool:
    """Whether the work of an end has not reported it yet."""
    work = runtime.store.deferred(_work_id(end))
    return work is not None and not _is_last(work.value)


def _is_latest(runtime: Runtime, end: _Recorded) -> bool:
    """Whether an end is that of the last invocation that builds the commit. False also if this cannot be known."""
    job = runtime.store.job(end.job_id)
    if job is None or not _lists_ends_since(job.value, end.invocation_id):
        return False
    active = [name for name in job.value.active_invocations if name < end.invocation_id]
    if len(active) > _MOST_READ:
        return False
    running = runtime.store.invocations_by_id([(end.job_id, name) for name in active]) if active else ()
    statuses = map(status_of, running)
    return not any(status and _is_same_commit(status, end) for status in statuses)


def _lists_ends_since(job: Job, invocation_id: InvocationId) -> bool:
    listed = [result.invocation_id for result in job.recent]
    return len(listed) < MAX_RECENT or invocation_id in listed


def _is_same_commit(status: CommitStatus, recorded: _Recorded) -> bool:
    return (status.repo, status.revision) == (recorded.status.repo, recorded.status.revision)


def _is_on_github(repo: str, hosts: CommitHosts) -> bool:
    try:
        return hosts.kind(hosts.parse(repo)) is HostKind.GITHUB
    except BadRepoUrlError:
        return False


def _end(runtime: Runtime, recorded: _Recorded) -> CommitStatus | None:
    """Return the status of the invocation's end; None if it has not ended."""
    found = runtime.store.invocation(recorded.job_id, recorded.invocation_id)
    return status_of(found.value) if found is not None and found.value.status.is_final else None


def _work_id(recorded: _Recorded) -> str:
    return deferred_id(_KIND, recorded.job_id, str(recorded.invocation_id), recorded.status.state)


def _page(runtime: Runtime, recorded: _Recorded) -> str:
    return page_of(runtime.console_url, *split_job_id(recorded.job_id), str(recorded.invocation_id))


def _log_dropped(work: Deferred, recorded: _Recorded, reason: str) -> None:
    if _is_last(work):
        return
    logger.warning(
        "commit_status_dropped",
        job_id=recorded.job_id,
        invocation_id=str(recorded.invocation_id),
        repo=recorded.status.repo,
        revision=recorded.status.revision,
        state=str(recorded.status.state),
        reason=reason,
    )


def _recorded(work: Deferred) -> _Recorded:
    payload = work.payload
    try:
        texts = (str(payload[name]) for name in ("repo", "revision", "context", "description"))
        repo, revision, context, description = texts
        status = CommitStatus(repo, revision, State(payload["state"]), context, description)
        split_job_id(payload["job"])
        int(payload.get(_LAST_TRY, 0))
        return _Recorded(JobId(payload["job"]), InvocationId(int(payload["invocation"])), status)
    except PARSER_ERRORS as error:
        raise PermanentError(f"the deferred task {work.id} holds no commit status: {error!r}") from error
