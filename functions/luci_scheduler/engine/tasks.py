"""Tasks: what ``on_task`` is called for, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from luci_scheduler.core.errors import ComeAgainError, MalformedError
from luci_scheduler.core.identifiers import InvocationId, JobId, split_job_id, timer_mutation
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.trigger_json import trigger_from_json
from luci_scheduler.engine.abort import abort_invocation, on_abort_task
from luci_scheduler.engine.advance import advance
from luci_scheduler.engine.cron import on_cron_tick
from luci_scheduler.engine.dispatch import on_dispatch, on_dispatch_to
from luci_scheduler.engine.intake import accept_triggers
from luci_scheduler.engine.launch import on_launch_task
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.engine.watch import on_timer

__all__ = ["TASK_KINDS", "on_task"]

Payload = Mapping[str, Any]

Step = Callable[[], None]
"""What a task is for, its payload read: what goes wrong from there on is not the payload's fault."""


def on_task(runtime: Runtime, kind: str, payload: Payload, key: str) -> None:
    """Carry out a task; ``key`` names its delivery. Every kind is safe to repeat.

    Raises:
        MalformedError: no such kind, or a payload that lacks something.
        Others: as the step says.
    """
    handler = _HANDLERS.get(kind)
    if handler is None:
        raise MalformedError(f"no such task: {kind!r}")
    try:
        step = handler(runtime, payload, key)
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedError(f"bad payload of a {kind} task: {error!r}") from error
    step()


def _job_id(payload: Payload) -> JobId:
    split_job_id(payload["job"])
    return JobId(payload["job"])


def _invocation_id(payload: Payload) -> InvocationId:
    return InvocationId(int(payload["invocation"]))


def _timer(runtime: Runtime, payload: Payload, key: str) -> Step:
    created, timer_id = Instant(int(payload["created"])), payload["timer"]
    timer_mutation(timer_id)
    return partial(on_timer, runtime, _job_id(payload), _invocation_id(payload), timer_id, created, key)


def _launch(runtime: Runtime, payload: Payload, key: str) -> Step:
    attempts, created = int(payload["attempts"]), Instant(int(payload["created"]))
    return partial(_launch_if_created, runtime, _job_id(payload), _invocation_id(payload), attempts, created, key)


def _launch_if_created(
    runtime: Runtime, job_id: JobId, invocation_id: InvocationId, attempts: int, created: Instant, key: str
) -> None:
    found = runtime.store.invocation(job_id, invocation_id)
    if found is not None:
        on_launch_task(runtime, found, attempts, key)
        return
    if runtime.clock.now() - created < runtime.limits.early_task_patience:
        raise ComeAgainError(f"invocation {invocation_id} of {job_id} is not created yet")
    logger.info("launch_dropped", job_id=job_id, invocation_id=str(invocation_id), reason="it was never created")


def _abort(runtime: Runtime, payload: Payload, key: str) -> Step:
    job_id, invocation_id = _job_id(payload), _invocation_id(payload)
    if who := payload.get("who"):
        reason = str(payload.get("reason", ""))
        return partial(abort_invocation, runtime, job_id, invocation_id, str(who), key, reason)
    return partial(on_abort_task, runtime, job_id, invocation_id, Instant(int(payload["created"])), key)


def _trigger(runtime: Runtime, payload: Payload, key: str) -> Step:
    triggers = [trigger_from_json(item) for item in payload["triggers"]]
    return partial(accept_triggers, runtime, _job_id(payload), triggers, str(payload.get("delivery", key)))


def _cron(runtime: Runtime, payload: Payload, key: str) -> Step:
    nonce, generation, created = (int(payload[name]) for name in ("nonce", "generation", "created"))
    return partial(on_cron_tick, runtime, _job_id(payload), nonce, generation, Instant(created), key)


def _dispatch(runtime: Runtime, payload: Payload, key: str) -> Step:
    mutation, created = int(payload["mutation"]), Instant(int(payload["created"]))
    return partial(on_dispatch, runtime, _job_id(payload), _invocation_id(payload), mutation, created, key)


def _dispatch_to(runtime: Runtime, payload: Payload, key: str) -> Step:  # noqa: ARG001 - the batch has its own key
    split_job_id(payload["target"])
    target, first, created = JobId(payload["target"]), int(payload["first"]), Instant(int(payload["created"]))
    return partial(on_dispatch_to, runtime, _job_id(payload), _invocation_id(payload), target, first, created)


def _triage(runtime: Runtime, payload: Payload, key: str) -> Step:
    return partial(advance, runtime, _job_id(payload), key)


def _sweep(runtime: Runtime, payload: Payload, key: str) -> Step:  # noqa: ARG001 - it takes nothing
    return partial(_sweep_and_tell, runtime)


def _sweep_and_tell(runtime: Runtime) -> None:
    swept = sweep(runtime)
    logger.info("sweep_done", invocations=swept.invocations, jobs=swept.jobs, tasks=swept.tasks)


_HANDLERS: Mapping[str, Callable[[Runtime, Payload, str], Step]] = {
    "abort": _abort,
    "cron": _cron,
    "dispatch": _dispatch,
    "dispatch-to": _dispatch_to,
    "launch": _launch,
    "sweep": _sweep,
    "timer": _timer,
    "triage": _triage,
    "trigger": _trigger,
}

TASK_KINDS = (*_HANDLERS, "sync")
"""Last parts of the paths that ``on_task`` answers; ``sync`` reads the configs and is the composition root's."""
