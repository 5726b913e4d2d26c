"""Changing jobs: the ticks of their cron machines are enqueued before the commits that record them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from luci_scheduler.core import job_changes
from luci_scheduler.core.errors import ComeAgainError, JobNotFoundError, StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import Job
from luci_scheduler.core.job_changes import JobChange
from luci_scheduler.core.repo_url import BadRepoUrlError, parse_repo_url
from luci_scheduler.engine.outbox import tick_task, triage_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.ports import PutJob, PutPaused, Versioned, Write

__all__ = ["existing_job", "pause_job", "pause_marks", "put_job", "resume_job", "rewound", "with_tick"]


def put_job(job: Job, found: Versioned[Job] | None, key: str, triage_log: str | None = None) -> PutJob:
    """Return the write that replaces a job under the version it was read at (None: creates it), counter raised."""
    commits = found.value.commits + 1 if found else 0
    return PutJob(replace(job, commits=commits, last_event=key), found.version if found else None, triage_log)


def pause_marks(before: Job | None, after: Job) -> list[Write]:
    """Return the writes by which commits know whether a gitiles trigger is paused, for the commit that changes its job.

    They are part of what is read of a repository anyway, so that a commit costs no read of the trigger.
    """
    was, now = _paused_at(before) if before else "", _paused_at(after)
    gone: list[Write] = [PutPaused(was, after.id, paused=False)] if was not in ("", now) else []
    return [*gone, PutPaused(now, after.id, paused=True)] if now else gone


def _paused_at(job: Job) -> str:
    """Return the repository whose commits a job lets through no more; empty unless it is a paused gitiles trigger."""
    polled = kind_of(job.definition.task).polled_repo(job.definition.task)
    if polled is None or not job.enabled or not job.paused:
        return ""
    try:
        return str(parse_repo_url(polled.url))
    except BadRepoUrlError:
        return ""  # valid in a config, as in the original; nothing of it is ever told of or polled


def with_tick(runtime: Runtime, change: JobChange, now: Instant) -> Job:
    """Put the tick of a changed job on the queue, and return the job as it is to be committed."""
    if change.tick is not None:
        runtime.offer(tick_task(change.job, change.tick, now))
    return change.job


def rewound(runtime: Runtime, job: Job, now: Instant) -> Job:
    """Let an idle job begin to wait for its next tick, unless it waits already; return it as it is to be committed."""
    return with_tick(runtime, job_changes.rewound(job, now, runtime.entropy.nonce), now)


def existing_job(runtime: Runtime, job_id: JobId) -> Versioned[Job]:
    """Read a job that a config defines.

    Raises:
        JobNotFoundError: there is none of that name, or it is disabled.
    """
    found = runtime.store.job(job_id)
    if found is None or not found.value.enabled:
        raise JobNotFoundError(f"no such job: {job_id}")
    return found


def pause_job(runtime: Runtime, job_id: JobId, who: str, reason: str, key: str) -> bool:
    """Pause a job; safe to repeat. Triggers that wait are discarded by the triage that follows; what runs goes on.

    Returns:
        Whether this has changed it; a paused one keeps who paused it, when and why.

    Raises:
        JobNotFoundError: there is no such job.
        TransientError: the store or the queue failed; the job may be paused.
    """
    changed = _change(
        runtime, job_id, key, lambda job, now: job_changes.paused(job, who, reason, now, runtime.entropy.nonce)
    )
    if changed:
        logger.info("job_paused", job_id=job_id, who=who, reason=reason)
    return changed


def resume_job(runtime: Runtime, job_id: JobId, who: str, reason: str, key: str) -> bool:
    """Resume a paused job; safe to repeat.

    Returns:
        Whether this has changed it.

    Raises:
        JobNotFoundError: there is no such job.
        TransientError: the store or the queue failed; the job may be resumed.
    """
    changed = _change(
        runtime, job_id, key, lambda job, now: job_changes.resumed(job, who, reason, now, runtime.entropy.nonce)
    )
    if changed:
        logger.info("job_resumed", job_id=job_id, who=who, reason=reason)
    return changed


def _change(runtime: Runtime, job_id: JobId, key: str, decide: Callable[[Job, Instant], JobChange | None]) -> bool:
    for _ in range(runtime.limits.races):
        found = existing_job(runtime, job_id)
        now = runtime.clock.now()
        change = decide(found.value, now)
        if change is None:
            return False
        job = with_tick(runtime, change, now)
        try:
            runtime.store.commit([put_job(job, found, key), *pause_marks(found.value, job)])
        except StoreConflictError:
            continue
        if job.triage_due is not None:
            # If this is lost the sweep asks again: the job's document says that a triage is due.
            runtime.offer(triage_task(job_id, runtime.clock.now()))
        return True
    raise ComeAgainError(f"job {job_id} changes too fast to be changed")
