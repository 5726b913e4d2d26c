"""Dispatch: delivers the triggers that an invocation emitted to its triggered jobs, one triage for each job.

The commit that records emitted triggers also records how many are not dispatched yet. A task enqueued before that
commit, or the sweep, dispatches them.
"""

from __future__ import annotations

from dataclasses import replace

from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.engine.outbox import dispatch_to_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.triggers import accept_triggers, fan_out
from luci_scheduler.ports import UpdateInvocation, Versioned

__all__ = ["on_dispatch", "on_dispatch_to"]


def on_dispatch(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, mutation: int, created: Instant, key: str
) -> None:
    """Dispatch the triggers that an invocation emitted and did not dispatch yet; safe to repeat.

    Raises:
        ComeAgainError: the commit that records the triggers is not visible yet (for five minutes from ``created``).
        TransientError: the store or the queue failed; deliver again.
    """
    found = runtime.store.invocation(job_id, invocation_id)
    # The task is enqueued before the commit that records the triggers, so it may be ahead of it.
    if found is None or found.value.mutations < mutation:
        missing = f"the triggers of invocation {invocation_id} of {job_id} are not recorded yet"
        about = {"job_id": job_id, "invocation_id": str(invocation_id), "reason": "never recorded"}
        runtime.wait_for_commit(created, missing, event="dispatch_dropped", **about)
        return
    invocation = found.value
    if not invocation.has_undispatched:
        return
    first = invocation.dispatched
    triggers = invocation.outgoing_triggers[first:]
    is_complete = fan_out(
        runtime,
        dict.fromkeys(invocation.triggered_jobs, triggers),
        _dispatch_key(invocation, first),
        # The invocation's document is the outbox: it records undispatched triggers until every job has them.
        lambda target, now: runtime.queue.enqueue(dispatch_to_task(invocation, target, first, now)),
    )
    if is_complete:  # otherwise the sweep dispatches again, in case the tasks of single jobs are lost
        _record_dispatched(runtime, found, len(invocation.outgoing_triggers), key)


def on_dispatch_to(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, target: JobId, first: int, created: Instant
) -> None:
    """Deliver an invocation's emitted triggers, from the number ``first``, to one job; safe to repeat.

    Raises:
        TransientError, ComeAgainError: not done; deliver again.
    """
    found = runtime.store.invocation(job_id, invocation_id)
    if found is None:
        logger.info("dispatch_dropped", job_id=job_id, invocation_id=str(invocation_id), created=created)
        return
    accept_triggers(runtime, target, found.value.outgoing_triggers[first:], _dispatch_key(found.value, first))


def _dispatch_key(invocation: Invocation, first: int) -> str:
    """Return the key under which each job gets the triggers: all deliveries of them count as one."""
    return f"dispatch-{invocation.id}-{first}"


def _record_dispatched(runtime: Runtime, found: Versioned[Invocation], until: int, key: str) -> None:
    """Record that triggers are dispatched; if this fails, they are dispatched again, which has no effect."""

    def attempt(current: Versioned[Invocation] | None) -> None:
        if current is None or current.value.dispatched >= until:
            return
        dispatched = runtime.stamped(replace(current.value, dispatched=until), f"{key}/dispatched{until}")
        runtime.store.commit([UpdateInvocation(dispatched, current.version)])

    runtime.update_invocation(found.value.job_id, found.value.id, "record its dispatch", attempt, found)
