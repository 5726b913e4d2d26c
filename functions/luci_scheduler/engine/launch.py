"""Launch: claim an invocation, ask for its build, and record what came of it.

One build per invocation: a launch is claimed by the commit that writes ``Starting the invocation``; nobody else asks
while the claim lives; every ask but the very first looks for the build of an earlier one before (the manager's part).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luci_scheduler.core import log_lines
from luci_scheduler.core.backoff import plain_pause, throttled_pause
from luci_scheduler.core.debug_log import format_line
from luci_scheduler.core.errors import ComeAgainError, PermanentError, StoreConflictError, TransientError
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.engine.cleanup import cancel_or_leave, leave_to_cleanup
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.engine.outcome import abort_line, commit_outcome, reread
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import CallCache, Controller
from luci_scheduler.ports import UpdateInvocation, Versioned

__all__ = ["launch", "needs_launch", "on_launch_task"]


def on_launch_task(
    runtime: Runtime, found: Versioned[Invocation], attempts: int, key: str
) -> Sequence[Versioned[Invocation]]:
    """Carry out a launch task; one that was made before the latest attempt is stale, and starts nothing.

    Returns what may start next, as `launch` does.
    """
    invocation, now = found.value, runtime.clock.now()
    claim_until = invocation.claim_until
    if invocation.attempts == attempts + 1 and invocation.status.is_initial and claim_until and now < claim_until:
        # Perhaps this very task has claimed it and its process has died: somebody has to look when the claim ends.
        runtime.offer(launch_task(invocation, claim_until, now))
    if invocation.attempts != attempts:
        return ()
    return _launch_here(runtime, found, key, CallCache())


def needs_launch(invocation: Invocation, now: Instant) -> bool:
    """Whether a repeated delivery has to take up the launch: nobody is at it, and no retry has been arranged."""
    if not invocation.status.is_initial:
        return False
    if invocation.claim_until is not None:
        return invocation.claim_until <= now
    return invocation.status is Status.STARTING


def launch(
    runtime: Runtime, found: Versioned[Invocation], key: str, calls: CallCache | None = None
) -> Sequence[Versioned[Invocation]]:
    """Launch an invocation that was just read or written, once: under a live claim a task is left for the claim's end.

    Returns when the outcome is committed: RUNNING, RETRYING (with a task for the next attempt) or a final status. What a
    final one has made room for is committed with it and returned: the caller launches it. A launch that blocks on its task
    is left to a task of the queue instead, so that a message never waits for it.

    Raises:
        TransientError: store or queue failed before the launch was claimed.
        ComeAgainError: the race for the document was lost too often.
    """
    if runtime.launch_time(found.value.task):
        now = runtime.clock.now()
        runtime.offer(launch_task(found.value, now, now))
        return ()
    return _launch_here(runtime, found, key, calls or CallCache())


def _launch_here(
    runtime: Runtime, found: Versioned[Invocation], key: str, calls: CallCache
) -> Sequence[Versioned[Invocation]]:
    claimed = _claim(runtime, found, key)
    if claimed is None:
        return ()
    try:
        return _carry_out(runtime, claimed, key, calls)
    except (TransientError, ComeAgainError) as error:
        invocation, now = claimed.value, runtime.clock.now()
        logger.warning(
            "launch_interrupted", job_id=invocation.job_id, invocation_id=str(invocation.id), error=str(error)
        )
        # To another delivery the launch is under way until its claim ends: that is when somebody has to look.
        runtime.offer(launch_task(invocation, invocation.claim_until or now, now))
        return ()


def _claim(runtime: Runtime, found: Versioned[Invocation], key: str) -> Versioned[Invocation] | None:
    for _ in range(runtime.limits.races):
        invocation, now = found.value, runtime.clock.now()
        if not invocation.status.is_initial:
            return None
        if invocation.claim_until is not None and now < invocation.claim_until:
            runtime.offer(launch_task(invocation, invocation.claim_until, now))
            return None
        claimed = replace(
            invocation,
            attempts=invocation.attempts + 1,
            claim_until=Instant(now + runtime.limits.claim_lease + runtime.launch_time(invocation.task)),
            mutations=invocation.mutations + 1,
        )
        stamp = max(now, claimed.last_line)
        line = format_line(stamp, _first_line(claimed, runtime.limits.max_attempts))
        claimed = replace(claimed, log_size=claimed.log_size + len(line), last_line=stamp)
        claimed = runtime.stamped(claimed, f"{key}/claim{claimed.attempts}")
        try:
            (version,) = runtime.store.commit([UpdateInvocation(claimed, found.version, line)])
        except StoreConflictError:
            again = reread(runtime, invocation)
            if again is None:
                return None
            if again.value.last_event == claimed.last_event:  # the refused commit was our own, its answer lost
                return again
            found = again
            continue
        return Versioned(claimed, version)
    raise ComeAgainError(f"invocation {found.value.id} of {found.value.job_id} changes too fast to be claimed")


def _first_line(claimed: Invocation, max_attempts: int) -> str:
    if claimed.attempts > max_attempts:
        return log_lines.TOO_MANY_ATTEMPTS.format()
    return log_lines.STARTING.format(attempt=claimed.attempts)


def _carry_out(
    runtime: Runtime, claimed: Versioned[Invocation], key: str, calls: CallCache
) -> Sequence[Versioned[Invocation]]:
    found = claimed
    refused: tuple[Controller, PermanentError] | None = None
    for _ in range(runtime.limits.races):
        controller = runtime.controller(found.value, calls)
        if refused is not None:
            _fail_without_outcome(runtime, controller, *refused)
        else:
            _attempt(runtime, controller)
        try:
            return commit_outcome(runtime, found, controller, f"{key}/launch{claimed.value.attempts}")
        except StoreConflictError:
            again = reread(runtime, found.value)
            if again is None or not _has_claim(again.value, claimed.value):
                _disown(runtime, controller, again, key)
                return ()
            found = again
        except PermanentError as error:
            if refused is not None:
                raise
            refused = controller, error
    raise ComeAgainError(f"invocation {claimed.value.id} of {claimed.value.job_id} changes too fast to be recorded")


def _has_claim(current: Invocation, claimed: Invocation) -> bool:
    """Whether an invocation is still under the claim that this attempt has committed."""
    is_same = (current.attempts, current.claim_until) == (claimed.attempts, claimed.claim_until)
    return is_same and current.status.is_initial


def _disown(runtime: Runtime, controller: Controller, current: Versioned[Invocation] | None, key: str) -> None:
    """Cancel the build of an attempt whose outcome can no longer be recorded, unless it is the recorded one.

    An attempt that has taken over and is still at it finds the build by its tag; else nobody will look for it any more.
    """
    ours = controller.invocation
    if current is None or current.value.status.is_initial or not ours.task_data:
        return
    if dict(current.value.task_data) == dict(ours.task_data):
        return
    logger.warning(
        "launch_interrupted", job_id=ours.job_id, invocation_id=str(ours.id), error="others were quicker: canceling"
    )
    try:
        runtime.manager(ours.task).abort(controller)
    except PermanentError as error:
        logger.warning("launch_refused", job_id=ours.job_id, invocation_id=str(ours.id), error=str(error))
    except TransientError as error:
        leave_to_cleanup(runtime, current, ours.task_data, error, key)


def _attempt(runtime: Runtime, controller: Controller) -> None:
    """Do one launch attempt; afterwards the controller's status is RUNNING, RETRYING or final.

    An invocation that ends here ends even without an answer of the build service: a cleanup cancels a build that may still run.
    """
    invocation = controller.invocation
    if invocation.attempts > runtime.limits.max_attempts:
        cancel_or_leave(runtime, controller)
        controller.set_status(Status.FAILED)
        controller.announce_end = False  # the original writes no line about the end on this path
        return
    if invocation.abort_requested_by and not controller.has_answer("launch"):
        if controller.may_exist:
            cancel_or_leave(runtime, controller)
        controller.log(log_lines.LAUNCH_SKIPPED.format(who=invocation.abort_requested_by))
        controller.set_status(Status.ABORTED)
        return
    _launch_or_fail(runtime, controller)
    if invocation.abort_requested_by and not controller.invocation.status.is_final:
        _abort_after_all(runtime, controller)


def _launch_or_fail(runtime: Runtime, controller: Controller) -> None:
    invocation = controller.invocation
    try:
        _ask_the_manager(runtime, controller)
    except TransientError as error:
        logger.warning("launch_failed", job_id=invocation.job_id, invocation_id=str(invocation.id), error=str(error))
        if controller.invocation.status.is_initial:
            _retry_or_fail(runtime, controller, error)
    except PermanentError as error:
        logger.warning("launch_refused", job_id=invocation.job_id, invocation_id=str(invocation.id), error=str(error))
        if controller.invocation.status.is_initial:
            if controller.may_exist:
                cancel_or_leave(runtime, controller)
            controller.set_status(Status.FAILED)


def _fail_without_outcome(
    runtime: Runtime, controller: Controller, refused: Controller, refusal: PermanentError
) -> None:
    """The store can never take what the attempt has brought (its log, what it emitted, the refs of a repository): leave it out."""
    invocation, error = controller.invocation, str(refusal)
    logger.warning("launch_refused", job_id=invocation.job_id, invocation_id=str(invocation.id), error=error)
    controller.log(log_lines.OUTCOME_NOT_STORED.format(error=error))
    # The refused controller may know the build by its ID; the look-up by its tag may not see it so soon.
    cancel_or_leave(runtime, controller, known=refused if refused.invocation.task_data else None)
    controller.set_status(Status.FAILED)


def _ask_the_manager(runtime: Runtime, controller: Controller) -> None:
    runtime.manager(controller.invocation.task).launch(controller)
    if (status := controller.invocation.status).is_initial:
        raise PermanentError(f"LaunchTask didn't move invocation out of initial {status} state")


def _retry_or_fail(runtime: Runtime, controller: Controller, error: TransientError) -> None:
    invocation, limits = controller.invocation, runtime.limits
    if invocation.attempts >= limits.max_attempts:
        cancel_or_leave(runtime, controller)
        controller.set_status(Status.FAILED)
        return
    controller.set_status(Status.RETRYING)
    controller.log(log_lines.RETRIED.format())
    now = runtime.clock.now()
    eta = Instant(now + _pause(runtime, invocation.attempts, error))
    runtime.offer(launch_task(invocation, eta, now))
    controller.invocation = replace(controller.invocation, next_due=eta)


def _pause(runtime: Runtime, attempts: int, error: TransientError) -> int:
    limits = runtime.limits
    plain = plain_pause(attempts, limits.retry_backoff_min, limits.retry_backoff_max)
    return throttled_pause(plain, error.retry_after, runtime.entropy.nonce()) if error.throttled else plain


def _abort_after_all(runtime: Runtime, controller: Controller) -> None:
    """The abort was asked for while the build was being created: cancel it, it is ours to cancel now."""
    invocation = controller.invocation
    controller.log(abort_line(runtime.era_of(invocation.task), invocation.abort_requested_by))
    cancel_or_leave(runtime, controller)
    if not controller.invocation.status.is_final:
        controller.set_status(Status.ABORTED)
