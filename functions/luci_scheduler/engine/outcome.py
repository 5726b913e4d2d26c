"""Committing what a handler decided, and at the end of an invocation starting what waited for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luci_scheduler.core import debug_log, log_lines
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import ComeAgainError, StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job
from luci_scheduler.core.sizes import log_limits
from luci_scheduler.core.triage import may_triage
from luci_scheduler.engine.allocation import PENDING_READ, Allocation, allocate, commit_allocation
from luci_scheduler.engine.jobs import put_job, rewound
from luci_scheduler.engine.outbox import dispatch_task, launch_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.waiting import look_again
from luci_scheduler.managers.controller import Controller
from luci_scheduler.ports import UpdateInvocation, Versioned, Write

__all__ = ["abort_line", "commit_outcome", "log_update", "reread"]


def abort_line(era: Era, who: str) -> str:
    """Return the debug log's line about an abort, in the words of the era."""
    return (log_lines.ABORTED_V1 if era is Era.V1 else log_lines.ABORTED).format(who=who)


def reread(runtime: Runtime, invocation: Invocation) -> Versioned[Invocation] | None:
    """Read an invocation again after a lost race."""
    return runtime.store.invocation(invocation.job_id, invocation.id)


def commit_outcome(
    runtime: Runtime, found: Versioned[Invocation], controller: Controller, key: str
) -> Sequence[Versioned[Invocation]]:
    """Commit what the controller holds; a final status also frees the job's slot and starts what waited.

    Both are one commit, so that no crash separates them. Returns the started invocations: the caller launches them. A commit of this
    delivery that landed although the store said otherwise is recognized and not repeated.

    Raises:
        StoreConflictError: the invocation itself has changed since it was read; nothing was written: decide again.
        TransientError: nothing was written, or it is not known whether; a repeated delivery sees which.
    """
    update = log_update(runtime, found, runtime.stamped(controller.result(), key), controller.log_text)
    invocation = update.invocation
    if invocation.has_undispatched:
        runtime.offer(dispatch_task(invocation, runtime.clock.now()))
    poller = () if controller.poller is None else (controller.poller,)
    if not invocation.status.is_final:
        _commit_progress(runtime, update, poller)
        return ()
    successors = _commit_end(runtime, update, poller, key)
    logger.info(
        "invocation_finished",
        job_id=invocation.job_id,
        invocation_id=str(invocation.id),
        kind=invocation.task.kind,
        status=str(invocation.status),
        seconds=((invocation.finished or invocation.started) - invocation.started) / 1e9,
    )
    return successors


def log_update(runtime: Runtime, found: Versioned[Invocation], invocation: Invocation, log: str) -> UpdateInvocation:
    """Return the write of an outcome: its lines are appended unread, but for the rare one that cuts a log grown too long."""
    log = debug_log.trim(log)  # as the store does: what it drops is not to count
    size = invocation.log_size + len(log.encode())
    most, cut_to = log_limits(invocation)
    if size <= most:
        return UpdateInvocation(replace(invocation, log_size=size), found.version, log)
    stored = runtime.store.invocation_with_log(invocation.job_id, invocation.id)
    whole = debug_log.trim((stored[1] if stored else "") + log, cut_to)
    return UpdateInvocation(replace(invocation, log_size=len(whole.encode())), found.version, whole, replaces_log=True)


def _commit_progress(runtime: Runtime, update: UpdateInvocation, poller: Sequence[Write]) -> None:
    try:
        runtime.store.commit([update, *poller])
    except StoreConflictError:
        current = reread(runtime, update.invocation)
        if current is None or current.value.last_event != update.invocation.last_event:
            raise
        # The refused commit had landed under a lost answer: nothing is left to decide.


def _commit_end(
    runtime: Runtime, update: UpdateInvocation, poller: Sequence[Write], key: str
) -> Sequence[Versioned[Invocation]]:
    invocation = update.invocation
    lost_at = None
    for _ in range(runtime.limits.races):
        job = runtime.store.job(invocation.job_id)
        if job is None:
            runtime.store.commit([update, *poller])
            return ()
        try:
            return _commit_with_job(runtime, update, poller, job, key)
        except StoreConflictError:
            current = reread(runtime, invocation)
            if current is not None and current.value.last_event == invocation.last_event:
                # The refused commit had landed under a lost answer.
                _leave_successors(runtime, invocation.job_id)
                return ()
            if current is None or current.version != update.version:
                raise
            if poller and job.version == lost_at:
                raise  # the poller's record has changed instead: another poll was quicker, decide again
            lost_at = job.version
    raise ComeAgainError(f"job {invocation.job_id} changes too fast to record the end of invocation {invocation.id}")


def _leave_successors(runtime: Runtime, job_id: JobId) -> None:
    """Leave the launches of invocations that nothing has launched yet to tasks; should that fail, the sweep finds them."""
    found, now = runtime.store.job(job_id), runtime.clock.now()
    active = found.value.active_invocations if found else ()
    for invocation in runtime.store.invocations_by_id([(job_id, identifier) for identifier in active]):
        if invocation.status is Status.STARTING and not invocation.attempts:
            runtime.offer(launch_task(invocation, now, now))


def _commit_with_job(
    runtime: Runtime, update: UpdateInvocation, poller: Sequence[Write], found: Versioned[Job], key: str
) -> Sequence[Versioned[Invocation]]:
    job = _without(found.value, update.invocation)
    if not job.triggers_wait:
        job = rewound(runtime, job, runtime.clock.now())
        runtime.store.commit([update, *poller, put_job(job, found, key)])
        return ()
    pending = runtime.store.pending_triggers(job.id, PENDING_READ)
    started = runtime.clock.now()
    asked: Instant | None = None

    def draw_up(refusal: str) -> tuple[Allocation, Sequence[Write]]:
        nonlocal asked
        ended = (update.invocation.id,)
        plan = allocate(runtime, job, pending, (), started=started, key=key, acknowledged=ended, refusal=refusal)
        changed = replace(plan.job, triggers_wait=bool(pending))
        asked = runtime.clock.now() if may_triage(changed) and changed.triage_due is None else None
        if asked is not None:
            # A trigger that came between the look and this commit has seen no slot free, and relies on the flag. The job asks
            # for another look, which the sweep sees to if this process dies.
            changed = replace(changed, triage_due=asked)
        changed = rewound(runtime, changed, runtime.clock.now())
        return plan, [*plan.writes, update, *poller, put_job(changed, found, key, plan.log)]

    created = commit_allocation(runtime, draw_up)
    if asked is not None:
        created += look_again(runtime, job.id, asked, key)
    return created


def _without(job: Job, invocation: Invocation) -> Job:
    active = tuple(identifier for identifier in job.active_invocations if identifier != invocation.id)
    return replace(job, active_invocations=active)
