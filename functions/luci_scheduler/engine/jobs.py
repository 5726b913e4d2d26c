"""Changes of jobs: the task of a cron tick is enqueued before the commit that records it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from luci_scheduler.core import job_changes
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.errors import JobNotFoundError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import Job
from luci_scheduler.core.job_changes import JobChange
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.engine.outbox import tick_task, triage_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.ports import PutJob, PutPaused, Versioned, Write

__all__ = ["pause_job", "pause_marks", "put_job", "resume_job", "rewound", "with_tick"]


def put_job(job: Job, found: Versioned[Job] | None, key: str, triage_log: str | None = None) -> PutJob:
    """Return the write that replaces a job at the version that was read, with its counter raised; None creates it."""
    commits = found.value.commits + 1 if found else 0
    return PutJob(replace(job, commits=commits, last_event=key), found.version if found else None, triage_log)


def pause_marks(before: Job | None, after: Job, hosts: CommitHosts) -> list[Write]:
    """Return the writes that mark a gitiles trigger as paused, for the commit that changes its job.

    A commit event reads the marks together with the watchers of its repository, so it need not read the trigger.
    """
    old, new = _paused_repo(before, hosts) if before else "", _paused_repo(after, hosts)
    removed: list[Write] = [PutPaused(old, after.id, paused=False)] if old not in ("", new) else []
    return [*removed, PutPaused(new, after.id, paused=True)] if new else removed


def _paused_repo(job: Job, hosts: CommitHosts) -> str:
    """Return the repository of a paused gitiles trigger, whose commits it ignores; empty for any other job."""
    polled = kind_of(job.definition.task).polled_repo(job.definition.task)
    if polled is None or not job.enabled or not job.paused:
        return ""
    try:
        return str(hosts.parse(polled.url))
    except BadRepoUrlError:
        return ""  # a config may name such a repository, as in the original; it has no commit events and no polls


def with_tick(runtime: Runtime, change: JobChange, now: Instant) -> Job:
    """Enqueue the tick of a changed job, if it has one, and return the job that must then be committed."""
    if change.tick is not None:
        runtime.offer(tick_task(change.job, change.tick, now))
    return change.job


def rewound(runtime: Runtime, job: Job, now: Instant) -> Job:
    """Start to wait for an idle job's next tick, unless it waits already; return the job, which must be committed."""
    return with_tick(runtime, job_changes.rewound(job, now, runtime.entropy.nonce), now)


def _existing(found: Versioned[Job] | None, job_id: JobId) -> Versioned[Job]:
    if found is None or not found.value.enabled:
        raise JobNotFoundError(f"no such job: {job_id}")
    return found


def pause_job(runtime: Runtime, job_id: JobId, who: str, reason: str, key: str) -> bool:
    """Pause a job; safe to repeat. A triage then discards its pending triggers; running invocations continue.

    Returns:
        Whether this call paused it. A paused job keeps the person, the time and the reason of its pause.

    Raises:
        JobNotFoundError: there is no such job.
        TransientError: the store or the queue failed; the job may be paused.
    """
    nonce = runtime.entropy.nonce
    changed = _change(runtime, job_id, key, lambda job, now: job_changes.paused(job, who, reason, now, nonce))
    if changed:
        logger.info("job_paused", job_id=job_id, who=who, reason=reason)
    return changed


def resume_job(runtime: Runtime, job_id: JobId, who: str, reason: str, key: str) -> bool:
    """Resume a paused job; safe to repeat.

    Returns:
        Whether this call resumed it.

    Raises:
        JobNotFoundError: there is no such job.
        TransientError: the store or the queue failed; the job may be resumed.
    """
    nonce = runtime.entropy.nonce
    changed = _change(runtime, job_id, key, lambda job, now: job_changes.resumed(job, who, reason, now, nonce))
    if changed:
        logger.info("job_resumed", job_id=job_id, who=who, reason=reason)
    return changed


def _change(runtime: Runtime, job_id: JobId, key: str, decide: Callable[[Job, Instant], JobChange | None]) -> bool:
    # The tick is enqueued before the commit, so that a crash between the two cannot stop the schedule.
    def attempt(found: Versioned[Job] | None) -> bool:
        found = _existing(found, job_id)
        now = runtime.clock.now()
        change = decide(found.value, now)
        if change is not None:
            job = with_tick(runtime, change, now)
            runtime.store.commit([put_job(job, found, key), *pause_marks(found.value, job, runtime.hosts)])
        elif found.value.last_event == key:
            job = found.value  # our own commit has landed, although the store reported a conflict
        else:
            return False
        if job.triage_due is not None:
            # If this task is lost, the sweep enqueues another one: the job's document requests the triage.
            runtime.offer(triage_task(job_id, runtime.clock.now()))
        return True

    return runtime.update_job(job_id, "change it", attempt)
