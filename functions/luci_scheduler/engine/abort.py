"""Abort of an invocation, in every state it may be in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import ComeAgainError, PermanentError, StoreConflictError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.engine.advance import launch_all
from luci_scheduler.engine.cleanup import cancel_or_leave
from luci_scheduler.engine.outbox import abort_task
from luci_scheduler.engine.outcome import abort_line, commit_outcome
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import CallCache, Controller
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.ports import UpdateInvocation, Versioned

__all__ = ["abort_invocation", "abort_running", "on_abort_task"]


def abort_invocation(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, who: str, key: str, reason: str = ""
) -> None:
    """Abort an invocation: a running one at once, one that is being launched as soon as its build is known.

    Safe to repeat; an invocation that is over, or is being aborted already, is left as it is.

    Raises:
        PermanentError: there is no such invocation.
        TransientError: the store or the queue failed; nothing is known to be written.
    """
    calls = CallCache()
    for _ in range(runtime.limits.races):
        found = runtime.store.invocation(job_id, invocation_id)
        if found is None:
            raise PermanentError(f"no such invocation: {job_id} {invocation_id}")
        if found.value.status.is_final or found.value.abort_requested_by:
            return
        try:
            now = runtime.clock.now()
            asked = replace(found.value, abort_requested_by=who, abort_reason=reason, abort_requested_at=now)
            # A launch that is under way would lose the build that it asks for; where there is none it just loses the race.
            must_wait = asked.status.is_initial and kind_of(asked.task).is_multistage
            successors = None if must_wait else _abort_now(runtime, Versioned(asked, found.version), calls, key)
            if successors is None:
                _mark(runtime, Versioned(asked, found.version), key)
        except StoreConflictError:
            continue
        launch_all(runtime, successors or (), key)
        return
    raise ComeAgainError(f"invocation {invocation_id} of {job_id} changes too fast to be aborted")


def on_abort_task(runtime: Runtime, job_id: JobId, invocation_id: InvocationId, created: Instant, key: str) -> None:
    """Carry out an abort that was asked for earlier, if it has not been by anybody else.

    Raises:
        ComeAgainError: a launch is under way, or the mark is not visible yet (for five minutes from ``created``).
        TransientError: Buildbucket or the store failed; nothing was written.
    """
    calls = CallCache()
    for _ in range(runtime.limits.races):
        found = runtime.store.invocation(job_id, invocation_id)
        if found is None or found.value.status.is_final:
            return
        invocation, now = found.value, runtime.clock.now()
        if not invocation.abort_requested_by:
            missing = f"the abort of invocation {invocation_id} of {job_id} is not recorded yet"
            about = {"job_id": job_id, "invocation_id": str(invocation_id), "reason": "it was never recorded"}
            runtime.wait_for_commit(created, missing, event="abort_dropped", **about)
            return
        if invocation.claim_until is not None and now < invocation.claim_until:
            raise ComeAgainError(f"invocation {invocation_id} of {job_id} is still starting, try again later")
        controller = runtime.controller(invocation, calls)
        abort_running(runtime, controller, invocation.abort_requested_by)
        try:
            successors = commit_outcome(runtime, found, controller, f"{key}/abort")
        except StoreConflictError:
            continue
        launch_all(runtime, successors, key)
        return
    raise ComeAgainError(f"invocation {invocation_id} of {job_id} changes too fast to be aborted")


def abort_running(runtime: Runtime, controller: Controller, who: str) -> None:
    """Abort the external task of an invocation that nobody is launching, and set the status.

    An invocation whose build is not known ends at once; a running one waits for its build's cancellation, for
    ``Limits.abort_patience`` from the request. A build that may run after that is left to a cleanup.

    Raises:
        TransientError: the external task still runs; the caller writes nothing.
    """
    invocation = controller.invocation
    controller.log(abort_line(runtime.era_of(invocation.task), who))
    if _may_wait(runtime, invocation):
        try:
            runtime.manager(invocation.task).abort(controller)
        except PermanentError as error:
            controller.log(log_lines.ABORT_FAILED.format(error=error))
    elif invocation.attempts:  # an invocation whose launch was never claimed has no external task
        cancel_or_leave(runtime, controller)
    if not controller.invocation.status.is_final:
        controller.set_status(Status.ABORTED)


def _may_wait(runtime: Runtime, invocation: Invocation) -> bool:
    asked = invocation.abort_requested_at
    if asked is None or invocation.status.is_initial:
        return False
    return runtime.clock.now() < asked + runtime.limits.abort_patience


def _abort_now(
    runtime: Runtime, found: Versioned[Invocation], calls: CallCache, key: str
) -> Sequence[Versioned[Invocation]] | None:
    """Abort and return what starts instead, or None where that has to be tried again later."""
    controller = runtime.controller(found.value, calls)
    try:
        abort_running(runtime, controller, found.value.abort_requested_by)
    except TransientError as error:
        logger.warning(
            "abort_postponed", job_id=found.value.job_id, invocation_id=str(found.value.id), error=str(error)
        )
        return None
    return commit_outcome(runtime, found, controller, f"{key}/abort")


def _mark(runtime: Runtime, found: Versioned[Invocation], key: str) -> None:
    """Leave a task that will abort, and the mark that whoever handles the invocation next obeys."""
    now = runtime.clock.now()
    runtime.offer(abort_task(found.value, now))
    marked = runtime.stamped(found.value, f"{key}/mark")
    runtime.store.commit([UpdateInvocation(marked, found.version)])
