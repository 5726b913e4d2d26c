"""Launch: claim an invocation, attempt to start its build, and record the outcome.

Each invocation gets one build. The commit that writes ``Starting the invocation`` claims the launch, and no other
delivery attempts it while the claim is live. Every attempt except the first looks for a build of an earlier attempt
before it requests one; the task manager does this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from luci_scheduler.core import log_lines
from luci_scheduler.core.backoff import plain_pause, throttled_pause
from luci_scheduler.core.debug_log import format_line
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import ComeAgainError, PermanentError, SchedulerError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import SECOND, Instant, truncate_to_microseconds
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.engine.outcome import cancel_or_leave, commit_outcome, leave_to_cleanup, log_failing_poll
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import CallCache, Controller
from luci_scheduler.managers.registry import is_poll, kind_of
from luci_scheduler.ports import UpdateInvocation, Versioned

__all__ = ["abort_line", "launch_all", "on_launch_task", "resume_launch", "update_and_launch"]

_FAILED_ATTEMPTS = 10
"""Failed attempts of one poll, about half an hour, that are worth an alert."""

_LAUNCHING = 30 * SECOND
"""Launches that would start later than this in a delivery get tasks: a notification must be answered within two
minutes, and one launch may take a minute."""


def on_launch_task(
    runtime: Runtime, found: Versioned[Invocation], attempts: int, key: str
) -> Sequence[Versioned[Invocation]]:
    """Handle a launch task; a task from before the latest attempt is stale and starts nothing.

    Returns invocations to launch, as `launch` does.
    """
    invocation, now = found.value, runtime.clock.now()
    claim_until = invocation.claim_until
    if invocation.attempts == attempts + 1 and invocation.status.is_initial and claim_until and now < claim_until:
        # An earlier delivery of this task may have claimed the launch and died, so another task follows the claim.
        runtime.offer(launch_task(invocation, claim_until, now))
    if invocation.attempts != attempts:
        return ()
    return launch(runtime, found, key, CallCache())


def resume_launch(runtime: Runtime, found: Versioned[Invocation], key: str) -> None:
    """Launch an invocation whose claim has expired; if its claim is live, enqueue a task for the claim's end."""
    now, claim_until = runtime.clock.now(), found.value.claim_until
    if _needs_launch(found.value, now):
        launch_all(runtime, [found], key)
    elif claim_until is not None and found.value.status.is_initial:
        runtime.queue.enqueue(launch_task(found.value, claim_until, now))


def launch_all(
    runtime: Runtime, created: Sequence[Versioned[Invocation]], key: str, calls: CallCache | None = None
) -> None:
    """Launch new invocations. If a launch ends at once, also launch the invocations that take its slot.

    A failed launch, a launch that blocks on its task, and every launch after the first ``Limits.launches_at_once`` or
    after `_LAUNCHING` get separate tasks, so a delivery's run time stays bounded. If the queue refuses such a task,
    the sweep launches: each invocation has its ``next_due`` from its creation.

    ``calls`` caches the calls that were made for the first invocation before it was created.
    """
    # An invocation that ends in its launch frees a slot, and its successors join the end of the line.
    until = Instant(runtime.clock.now() + _LAUNCHING)
    waiting = deque(created)
    for _ in range(runtime.limits.launches_at_once):
        if not waiting or runtime.clock.now() >= until:
            break
        found = waiting.popleft()
        try:
            if runtime.launch_time(found.value.task):
                _enqueue_launch(runtime, found.value, runtime.clock.now())
            else:
                waiting.extend(launch(runtime, found, key, calls or CallCache()))
        except SchedulerError as error:
            _postpone(runtime, found.value, str(error))
        # The cached calls belong to the first invocation only.
        calls = None
    for found in waiting:
        _postpone(runtime, found.value, "enough was launched by this delivery")


def update_and_launch(
    runtime: Runtime,
    job_id: JobId,
    invocation_id: InvocationId,
    step: str,
    name: str,
    key: str,
    decide: Callable[[Versioned[Invocation] | None], Controller | None],
) -> None:
    """Commit the changes that ``decide`` makes to an invocation, and launch the invocations that the commit creates.

    Args:
        runtime: the ports.
        job_id: the invocation's job.
        invocation_id: the invocation.
        step: the handler's action, for the error about too many conflicts.
        name: the part that names the commit, after the delivery's key.
        key: the delivery's key.
        decide: gets the current invocation; returns the controller whose changes to commit, or None to commit nothing.

    Raises:
        ComeAgainError: other deliveries changed the invocation too often.
        Others: as ``decide`` raises them; nothing was written.
    """

    def attempt(found: Versioned[Invocation] | None) -> Sequence[Versioned[Invocation]]:
        controller = decide(found)
        if found is None or controller is None:
            return ()
        return commit_outcome(runtime, found, controller, f"{key}/{name}")

    successors = runtime.update_invocation(job_id, invocation_id, step, attempt)
    launch_all(runtime, successors, key)


def launch(
    runtime: Runtime, found: Versioned[Invocation], key: str, calls: CallCache
) -> Sequence[Versioned[Invocation]]:
    """Launch an invocation unless another delivery holds its claim: claim, attempt, record.

    When this returns, the recorded status is RUNNING, RETRYING (with a task for the next attempt) or final. A final
    status makes room for other invocations, which are returned: the caller must launch them.

    Raises:
        TransientError: the store or the queue failed before the launch was claimed.
        ComeAgainError: other deliveries changed the invocation too often.
    """
    claimed = _claim(runtime, found, key)
    if claimed is None:
        return ()
    try:
        controller = _attempt(runtime, claimed.value, calls)
        return _record(runtime, claimed, controller, key, calls)
    except (TransientError, ComeAgainError) as error:
        invocation = claimed.value
        about = {"job_id": invocation.job_id, "invocation_id": str(invocation.id)}
        logger.warning("launch_interrupted", **about, error=str(error))
        # Other deliveries leave the launch alone until its claim ends, so the next attempt is due then.
        _enqueue_launch(runtime, invocation, invocation.claim_until or runtime.clock.now())
        return ()


def abort_line(era: Era, who: str) -> str:
    """Return the debug log's line about an abort, in the wording of the era."""
    return (log_lines.ABORTED_V1 if era is Era.V1 else log_lines.ABORTED).format(who=who)


def _needs_launch(invocation: Invocation, now: Instant) -> bool:
    """Return whether a repeated delivery must launch: no claim is live, and no retry is scheduled."""
    if not invocation.status.is_initial:
        return False
    if invocation.claim_until is not None:
        return invocation.claim_until <= now
    return invocation.status is Status.STARTING


def _claim(runtime: Runtime, found: Versioned[Invocation], key: str) -> Versioned[Invocation] | None:
    """Claim the launch for `Limits.claim_lease`; return None if it is over or another delivery holds the claim."""
    own = ""

    def attempt(current: Versioned[Invocation] | None) -> Versioned[Invocation] | None:
        nonlocal own
        if current is None or (own and current.value.last_event == own):
            return current  # the claim was kept although the store reported a conflict
        invocation, now = current.value, runtime.clock.now()
        if not invocation.status.is_initial:
            return None
        due = invocation.claim_until if invocation.claim_until is not None else _retry_due(invocation)
        if due is not None and now < due:
            runtime.offer(launch_task(invocation, due, now))
            return None
        claimed, line = _claimed(runtime, invocation, now, key)
        own = claimed.last_event
        (version,) = runtime.store.commit([UpdateInvocation(claimed, current.version, line)])
        return Versioned(claimed, version)

    return runtime.update_invocation(found.value.job_id, found.value.id, "claim it", attempt, found)


def _retry_due(invocation: Invocation) -> Instant | None:
    """Return when the next attempt is due after a failed one; None if an attempt may start at any time.

    A task from before the failed attempt may come sooner. An aborted launch requests nothing, so it need not wait.
    """
    if invocation.status is not Status.RETRYING or invocation.abort_requested_by or invocation.next_due is None:
        return None
    return truncate_to_microseconds(invocation.next_due)  # as the queue does


def _claimed(runtime: Runtime, invocation: Invocation, now: Instant, key: str) -> tuple[Invocation, str]:
    """Return the invocation under a new claim, and the first line of the attempt."""
    attempts, stamp = invocation.attempts + 1, max(now, invocation.last_line)
    is_last = attempts > runtime.limits.max_attempts
    starting = log_lines.STARTING.format(attempt=attempts)
    line = format_line(stamp, log_lines.TOO_MANY_ATTEMPTS.format() if is_last else starting)
    claimed = replace(
        invocation,
        attempts=attempts,
        claim_until=Instant(now + _claim_time(runtime, invocation)),
        mutations=invocation.mutations + 1,
        log_size=invocation.log_size + len(line),
        last_line=stamp,
    )
    return runtime.stamped(claimed, f"{key}/claim{attempts}"), line


def _claim_time(runtime: Runtime, invocation: Invocation) -> int:
    """Return how long a launch is claimed. The next attempt follows the claim if the process of this one dies."""
    task = invocation.task
    return runtime.limits.claim_lease + runtime.launch_time(task) + kind_of(task).retry_pause


def _attempt(runtime: Runtime, invocation: Invocation, calls: CallCache) -> Controller:
    """Attempt one launch; return the controller, whose status is RUNNING, RETRYING or final.

    Repeating an attempt under the same ``calls`` requests no second build. If the attempt ends the invocation while the
    build service does not answer, a cleanup cancels the build that may still run.
    """
    controller = runtime.controller(invocation, calls)
    if _ends_before_launch(runtime, controller):
        return controller
    controller.set_summary("")  # of an earlier attempt
    try:
        runtime.manager(invocation.task).launch(controller)
    except TransientError as error:
        _retry_or_fail(runtime, controller, error)
    except PermanentError as error:
        _fail(runtime, controller, error)
    else:
        if (status := controller.invocation.status).is_initial:
            text = f"LaunchTask didn't move invocation out of initial {status} state"
            _fail(runtime, controller, PermanentError(text))
    if invocation.abort_requested_by and not controller.invocation.status.is_final:
        _abort_launched(runtime, controller)
    return controller


def _ends_before_launch(runtime: Runtime, controller: Controller) -> bool:
    """End an invocation that has used up its attempts, or is aborted before this attempt requested a build."""
    invocation = controller.invocation
    # An earlier attempt may have created a build whose answer was lost, so a request to the build service cancels it.
    if invocation.attempts > runtime.limits.max_attempts:
        cancel_or_leave(runtime, controller)
        controller.set_status(Status.FAILED)
        controller.announce_end = False  # the original writes no line about this end
        return True
    if invocation.abort_requested_by and not controller.has_answer("launch"):
        if controller.may_exist:
            cancel_or_leave(runtime, controller)
        controller.log(log_lines.LAUNCH_SKIPPED.format(who=invocation.abort_requested_by))
        controller.set_status(Status.ABORTED)
        return True
    return False


def _retry_or_fail(runtime: Runtime, controller: Controller, error: TransientError) -> None:
    invocation, limits = controller.invocation, runtime.limits
    logger.warning("launch_failed", **_about(invocation), error=str(error))
    if not invocation.status.is_initial:
        return
    controller.set_summary(str(error))
    if is_poll(invocation.task):
        log_failing_poll(invocation.job_id, invocation.attempts, _FAILED_ATTEMPTS)
    if invocation.attempts >= limits.max_attempts:
        cancel_or_leave(runtime, controller)
        controller.set_status(Status.FAILED)
        return
    controller.set_status(Status.RETRYING)
    controller.log(log_lines.RETRIED.format())
    now = runtime.clock.now()
    # The document is due at the same instant, so that the sweep retries the launch if the task is lost.
    pause = max(_pause(runtime, invocation.attempts, error), kind_of(invocation.task).retry_pause)
    eta = Instant(now + pause)
    runtime.offer(launch_task(invocation, eta, now))
    controller.invocation = replace(controller.invocation, next_due=eta)


def _fail(runtime: Runtime, controller: Controller, error: PermanentError) -> None:
    invocation = controller.invocation
    logger.warning("launch_refused", **_about(invocation), error=str(error))
    controller.set_summary(str(error))
    # Otherwise the manager has set a final status itself.
    if invocation.status.is_initial:
        if controller.may_exist:
            cancel_or_leave(runtime, controller)
        controller.set_status(Status.FAILED)


def _about(invocation: Invocation) -> dict[str, str]:
    """Return the members of a line about a launch. ``kind`` is the task's, and not that of the queue task."""
    return {"job_id": invocation.job_id, "invocation_id": str(invocation.id), "kind": invocation.task.kind}


def _pause(runtime: Runtime, attempts: int, error: TransientError) -> int:
    limits = runtime.limits
    plain = plain_pause(attempts, limits.retry_backoff_min, limits.retry_backoff_max)
    return throttled_pause(plain, error.retry_after, runtime.entropy.nonce()) if error.throttled else plain


def _abort_launched(runtime: Runtime, controller: Controller) -> None:
    """Cancel a build whose abort was requested while it was being created."""
    invocation = controller.invocation
    controller.log(abort_line(runtime.era_of(invocation.task), invocation.abort_requested_by))
    cancel_or_leave(runtime, controller)
    if not controller.invocation.status.is_final:
        controller.set_status(Status.ABORTED)


def _record(
    runtime: Runtime, claimed: Versioned[Invocation], controller: Controller, key: str, calls: CallCache
) -> Sequence[Versioned[Invocation]]:
    """Commit the outcome of an attempt; return the invocations to launch next.

    An abort request may change the invocation during the attempt. The attempt is then decided again, with its cached
    answers.
    """
    commit_key = f"{key}/launch{claimed.value.attempts}"
    refused: tuple[Controller, PermanentError] | None = None

    def attempt(found: Versioned[Invocation] | None) -> Sequence[Versioned[Invocation]]:
        nonlocal controller, refused
        # After a conflict the invocation may carry an abort request, or another attempt may have taken over.
        if found is not claimed:
            if found is None or not _has_claim(found.value, claimed.value):
                _cancel_superseded_build(runtime, controller, found, key)
                return ()
            controller = _failed(runtime, found, calls, *refused) if refused else _attempt(runtime, found.value, calls)
        try:
            return commit_outcome(runtime, found, controller, commit_key)
        except PermanentError as error:
            if refused:
                raise
            refused = controller, error
            controller = _failed(runtime, found, calls, *refused)
            return commit_outcome(runtime, found, controller, commit_key)

    try:
        return runtime.update_invocation(claimed.value.job_id, claimed.value.id, "record its launch", attempt, claimed)
    except ComeAgainError:
        # The last conflict may be another attempt that took over. Nothing else would look for our build then.
        current = runtime.store.invocation(claimed.value.job_id, claimed.value.id)
        if current is None or not _has_claim(current.value, claimed.value):
            _cancel_superseded_build(runtime, controller, current, key)
            return ()
        raise


def _has_claim(current: Invocation, claimed: Invocation) -> bool:
    """Return whether an invocation is still under the claim that this attempt committed."""
    is_same = (current.attempts, current.claim_until) == (claimed.attempts, claimed.claim_until)
    return is_same and current.status.is_initial


def _failed(
    runtime: Runtime, found: Versioned[Invocation], calls: CallCache, refused: Controller, refusal: PermanentError
) -> Controller:
    """Return a failed invocation without the outcome that exceeds the store's limits.

    Such an outcome has a huge log, too many emitted triggers, or too many refs of a repository.
    """
    controller = runtime.controller(found.value, calls)
    invocation, error = controller.invocation, str(refusal)
    logger.warning("launch_refused", **_about(invocation), error=error)
    controller.log(log_lines.OUTCOME_NOT_STORED.format(error=error))
    controller.set_summary(error)
    # The refused controller may know the build by its ID; a search by tag may not find a new build yet.
    cancel_or_leave(runtime, controller, known=refused if refused.invocation.task_data else None)
    controller.set_status(Status.FAILED)
    return controller


def _cancel_superseded_build(
    runtime: Runtime, controller: Controller, current: Versioned[Invocation] | None, key: str
) -> None:
    """Cancel the build of an attempt whose outcome can no longer be recorded, unless it is the recorded build.

    If another attempt is in progress, it finds the build by its tag. Otherwise nothing else would ever cancel it.
    """
    ours = controller.invocation
    if current is None or current.value.status.is_initial or not ours.task_data:
        return
    identity = kind_of(ours.task).identity
    if identity(current.value.task_data) == identity(ours.task_data):
        return
    about = {"job_id": ours.job_id, "invocation_id": str(ours.id)}
    logger.warning("launch_interrupted", **about, error="others were quicker: canceling")
    try:
        runtime.manager(ours.task).abort(controller)
    except PermanentError as error:
        logger.warning("launch_refused", **about, error=str(error))
    except TransientError as error:
        leave_to_cleanup(runtime, current, ours.task_data, error, key)


def _enqueue_launch(runtime: Runtime, invocation: Invocation, eta: Instant) -> None:
    runtime.offer(launch_task(invocation, eta, runtime.clock.now()))


def _postpone(runtime: Runtime, invocation: Invocation, reason: str) -> None:
    about = {"job_id": invocation.job_id, "invocation_id": str(invocation.id)}
    logger.info("launch_postponed", **about, reason=reason)
    now = runtime.clock.now()
    try:
        runtime.queue.enqueue(launch_task(invocation, now, now))
    except SchedulerError as error:
        logger.warning("launch_interrupted", **about, error=str(error))
