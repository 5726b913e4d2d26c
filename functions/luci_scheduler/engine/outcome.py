"""Outcomes: the commits that record a delivery's changes of an invocation.

The commit that ends an invocation also frees its slot and fills it again. If the invocation may leave a running build,
the commit records a cleanup, whose tasks cancel the build once the build service answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from luci_scheduler.core import debug_log, log_lines
from luci_scheduler.core.cleanup import Cleanup, first_cleanup, joined, next_cleanup
from luci_scheduler.core.debug_log import format_line
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.errors import PermanentError, StoreConflictError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import MILLISECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status, commit_known, result_of
from luci_scheduler.core.job import Job
from luci_scheduler.core.sizes import log_limits
from luci_scheduler.engine.announce import end_work, start_work
from luci_scheduler.engine.deferral import offer_deferred
from luci_scheduler.engine.outbox import cleanup_task, dispatch_task, triage_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.triage import triage_end
from luci_scheduler.managers.controller import CallCache, Controller
from luci_scheduler.managers.registry import is_poll
from luci_scheduler.ports import PutDeferred, UpdateInvocation, Version, Versioned, Write

__all__ = ["cancel_or_leave", "commit_outcome", "leave_to_cleanup", "log_failing_poll", "on_cleanup_task"]

_ARRIVALS = ("commit-", "dispatch-")
"""How the keys of deliveries begin that take commits to jobs. An invocation that such a delivery launches had a free
slot, so its commit waited for the scheduler alone."""

_FAILURES_IN_A_ROW = 5
"""Failed polls of a job, one after the other, that are worth an alert. A host that is down for a minute causes
fewer."""


def commit_outcome(
    runtime: Runtime, found: Versioned[Invocation], controller: Controller, key: str
) -> Sequence[Versioned[Invocation]]:
    """Commit the controller's changes. A final status also frees the job's slot and fills it, in the same commit.

    Returns the new invocations, which the caller must launch. If the store reported a failure but kept the commit, this
    is recognized, and the commit is not repeated.

    Raises:
        StoreConflictError: the invocation has changed since it was read; nothing was written. Read and decide again.
        TransientError: it is unknown whether the commit was written; a repeated delivery finds out.
    """
    update = _log_update(runtime, found, runtime.stamped(controller.result(), key), controller.log_text)
    invocation = update.invocation
    # The task comes before the commit: if it is lost, the document still holds the triggers to dispatch, and the sweep
    # finds it.
    if invocation.has_undispatched:
        runtime.offer(dispatch_task(invocation, runtime.clock.now()))
    writes: tuple[Write, ...] = (update,) if controller.poller is None else (update, controller.poller)
    if not invocation.status.is_final:
        news = _start_news(runtime, found.value, invocation)
        _commit_progress(runtime, update, (*writes, *_puts(news)))
        _offer(runtime, news)
        _log_launch(runtime, found.value, invocation, key)
        return ()
    successors = _commit_end(runtime, update, writes, key)
    _log_launch(runtime, found.value, invocation, key)
    logger.info(
        "invocation_finished",
        job_id=invocation.job_id,
        invocation_id=str(invocation.id),
        kind=invocation.task.kind,
        status=str(invocation.status),
        seconds=((invocation.finished or invocation.started) - invocation.started) / 1e9,
    )
    return successors


def cancel_or_leave(runtime: Runtime, controller: Controller, known: Controller | None = None) -> None:
    """Cancel the build that may run; if the build service does not answer, leave it to a cleanup.

    The caller ends the invocation. ``known`` is the controller that knows the build's ID, if it is not ``controller``.
    """
    invocation = controller.invocation
    try:
        runtime.manager(invocation.task).abort(known or controller)
    except PermanentError as error:
        controller.log(log_lines.ABORT_FAILED.format(error=error))
    except TransientError as error:
        cleanup = joined(invocation.cleanup, first_cleanup(runtime.clock.now()))
        controller.invocation = _left(runtime, invocation, cleanup, error)


def leave_to_cleanup(
    runtime: Runtime, found: Versioned[Invocation], task_data: Mapping[str, Any], error: TransientError, key: str
) -> None:
    """Record the cleanup of a build whose invocation has ended already, or has another build.

    Raises:
        ComeAgainError: other deliveries changed the invocation too often.
        TransientError: the store failed.
    """

    def attempt(current: Versioned[Invocation] | None) -> None:
        if current is None or (current.value.cleanup and not current.value.status.is_final):
            return
        cleanup = joined(current.value.cleanup, first_cleanup(runtime.clock.now(), task_data))
        left = _left(runtime, current.value, cleanup, error)
        runtime.store.commit([_log_update(runtime, current, runtime.stamped(left, f"{key}/cleanup"), "")])

    runtime.update_invocation(found.value.job_id, found.value.id, "record its cleanup", attempt, found)


def on_cleanup_task(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, attempts: int, created: Instant, key: str
) -> None:
    """Find and cancel the build that an invocation may have left running; safe to repeat.

    If the build service still does not answer, the next try is recorded. Tries end when no build can be alive any more.

    Raises:
        ComeAgainError: the commit that records the cleanup is not visible yet (for five minutes from ``created``).
        TransientError: the store failed.
    """
    calls = CallCache()

    def attempt(found: Versioned[Invocation] | None) -> None:
        # The task is enqueued before the commit that ends the invocation, so it may come first.
        if found is None or not (found.value.status.is_final or found.value.cleanup):
            missing = f"the end of invocation {invocation_id} of {job_id} is not recorded yet"
            about = {"job_id": job_id, "invocation_id": str(invocation_id), "reason": "the end was never recorded"}
            runtime.wait_for_commit(created, missing, event="cleanup_dropped", **about)
            return
        cleanup = found.value.cleanup
        if cleanup is None or cleanup.attempts != attempts:
            return
        after, line = _try_cleanup(runtime, runtime.controller(found.value, calls), cleanup)
        _record_cleanup(runtime, found, after, line, key)

    runtime.update_invocation(job_id, invocation_id, "record its cleanup", attempt)


def log_failing_poll(job_id: JobId, failures: int, limit: int = _FAILURES_IN_A_ROW) -> None:
    """Log that a job's polls keep failing, at every ``limit``-th failure in a row: an alert counts these lines."""
    if failures and failures % limit == 0:
        logger.warning("polls_keep_failing", job_id=job_id, failures=failures)


def _log_launch(runtime: Runtime, before: Invocation, after: Invocation, key: str) -> None:
    """Log the end of a launch, unless another attempt follows or the invocation was aborted."""
    if not before.status.is_initial or after.status.is_initial or after.status is Status.ABORTED:
        return
    about = {"job_id": after.job_id, "invocation_id": str(after.id), "kind": after.task.kind}
    latency = _commit_latency(after, runtime.clock.now(), key)
    if after.task_data or after.status is not Status.FAILED:
        logger.info("launched", **about, **latency)
    else:
        logger.warning("launch_given_up", **about, **latency)


def _commit_latency(invocation: Invocation, now: Instant, key: str) -> Mapping[str, int]:
    """Return ``commit_latency_ms``, the time since the newest commit became known; nothing without a commit.

    If the job had no free slot, or if a task launches, the time counts from the decision to start the invocation.
    """
    known = commit_known(invocation)
    if known is None:
        return {}
    since = known if key.startswith(_ARRIVALS) else invocation.started
    return {"commit_latency_ms": max(0, now - since) // MILLISECOND}


def _with_end(job: Versioned[Job], ended: Invocation) -> Versioned[Job]:
    """Return a job with the result of an ended invocation, and with the number of polls that have failed in a row."""
    failures = job.value.failed_polls
    if _counts(ended):
        failures = 0 if ended.status is Status.SUCCEEDED else failures + 1
    return Versioned(replace(job.value, failed_polls=failures).with_result(result_of(ended)), job.version)


def _counts(ended: Invocation) -> bool:
    """Return whether an ended invocation is a poll that failed or succeeded. An aborted poll counts as neither."""
    return is_poll(ended.task) and ended.status is not Status.ABORTED


def _log_update(runtime: Runtime, found: Versioned[Invocation], invocation: Invocation, log: str) -> UpdateInvocation:
    """Return the write of an outcome. Its log lines are appended without a read, unless the log becomes too long."""
    log = debug_log.trim(log)  # the store also trims the lines, and trimmed bytes must not count
    size = invocation.log_size + len(log.encode())
    most, cut_to = log_limits(invocation)
    if size <= most:
        return UpdateInvocation(replace(invocation, log_size=size), found.version, log)
    stored = runtime.store.invocation_with_log(invocation.job_id, invocation.id)
    whole = debug_log.trim((stored[1] if stored else "") + log, cut_to)
    return UpdateInvocation(replace(invocation, log_size=len(whole.encode())), found.version, whole, replaces_log=True)


def _commit_progress(runtime: Runtime, update: UpdateInvocation, writes: Sequence[Write]) -> None:
    try:
        runtime.store.commit(writes)
    except StoreConflictError:
        # A commit whose answer was lost may be tried again by the store's client; it then conflicts with itself.
        if not _has_landed(_reread(runtime, update), update):
            raise


def _commit_end(
    runtime: Runtime, update: UpdateInvocation, writes: Sequence[Write], key: str
) -> Sequence[Versioned[Invocation]]:
    """Commit the end again while only the job has changed.

    Raises:
        StoreConflictError: the invocation or the poller's record has changed: the caller must decide again.
    """
    invocation = update.invocation
    lost_at: Version | None = None
    news: Sequence[Deferred] = ()

    def attempt(job: Versioned[Job] | None) -> Sequence[Versioned[Invocation]] | StoreConflictError:
        nonlocal lost_at, news
        news = _end_news(runtime, invocation, job)
        try:
            if job is not None:
                ended = _with_end(job, invocation)
                successors = triage_end(runtime, ended, invocation.id, (*writes, *_puts(news)), key)
                if _counts(invocation):
                    log_failing_poll(invocation.job_id, ended.value.failed_polls)
                return successors
            runtime.store.commit((*writes, *_puts(news)))
        except StoreConflictError as error:
            current = _reread(runtime, update)
            if _has_landed(current, update):
                _offer_triage(runtime, invocation.job_id)  # instead of the recheck that follows a known commit
                return ()
            # If neither the job nor the invocation has changed, another poll changed the repository's record first.
            # The error is returned, because this loop repeats the attempt if it is raised.
            if job is None or not _is_unchanged(current, update) or (len(writes) > 1 and job.version == lost_at):
                return error
            lost_at = job.version
            raise
        return ()

    outcome = runtime.update_job(invocation.job_id, f"record the end of invocation {invocation.id}", attempt)
    if isinstance(outcome, StoreConflictError):
        raise outcome
    _offer(runtime, news)
    return outcome


def _start_news(runtime: Runtime, before: Invocation, after: Invocation) -> Sequence[Deferred]:
    """Return the work of making a start known, if the commit records one."""
    is_start = before.status.is_initial and after.status is Status.RUNNING
    works = (start_work(runtime, before, after), _status_work(runtime, after) if is_start else None)
    return [work for work in works if work is not None]


def _end_news(runtime: Runtime, ended: Invocation, job: Versioned[Job] | None) -> Sequence[Deferred]:
    """Return the work of making an end known."""
    return [work for work in (end_work(runtime, ended, job), _status_work(runtime, ended)) if work is not None]


def _status_work(runtime: Runtime, invocation: Invocation) -> Deferred | None:
    if runtime.statuses is None:
        return None
    from luci_scheduler.engine.statuses import status_work  # noqa: PLC0415 - most installations report no status

    return status_work(runtime, invocation)


def _puts(works: Sequence[Deferred]) -> tuple[Write, ...]:
    return tuple(PutDeferred(work, None) for work in works)


def _offer(runtime: Runtime, works: Sequence[Deferred]) -> None:
    for work in works:
        offer_deferred(runtime, work)


def _reread(runtime: Runtime, update: UpdateInvocation) -> Versioned[Invocation] | None:
    return runtime.store.invocation(update.invocation.job_id, update.invocation.id)


def _has_landed(current: Versioned[Invocation] | None, update: UpdateInvocation) -> bool:
    """Return whether a commit landed although the store reported a conflict: the answer of its first try was lost."""
    return current is not None and current.value.last_event == update.invocation.last_event


def _is_unchanged(current: Versioned[Invocation] | None, update: UpdateInvocation) -> bool:
    return current is not None and current.version == update.version


def _offer_triage(runtime: Runtime, job_id: JobId) -> None:
    """Enqueue the triage that a job requests. If that fails, the sweep finds the request."""
    found = runtime.store.job(job_id)
    if found is not None and found.value.triage_due is not None:
        runtime.offer(triage_task(job_id, runtime.clock.now()))


def _left(runtime: Runtime, invocation: Invocation, cleanup: Cleanup, error: TransientError) -> Invocation:
    about = {"job_id": invocation.job_id, "invocation_id": str(invocation.id)}
    logger.warning("build_left_running", **about, error=str(error))
    runtime.offer(cleanup_task(invocation, cleanup, runtime.clock.now()))
    return replace(invocation, cleanup=cleanup)


def _try_cleanup(runtime: Runtime, controller: Controller, cleanup: Cleanup) -> tuple[Cleanup | None, str]:
    """Try to cancel the build; return the cleanup for the next try, if one is needed, and a line for the debug log."""
    invocation, now = controller.invocation, runtime.clock.now()
    about = {"job_id": invocation.job_id, "invocation_id": str(invocation.id)}
    if cleanup.task_data is not None:
        controller.invocation = replace(invocation, task_data=cleanup.task_data)
    try:
        runtime.manager(invocation.task).abort(controller)
    except PermanentError as error:
        logger.error("cleanup_gave_up", **about, error=str(error))
        return None, log_lines.CLEANUP_REFUSED.format(error=error)
    except TransientError as error:
        after = next_cleanup(cleanup, now)
        if after is None:
            logger.error("cleanup_gave_up", **about, error=str(error))
            return None, log_lines.CLEANUP_GAVE_UP.format()
        runtime.offer(cleanup_task(invocation, after, now))
        return after, ""
    logger.info("cleanup_done", **about)
    return None, log_lines.CLEANUP_DONE.format()


def _record_cleanup(
    runtime: Runtime, found: Versioned[Invocation], cleanup: Cleanup | None, line: str, key: str
) -> None:
    stamp = max(runtime.clock.now(), found.value.last_line)
    changed = replace(found.value, cleanup=cleanup, last_line=stamp if line else found.value.last_line)
    text = format_line(stamp, line) if line else ""
    stamped = runtime.stamped(changed, f"{key}/cleanup{found.value.commits}")
    runtime.store.commit([_log_update(runtime, found, stamped, text)])
