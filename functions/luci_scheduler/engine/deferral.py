"""Deferring: work that is acknowledged before it is done gets a document, and then a task that names the document.

The document is first, because the task only names it. A crash between the two, or a queue that refuses, costs minutes:
the sweep makes the task from the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace

from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.deferred import KEPT, Deferred, deferred_id
from luci_scheduler.core.errors import StoreConflictError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.queue_tasks import AbortTask, TriggerTask
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.outbox import deferred_task
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.ports import PutDeferred

__all__ = ["abort_work", "commit_work", "defer", "defer_all", "emit_work", "offer_deferred", "trigger_work"]


def defer(runtime: Runtime, work: Deferred) -> None:
    """Record work and put its task on the queue; when this returns the work will be done. Safe to repeat.

    Raises:
        TransientError: the work is not known to be recorded.
        PermanentError: the document would be too large.
    """
    try:
        runtime.store.commit([PutDeferred(work, None)])
    except StoreConflictError:
        known = runtime.store.deferred(work.id)
        if known is None:
            raise
        work = known.value
    offer_deferred(runtime, work)


def defer_all(runtime: Runtime, works: Sequence[Deferred]) -> None:
    """Record several pieces of work, side by side; all are tried before an error of one is raised.

    Raises:
        TransientError, PermanentError: as of `defer`; asking again does no harm.
    """
    if len(works) == 1:
        defer(runtime, works[0])
    elif works:
        with ThreadPoolExecutor(runtime.limits.concurrency, thread_name_prefix="defer") as pool:
            futures = [pool.submit(copy_context().run, defer, runtime, work) for work in works]
        for future in futures:
            future.result()


def offer_deferred(runtime: Runtime, work: Deferred) -> None:
    """Put the task of recorded work on the queue; if the queue refuses, the sweep does it later."""
    runtime.offer(deferred_task(work, runtime.clock.now()))


def trigger_work(
    job_id: JobId, triggers: Sequence[Trigger], delivery: str, now: Instant, due: Instant, *, revision: str = ""
) -> Deferred:
    """Return the work of adding triggers to a job at ``due``, in one triage, under the key of the delivery that had them."""
    task = TriggerTask(job_id, tuple(triggers), delivery)
    name = deferred_id(task.kind, job_id, delivery)
    return Deferred(name, task.kind, task.payload(), now, due, Instant(now + KEPT), revision=revision)


def emit_work(work: Deferred, triggers: Sequence[Trigger], wait: int) -> Deferred:
    """Return a `trigger_work` whose triggers were emitted by a caller: their commits must have landed, within ``wait``."""
    revisions = {str(trigger.payload.get("revision", "")) for trigger in triggers if trigger.is_commit}
    if not revisions:
        return work
    revision = revisions.pop() if len(revisions) == 1 else ""
    return replace(work, kind="emit", expires=Instant(work.created + wait), revision=revision)


def abort_work(job_id: JobId, invocation_id: InvocationId, who: str, reason: str, now: Instant) -> Deferred:
    """Return the work of aborting an invocation for a caller."""
    task = AbortTask(job_id, invocation_id, who=who, reason=reason)
    name = deferred_id(task.kind, job_id, str(invocation_id))
    return Deferred(name, task.kind, task.payload(), now, now, Instant(now + KEPT))


def commit_work(event: CommitEvent, published: Instant, delivery: str, now: Instant, expires: Instant) -> Deferred:
    """Return the work of handling a commit event that was published at ``published``, until ``expires``."""
    payload = {
        "repo": event.repo,
        "ref": event.ref,
        "revision": event.revision,
        "published": published,
        "delivery": delivery,
    }
    name = deferred_id("commit", event.repo, event.ref, event.revision)
    return Deferred(name, "commit", payload, now, now, expires, revision=event.revision)
