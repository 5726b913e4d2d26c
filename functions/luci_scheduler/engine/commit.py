"""A commit has landed: every job that watches it gets its trigger."""

from __future__ import annotations

from luci_scheduler.core.commit_event import CommitEvent, gitiles_trigger
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.refs import watches_ref
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.fan_out import bring
from luci_scheduler.engine.outbox import trigger_task
from luci_scheduler.engine.runtime import Runtime, logger

__all__ = ["on_commit"]


def on_commit(runtime: Runtime, event: CommitEvent, published: Instant, key: str) -> None:
    """Bring a commit to the jobs that watch it, side by side; safe to repeat.

    A job whose part fails gets a task of its own, so that one job's trouble does not repeat the work of the others.

    Raises:
        TransientError: who watches could not be read, or even the queue failed; deliver again.
    """
    triggers: dict[JobId, Trigger] = {}
    for watcher in runtime.store.watchers(event.repo):
        if watches_ref(watcher.refs, event.ref):
            triggers.setdefault(watcher.job_id, gitiles_trigger(watcher.repo, event, published))
    if not triggers:
        logger.info("commit_unwatched", repo=event.repo, ref=event.ref, revision=event.revision)
        return
    batches = {job_id: [trigger] for job_id, trigger in triggers.items()}
    bring(runtime, batches, key, lambda job_id, now: trigger_task(job_id, triggers[job_id], key, now))
