"""Queue tasks: the table of kinds, each with its record and its handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.queue_tasks import (
    AbortTask,
    CleanupTask,
    DeferredTask,
    DispatchTask,
    DispatchToTask,
    LaunchTask,
    ProbeTask,
    SweepTask,
    SyncTask,
    Task,
    TickTask,
    TimerTask,
    TriageTask,
    TriggerTask,
    check_version,
)
from luci_scheduler.core.untrusted import PARSER_ERRORS
from luci_scheduler.engine.abort import abort_invocation, on_abort_task
from luci_scheduler.engine.cron import on_cron_tick
from luci_scheduler.engine.deferred import on_deferred
from luci_scheduler.engine.dispatch import on_dispatch, on_dispatch_to
from luci_scheduler.engine.launch import launch_all, on_launch_task
from luci_scheduler.engine.outcome import on_cleanup_task
from luci_scheduler.engine.progress import on_timer
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.engine.triggers import accept_triggers, triage_job
from luci_scheduler.ports import QueueTask
from luci_scheduler.tracing import current_trace, delivery_context

__all__ = ["TASK_KINDS", "on_task", "read_task"]

T = TypeVar("T", bound=Task)


def on_task(runtime: Runtime, kind: str, payload: Mapping[str, Any], key: str) -> None:
    """Handle a task. ``key`` names its delivery. Every kind is safe to repeat.

    Raises:
        MalformedError: the kind is unknown, or the payload lacks a member or has a wrong one.
        NewerVersionError: a newer version wrote the payload.
        Others: as the handler raises them.
    """
    task = read_task(kind, payload)
    _HANDLERS[kind].handle(runtime, task, key)


def read_task(kind: str, payload: Mapping[str, Any]) -> Task:
    """Read the payload of a task of a kind that has a handler.

    Raises:
        MalformedError, NewerVersionError: as of `on_task`.
    """
    try:
        # Before the kind is looked up: a newer version may have added the kind.
        check_version(kind, payload)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            return handler.task.from_payload(payload)
    except PARSER_ERRORS as error:
        raise MalformedError(f"bad payload of a {kind} task: {error!r}") from error
    raise MalformedError(f"no such task: {kind!r}")


def _abort(runtime: Runtime, task: AbortTask, key: str) -> None:
    if task.created is None:
        abort_invocation(runtime, task.job_id, task.invocation_id, task.who, key, task.reason)
    else:
        on_abort_task(runtime, task.job_id, task.invocation_id, task.created, key)


def _cleanup(runtime: Runtime, task: CleanupTask, key: str) -> None:
    on_cleanup_task(runtime, task.job_id, task.invocation_id, task.attempts, task.created, key)


def _deferred(runtime: Runtime, task: DeferredTask, key: str) -> None:
    on_deferred(runtime, task.deferred_id, task.tries, key, partial(_deferred_work, runtime))


def _deferred_work(runtime: Runtime, work: Deferred, key: str) -> None:
    # Deferred work has the kind and the payload of a queue task, so the same table handles it.
    on_task(runtime, work.kind, work.payload, key)


def _dispatch(runtime: Runtime, task: DispatchTask, key: str) -> None:
    on_dispatch(runtime, task.job_id, task.invocation_id, task.mutation, task.created, key)


def _dispatch_to(runtime: Runtime, task: DispatchToTask, _: str) -> None:
    on_dispatch_to(runtime, task.job_id, task.invocation_id, task.target, task.first, task.created)


def _launch(runtime: Runtime, task: LaunchTask, key: str) -> None:
    found = runtime.store.invocation(task.job_id, task.invocation_id)
    # None is normal for some seconds: a task is queued before the commit that creates its invocation.
    if found is not None:
        launch_all(runtime, on_launch_task(runtime, found, task.attempts, key), key)
        return
    missing = f"invocation {task.invocation_id} of {task.job_id} is not created yet"
    about = {"job_id": task.job_id, "invocation_id": str(task.invocation_id), "reason": "it was never created"}
    runtime.wait_for_commit(task.created, missing, event="launch_dropped", **about)


def _sweep(runtime: Runtime, task: SweepTask, key: str) -> None:
    swept = sweep(runtime, task.after, partial(_swept_task, runtime, key))
    logger.info(
        "sweep_done", invocations=swept.invocations, jobs=swept.jobs, deferred=swept.deferred, tasks=swept.tasks
    )


def _swept_task(runtime: Runtime, key: str, task: QueueTask) -> None:
    """Handle a task within the sweep's delivery. Later log lines of the sweep do not carry the task's fields."""
    with delivery_context(current_trace(), kind=task.kind):
        on_task(runtime, task.kind, task.payload, key)


def _tick(runtime: Runtime, task: TickTask, key: str) -> None:
    on_cron_tick(runtime, task.job_id, task.nonce, task.generation, task.created, key)


def _timer(runtime: Runtime, task: TimerTask, key: str) -> None:
    on_timer(runtime, task.job_id, task.invocation_id, task.timer_id, task.created, key)


def _triage(runtime: Runtime, task: TriageTask, key: str) -> None:
    triage_job(runtime, task.job_id, key)


def _trigger(runtime: Runtime, task: TriggerTask, key: str) -> None:
    accept_triggers(runtime, task.job_id, task.triggers, task.delivery or key)


@frozen
class _Handler:
    task: type[Task]
    handle: Callable[[Runtime, Any, str], None]


def _handler(task: type[T], handle: Callable[[Runtime, T, str], None]) -> _Handler:
    """Pair a kind with its handler: this signature lets the type checker see that the two fit."""
    return _Handler(task, handle)


_HANDLERS: Mapping[str, _Handler] = {
    handler.task.kind: handler
    for handler in (
        _handler(AbortTask, _abort),
        _handler(CleanupTask, _cleanup),
        _handler(DeferredTask, _deferred),
        _handler(DispatchTask, _dispatch),
        _handler(DispatchToTask, _dispatch_to),
        _handler(LaunchTask, _launch),
        _handler(SweepTask, _sweep),
        _handler(TickTask, _tick),
        _handler(TimerTask, _timer),
        _handler(TriageTask, _triage),
        _handler(TriggerTask, _trigger),
    )
}

TASK_KINDS = (*_HANDLERS, ProbeTask.kind, SyncTask.kind)
"""The last parts of the paths that the queue calls. The composition root handles ``probe`` and ``sync``."""
