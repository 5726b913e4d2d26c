"""Tasks: what ``on_task`` is called for, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.identifiers import InvocationId, JobId, split_job_id, timer_mutation
from luci_scheduler.core.instants import LAST_INSTANT, Instant
from luci_scheduler.core.trigger_json import arriving_trigger
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
from luci_scheduler.tracing import current_trace, isolated

__all__ = ["TASK_KINDS", "on_task"]

Payload = Mapping[str, Any]

Step = Callable[[Runtime, str], None]
"""What a payload asks for, given the ports and the delivery's key; only reading the payload can find it malformed."""


def on_task(runtime: Runtime, kind: str, payload: Payload, key: str) -> None:
    """Carry out a task; ``key`` names its delivery. Every kind is safe to repeat.

    Raises:
        MalformedError: no such kind, or a payload that lacks something.
        Others: as the step says.
    """
    _step(kind, payload)(runtime, key)


def _step(kind: str, payload: Payload) -> Step:
    read = _KINDS.get(kind)
    if read is None:
        raise MalformedError(f"no such task: {kind!r}")
    try:
        return read(payload)
    except PARSER_ERRORS as error:
        raise MalformedError(f"bad payload of a {kind} task: {error!r}") from error


def _job_id(payload: Payload, member: str = "job") -> JobId:
    split_job_id(payload[member])
    return JobId(payload[member])


def _invocation_id(payload: Payload) -> InvocationId:
    return InvocationId(int(payload["invocation"]))


def _created(payload: Payload) -> Instant:
    created = int(payload["created"])
    if not 0 <= created <= LAST_INSTANT:
        raise ValueError("created is no time")
    return Instant(created)


def _timer(payload: Payload) -> Step:
    job_id, invocation_id, created = _job_id(payload), _invocation_id(payload), _created(payload)
    timer_id = payload["timer"]
    timer_mutation(timer_id)
    return lambda runtime, key: on_timer(runtime, job_id, invocation_id, timer_id, created, key)


def _launch(payload: Payload) -> Step:
    job_id, invocation_id, created = _job_id(payload), _invocation_id(payload), _created(payload)
    attempts = int(payload["attempts"])

    def step(runtime: Runtime, key: str) -> None:
        found = runtime.store.invocation(job_id, invocation_id)
        if found is not None:
            launch_all(runtime, on_launch_task(runtime, found, attempts, key), key)
            return
        missing = f"invocation {invocation_id} of {job_id} is not created yet"
        about = {"job_id": job_id, "invocation_id": str(invocation_id), "reason": "it was never created"}
        runtime.wait_for_commit(created, missing, event="launch_dropped", **about)

    return step


def _abort(payload: Payload) -> Step:
    job_id, invocation_id = _job_id(payload), _invocation_id(payload)
    who, reason = str(payload.get("who", "")), str(payload.get("reason", ""))
    if who:
        return lambda runtime, key: abort_invocation(runtime, job_id, invocation_id, who, key, reason)
    created = _created(payload)
    return lambda runtime, key: on_abort_task(runtime, job_id, invocation_id, created, key)


def _cleanup(payload: Payload) -> Step:
    job_id, invocation_id, created = _job_id(payload), _invocation_id(payload), _created(payload)
    attempts = int(payload["attempts"])
    return lambda runtime, key: on_cleanup_task(runtime, job_id, invocation_id, attempts, created, key)


def _trigger(payload: Payload) -> Step:
    job_id, delivery = _job_id(payload), str(payload.get("delivery", ""))
    triggers = [arriving_trigger(item) for item in payload["triggers"]]
    return lambda runtime, key: accept_triggers(runtime, job_id, triggers, delivery or key)


def _deferred(payload: Payload) -> Step:
    deferred_id, tries = str(payload["deferred"]), int(payload["tries"])

    def step(runtime: Runtime, key: str) -> None:
        def carry_out(work: Deferred, key: str) -> None:
            _step(work.kind, work.payload)(runtime, key)

        on_deferred(runtime, deferred_id, tries, key, carry_out)

    return step


def _cron(payload: Payload) -> Step:
    job_id, created = _job_id(payload), _created(payload)
    nonce, generation = int(payload["nonce"]), int(payload["generation"])
    return lambda runtime, key: on_cron_tick(runtime, job_id, nonce, generation, created, key)


def _dispatch(payload: Payload) -> Step:
    job_id, invocation_id, created = _job_id(payload), _invocation_id(payload), _created(payload)
    mutation = int(payload["mutation"])
    return lambda runtime, key: on_dispatch(runtime, job_id, invocation_id, mutation, created, key)


def _dispatch_to(payload: Payload) -> Step:
    job_id, invocation_id, created = _job_id(payload), _invocation_id(payload), _created(payload)
    target, first = _job_id(payload, "target"), int(payload["first"])
    return lambda runtime, _: on_dispatch_to(runtime, job_id, invocation_id, target, first, created)


def _triage(payload: Payload) -> Step:
    job_id = _job_id(payload)
    return lambda runtime, key: triage_job(runtime, job_id, key)


def _sweep(payload: Payload) -> Step:
    place = payload.get("after")
    after = _place(place) if place else None

    def step(runtime: Runtime, key: str) -> None:
        swept = sweep(runtime, after, lambda task: _carry_out(runtime, task, key))
        logger.info(
            "sweep_done",
            invocations=swept.invocations,
            jobs=swept.jobs,
            deferred=swept.deferred,
            tasks=swept.tasks,
        )

    return step


def _place(place: Payload) -> DueCursor:
    due = Instant(int(place["due"]))
    if deferred := place.get("deferred"):
        return DueCursor(due, JobId(""), deferred=str(deferred))
    return DueCursor(due, _job_id(place), _invocation_id(place))


def _carry_out(runtime: Runtime, task: QueueTask, key: str) -> None:
    """Carry out a task within another one's delivery; the lines that follow are not about it."""
    isolated(lambda: on_task(runtime, task.kind, task.payload, key), current_trace(), kind=task.kind)


_KINDS: Mapping[str, Callable[[Payload], Step]] = {
    "abort": _abort,
    "cleanup": _cleanup,
    "cron": _cron,
    "deferred": _deferred,
    "dispatch": _dispatch,
    "dispatch-to": _dispatch_to,
    "launch": _launch,
    "sweep": _sweep,
    "timer": _timer,
    "triage": _triage,
    "trigger": _trigger,
}

TASK_KINDS = (*_KINDS, "sync")
"""Last parts of the paths that ``on_task`` calls; ``sync`` reads the configs and is the composition root's."""
