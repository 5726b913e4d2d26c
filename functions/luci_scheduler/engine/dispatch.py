"""Dispatch: the triggers that an invocation emitted reach the jobs that its job triggers, all of them in one triage each.

The commit that records emitted triggers says how many are not dispatched yet; a task that was enqueued before it, or
the sweep, dispatches them.
"""

from __future__ import annotations

from dataclasses import replace

from luci_scheduler.core.errors import ComeAgainError, StoreConflictError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.engine.fan_out import add_triggers
from luci_scheduler.engine.outbox import dispatch_to_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import UpdateInvocation, Versioned

__all__ = ["on_dispatch", "on_dispatch_to"]


def on_dispatch(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, mutation: int, created: Instant, key: str
) -> None:
    """Dispatch what an invocation has emitted and not dispatched yet; safe to repeat.

    Raises:
        ComeAgainError: the commit that records the triggers is not visible yet (for five minutes from ``created``).
        TransientError: store or queue failed; deliver again.
    """
    found = runtime.store.invocation(job_id, invocation_id)
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
    is_complete = add_triggers(
        runtime,
        dict.fromkeys(invocation.triggered_jobs, triggers),
        _delivery(invocation, first),
        # The invocation's own document is the outbox: it has something to dispatch until all jobs have their triggers.
        lambda target, now: runtime.queue.enqueue(dispatch_to_task(invocation, target, first, now)),
    )
    if is_complete:  # else the sweep comes back, should the tasks of single jobs be lost
        _record_dispatched(runtime, found, len(invocation.outgoing_triggers), key)


def on_dispatch_to(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, target: JobId, first: int, created: Instant
) -> None:
    """Bring one job the triggers of an invocation from the number ``first`` on; safe to repeat.

    Raises:
        TransientError, ComeAgainError: not done; deliver again.
    """
    found = runtime.store.invocation(job_id, invocation_id)
    if found is None:
        logger.info("dispatch_dropped", job_id=job_id, invocation_id=str(invocation_id), created=created)
        return
    accept_triggers(runtime, target, found.value.outgoing_triggers[first:], _delivery(found.value, first))


def _delivery(invocation: Invocation, first: int) -> str:
    return f"dispatch-{invocation.id}-{first}"


def _record_dispatched(runtime: Runtime, found: Versioned[Invocation], until: int, key: str) -> None:
    """Note that triggers were brought; if the note is not taken they are brought once more, which does no harm."""
    current: Versioned[Invocation] | None = found
    for _ in range(runtime.limits.races):
        if current is None or current.value.dispatched >= until:
            return
        noted = runtime.stamped(replace(current.value, dispatched=until), f"{key}/dispatched{until}")
        try:
            runtime.store.commit([UpdateInvocation(noted, current.version)])
        except StoreConflictError:
            current = runtime.store.invocation(found.value.job_id, found.value.id)
            continue
        return
    raise ComeAgainError(f"invocation {found.value.id} of {found.value.job_id} changes too fast to note its dispatch")
