"""Deferral: work that is acknowledged before it is done gets a document, and then a task that names the document.

The document comes first, because the task only names it. After a crash between the two, or if the queue refuses the
task, the sweep creates the task from the document a few minutes later.
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
    """Record work and enqueue its task; after this returns, the work will certainly be done. Safe to repeat.

    Raises:
        TransientError: the work is not known to be recorded.
        PermanentError: the document would be too large.
    """
    try:
        runtime.store.commit([PutDeferred(work, None)])
    except StoreConflictError:
        # The ID derives from the work itself, so an existing document records the same work.
        known = runtime.store.deferred(work.id)
        if known is None:
            raise
        work = known.value
    offer_deferred(runtime, work)


def defer_all(runtime: Runtime, works: Sequence[Deferred]) -> None:
    """Record several pieces of work in parallel; all are tried before an error is raised. Safe to repeat.

    Raises:
        TransientError, PermanentError: as `defer` raises them.
    """
    if len(works) == 1:
        defer(runtime, works[0])
    elif works:
        with ThreadPoolExecutor(runtime.limits.concurrency, thread_name_prefix="defer") as pool:
            futures = [pool.submit(copy_context().run, defer, runtime, work) for work in works]
        for future in futures:
            future.result()


def offer_deferred(runtime: Runtime, work: Deferred) -> None:
    """Enqueue the task of recorded work; if the queue refuses it, the sweep enqueues it later."""
    runtime.offer(deferred_task(work, runtime.clock.now()))


def trigger_work(
    job_id: JobId, triggers: Sequence[Trigger], key: str, now: Instant, due: Instant, *, revision: str = ""
) -> Deferred:
    """Return the work of delivering triggers to a job at ``due``, in one triage, under their delivery's ``key``."""
    task = TriggerTask(job_id, tuple(triggers), key)
    name = deferred_id(task.kind, job_id, key)
    return Deferred(name, task.kind, task.payload(), now, due, Instant(now + KEPT), revision=revision)


def emit_work(work: Deferred, triggers: Sequence[Trigger], wait: int) -> Deferred:
    """Return a `trigger_work` of triggers that a caller emitted.

    Their commits must land within ``wait`` nanoseconds.
    """
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


def commit_work(event: CommitEvent, published: Instant, key: str, now: Instant, expires: Instant) -> Deferred:
    """Return the work of handling a commit event that was published at ``published``, until ``expires``."""
    payload = {
        "repo": event.repo,
        "ref": event.ref,
        "revision": event.revision,
        "published": published,
        "delivery": key,
    }
    name = deferred_id("commit", event.repo, event.ref, event.revision)
    return Deferred(name, "commit", payload, now, now, expires, revision=event.revision)
