"""Cleanup: a build that an invocation has left behind is canceled when its build service answers again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from luci_scheduler.core import log_lines
from luci_scheduler.core.cleanup import Cleanup, first_cleanup, joined, next_cleanup
from luci_scheduler.core.debug_log import format_line
from luci_scheduler.core.errors import ComeAgainError, PermanentError, StoreConflictError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.engine.outbox import cleanup_task
from luci_scheduler.engine.outcome import log_update, reread
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.managers.controller import CallCache, Controller
from luci_scheduler.ports import Versioned

__all__ = ["cancel_or_leave", "leave_to_cleanup", "on_cleanup_task"]


def cancel_or_leave(runtime: Runtime, controller: Controller, known: Controller | None = None) -> None:
    """Cancel the build that may run; where the build service does not answer, leave that to a cleanup.

    The caller ends the invocation. ``known`` is the controller that has_answer the build's ID, if it is not ``controller``.
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
    """Record the cleanup of a build that came to light when its invocation had ended already, or had another one.

    Raises:
        ComeAgainError: the race for the document was lost too often.
        TransientError: the store failed.
    """
    current: Versioned[Invocation] | None = found
    for _ in range(runtime.limits.races):
        if current is None or (current.value.cleanup and not current.value.status.is_final):
            return
        cleanup = joined(current.value.cleanup, first_cleanup(runtime.clock.now(), task_data))
        left = _left(runtime, current.value, cleanup, error)
        try:
            runtime.store.commit([log_update(runtime, current, runtime.stamped(left, f"{key}/cleanup"), "")])
        except StoreConflictError:
            current = reread(runtime, current.value)
            continue
        return
    raise _too_fast(found.value.job_id, found.value.id)


def on_cleanup_task(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, attempts: int, created: Instant, key: str
) -> None:
    """Look up and cancel the build that an invocation may have left running; safe to repeat.

    Where the build service still does not answer, the next try is recorded, until no build can be alive any more.

    Raises:
        ComeAgainError: the commit that records the cleanup is not visible yet (for five minutes from ``created``).
        TransientError: the store failed.
    """
    calls = CallCache()
    for _ in range(runtime.limits.races):
        found = runtime.store.invocation(job_id, invocation_id)
        if found is None or not (found.value.status.is_final or found.value.cleanup):
            _ahead_of_its_commit(runtime, job_id, invocation_id, created)
            return
        cleanup = found.value.cleanup
        if cleanup is None or cleanup.attempts != attempts:
            return
        after, line = _tried(runtime, runtime.controller(found.value, calls), cleanup)
        try:
            _record(runtime, found, after, line, key)
        except StoreConflictError:
            continue
        return
    raise _too_fast(job_id, invocation_id)


def _left(runtime: Runtime, invocation: Invocation, cleanup: Cleanup, error: TransientError) -> Invocation:
    about = {"job_id": invocation.job_id, "invocation_id": str(invocation.id)}
    logger.warning("build_left_running", **about, error=str(error))
    runtime.offer(cleanup_task(invocation, cleanup, runtime.clock.now()))
    return replace(invocation, cleanup=cleanup)


def _tried(runtime: Runtime, controller: Controller, cleanup: Cleanup) -> tuple[Cleanup | None, str]:
    """Try again; return the record for the next try, if one is due, and the line for the debug log, if there is news."""
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


def _record(runtime: Runtime, found: Versioned[Invocation], cleanup: Cleanup | None, line: str, key: str) -> None:
    stamp = max(runtime.clock.now(), found.value.last_line)
    changed = replace(found.value, cleanup=cleanup, last_line=stamp if line else found.value.last_line)
    text = format_line(stamp, line) if line else ""
    stamped = runtime.stamped(changed, f"{key}/cleanup{found.value.commits}")
    runtime.store.commit([log_update(runtime, found, stamped, text)])


def _ahead_of_its_commit(runtime: Runtime, job_id: JobId, invocation_id: InvocationId, created: Instant) -> None:
    missing = f"the end of invocation {invocation_id} of {job_id} is not recorded yet"
    about = {"job_id": job_id, "invocation_id": str(invocation_id), "reason": "the end was never recorded"}
    runtime.wait_for_commit(created, missing, event="cleanup_dropped", **about)


def _too_fast(job_id: JobId, invocation_id: InvocationId) -> ComeAgainError:
    return ComeAgainError(f"invocation {invocation_id} of {job_id} changes too fast to record its cleanup")
