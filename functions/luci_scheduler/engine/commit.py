"""A commit has landed: every job that watches it gets its trigger."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from luci_scheduler.core.commit_event import CommitEvent, gitiles_trigger
from luci_scheduler.core.errors import SchedulerError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.refs import watches_ref
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import trigger_to_json
from luci_scheduler.engine.intake import accept_triggers
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.ports import Task

__all__ = ["on_commit"]

_BUDGET = 150 * SECOND
"""Half the ack deadline of the commit subscription: jobs that are not begun by then go to the queue."""


def on_commit(runtime: Runtime, event: CommitEvent, published: Instant, key: str) -> None:
    """Bring a commit to the jobs that watch it, side by side; safe to repeat.

    A job whose part fails gets a task of its own, so that one job's trouble does not repeat the work of the others.

    Raises:
        TransientError: who watches could not be read, or even the queue failed; deliver again.
    """
    begun = runtime.clock.now()
    triggers: dict[JobId, Trigger] = {}
    for watcher in runtime.store.watchers(event.repo):
        if watches_ref(watcher.refs, event.ref):
            triggers.setdefault(watcher.job_id, gitiles_trigger(watcher.repo, event, published))
    if not triggers:
        logger.info("commit_unwatched", repo=event.repo, ref=event.ref, revision=event.revision)
        return
    if len(triggers) == 1:
        ((job_id, trigger),) = triggers.items()
        accept_triggers(runtime, job_id, [trigger], key)
        return
    with ThreadPoolExecutor(runtime.limits.concurrency, thread_name_prefix="job") as pool:
        futures = [
            pool.submit(_bring, runtime, job_id, trigger, key, begun + _BUDGET) for job_id, trigger in triggers.items()
        ]
    for future in futures:
        future.result()


def _bring(runtime: Runtime, job_id: JobId, trigger: Trigger, key: str, until: int) -> None:
    try:
        if runtime.clock.now() < until:
            accept_triggers(runtime, job_id, [trigger], key)
            return
        logger.info("trigger_queued", job_id=job_id, trigger_id=trigger.id, reason="no time left")
    except SchedulerError as error:
        logger.warning("trigger_queued", job_id=job_id, trigger_id=trigger.id, reason=str(error))
    now = runtime.clock.now()
    payload = {"job": job_id, "trigger": trigger_to_json(trigger), "delivery": key, "created": now}
    runtime.queue.enqueue(Task("trigger", payload, now))
