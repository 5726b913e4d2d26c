"""Records the watchers that could not filter a commit: their patterns cost too much or are invalid."""

from __future__ import annotations

from luci_scheduler.core.commit_event import CommitEvent, gitiles_trigger
from luci_scheduler.core.commit_filters import CommitFilters
from luci_scheduler.core.discards import TOO_COSTLY
from luci_scheduler.core.instants import Instant
from luci_scheduler.engine.discard import discard_trigger
from luci_scheduler.engine.runtime import Runtime, logger

__all__ = ["record_pattern_faults"]

_MAX_DISCARDED = 100
"""Jobs of one project that get a discarded trigger: each costs one write, and a project may have thousands of jobs."""


def record_pattern_faults(
    runtime: Runtime, event: CommitEvent, filters: CommitFilters, published: Instant, key: str
) -> None:
    """Log each project that is skipped for a commit, and give its jobs (the first 100) a discarded trigger; safe to repeat.

    Existing markers stay as they are.

    Raises:
        TransientError: the store failed; deliver again.
    """
    for watcher, reason in filters.bad.items():
        logger.error("bad_watcher", job_id=watcher.job_id, trigger_job_id=watcher.trigger_job_id, reason=reason)
    for project, watchers in filters.too_costly.items():
        by_job = {watcher.job_id: watcher for watcher in watchers if not watcher.paused}
        logger.warning(
            "patterns_too_costly",
            project=project,
            repo=event.repo,
            ref=event.ref,
            revision=event.revision,
            jobs=len(by_job),
        )
        for job_id in sorted(by_job)[:_MAX_DISCARDED]:
            trigger = gitiles_trigger(by_job[job_id].repo, event.ref, event.revision, published)
            discard_trigger(runtime, job_id, trigger, key, TOO_COSTLY)
