"""Abort: ends an invocation in any state before its build ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import ComeAgainError, PermanentError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.engine.launch import abort_line, launch_all, update_and_launch
from luci_scheduler.engine.outbox import abort_task
from luci_scheduler.engine.outcome import cancel_or_leave, commit_outcome
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import CallCache, Controller
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.ports import UpdateInvocation, Versioned

__all__ = ["abort_invocation", "abort_running", "on_abort_task"]


def abort_invocation(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, who: str, key: str, reason: str = ""
) -> None:
    """Abort an invocation: a running one at once, one in its launch as soon as its build is known.

    Safe to repeat. An invocation that has ended, or is being aborted already, does not change.

    Raises:
        PermanentError: there is no such invocation.
        TransientError: the store or the queue failed; nothing is known to be written.
    """
    calls = CallCache()

    def attempt(found: Versioned[Invocation] | None) -> Sequence[Versioned[Invocation]]:
        if found is None:
            raise PermanentError(f"no such invocation: {job_id} {invocation_id}")
        # The first request counts: its caller, reason and time stay in the document.
        if found.value.status.is_final or found.value.abort_requested_by:
            return ()
        now = runtime.clock.now()
        requested = replace(found.value, abort_requested_by=who, abort_reason=reason, abort_requested_at=now)
        return _abort_or_mark(runtime, Versioned(requested, found.version), calls, key)

    successors = runtime.update_invocation(job_id, invocation_id, "abort it", attempt)
    launch_all(runtime, successors, key)


def on_abort_task(runtime: Runtime, job_id: JobId, invocation_id: InvocationId, created: Instant, key: str) -> None:
    """Perform an abort that was requested earlier, unless another delivery has done so.

    Raises:
        ComeAgainError: a launch is in progress, or the request is not visible yet (for five minutes from ``created``).
        TransientError: Buildbucket or the store failed; nothing was written.
    """
    calls = CallCache()

    def decide(found: Versioned[Invocation] | None) -> Controller | None:
        if found is None or found.value.status.is_final:
            return None
        invocation, now = found.value, runtime.clock.now()
        if not invocation.abort_requested_by:
            missing = f"the abort of invocation {invocation_id} of {job_id} is not recorded yet"
            about = {"job_id": job_id, "invocation_id": str(invocation_id), "reason": "it was never recorded"}
            runtime.wait_for_commit(created, missing, event="abort_dropped", **about)
            return None
        if invocation.claim_until is not None and now < invocation.claim_until:
            raise ComeAgainError(f"invocation {invocation_id} of {job_id} is still starting, try again later")
        controller = runtime.controller(invocation, calls)
        abort_running(runtime, controller, invocation.abort_requested_by)
        return controller

    update_and_launch(runtime, job_id, invocation_id, "abort it", "abort", key, decide)


def abort_running(runtime: Runtime, controller: Controller, who: str) -> None:
    """Abort the external task of an invocation whose launch is not in progress, and set the status.

    An invocation whose build is unknown ends at once. A running one waits until its build is canceled, for at most
    ``Limits.abort_patience`` from the request. A build that may run longer is left to a cleanup.

    Raises:
        TransientError: the external task still runs; the caller must write nothing.
    """
    invocation = controller.invocation
    controller.log(abort_line(runtime.era_of(invocation.task), who))
    if _may_wait(runtime, invocation):
        try:
            runtime.manager(invocation.task).abort(controller)
        except PermanentError as error:
            controller.log(log_lines.ABORT_FAILED.format(error=error))
    elif invocation.attempts:  # without a claimed launch there is no external task
        cancel_or_leave(runtime, controller)
    if not controller.invocation.status.is_final:
        controller.set_status(Status.ABORTED)


def _may_wait(runtime: Runtime, invocation: Invocation) -> bool:
    requested = invocation.abort_requested_at
    if requested is None or invocation.status.is_initial:
        return False
    return runtime.clock.now() < requested + runtime.limits.abort_patience


def _abort_or_mark(
    runtime: Runtime, found: Versioned[Invocation], calls: CallCache, key: str
) -> Sequence[Versioned[Invocation]]:
    """Abort an invocation and return the invocations to launch; if it cannot end yet, record the request."""
    invocation = found.value
    # An abort during a launch could lose the build that the launch requests, unless the launch leaves nothing running.
    if not (invocation.status.is_initial and kind_of(invocation.task).is_multistage):
        controller = runtime.controller(invocation, calls)
        try:
            abort_running(runtime, controller, invocation.abort_requested_by)
        except TransientError as error:
            about = {"job_id": invocation.job_id, "invocation_id": str(invocation.id)}
            logger.warning("abort_postponed", **about, error=str(error))
        else:
            return commit_outcome(runtime, found, controller, f"{key}/abort")
    # The document is due from the request on, so the sweep performs the abort if this task is lost.
    runtime.offer(abort_task(invocation, runtime.clock.now()))
    marked = runtime.stamped(invocation, f"{key}/mark")
    runtime.store.commit([UpdateInvocation(marked, found.version)])
    return ()
