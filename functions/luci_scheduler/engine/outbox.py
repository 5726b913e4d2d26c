"""What documents say is due, as tasks: handlers enqueue them before their commits, the sweep once more if they were lost.

Payloads carry the kind's members only; ``created`` is when the task was made, in nanoseconds.
"""

from __future__ import annotations

from luci_scheduler.core.cleanup import Cleanup
from luci_scheduler.core.cron_machine import TickLater
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.triage_throttle import triage_kick
from luci_scheduler.ports import QueueTask

__all__ = [
    "abort_task",
    "cleanup_task",
    "deferred_task",
    "dispatch_task",
    "dispatch_to_task",
    "launch_task",
    "sweep_task",
    "tick_task",
    "triage_task",
]


def launch_task(invocation: Invocation, eta: Instant, now: Instant) -> QueueTask:
    """Return the task that launches an invocation at ``eta``, unless another attempt is made before."""
    payload = {
        "job": invocation.job_id,
        "invocation": str(invocation.id),
        "attempts": invocation.attempts,
        "created": now,
    }
    return QueueTask("launch", payload, eta)


def tick_task(job: Job, tick: TickLater, now: Instant) -> QueueTask:
    """Return the task of a job's awaited tick, or of a link on the way to it; it counts once ``job`` is committed."""
    payload = {"job": job.id, "nonce": str(tick.nonce), "generation": job.cron.generation, "created": now}
    return QueueTask("cron", payload, now if job.tick_at is None else max(now, job.tick_at))


def triage_task(job_id: JobId, now: Instant) -> QueueTask:
    """Return the task that triages a job: at most one for every two seconds is carried out, however many are asked for."""
    eta, name = triage_kick(job_id, now)
    return QueueTask("triage", {"job": job_id, "created": now}, eta, name=name)


def abort_task(invocation: Invocation, now: Instant) -> QueueTask:
    """Return the task that carries out an abort that was asked for."""
    return QueueTask("abort", {"job": invocation.job_id, "invocation": str(invocation.id), "created": now}, now)


def cleanup_task(invocation: Invocation, cleanup: Cleanup, now: Instant) -> QueueTask:
    """Return the task that cancels the build of an invocation that has ended; it counts once ``cleanup`` is committed."""
    payload = {
        "job": invocation.job_id,
        "invocation": str(invocation.id),
        "attempts": cleanup.attempts,
        "created": now,
    }
    return QueueTask("cleanup", payload, max(now, cleanup.next_try))


def dispatch_task(invocation: Invocation, now: Instant) -> QueueTask:
    """Return the task that dispatches what an invocation has emitted; it counts once ``invocation`` is committed."""
    payload = {
        "job": invocation.job_id,
        "invocation": str(invocation.id),
        "mutation": invocation.mutations,
        "created": now,
    }
    return QueueTask("dispatch", payload, now)


def dispatch_to_task(invocation: Invocation, target: JobId, first: int, now: Instant) -> QueueTask:
    """Return the task that brings one job what an invocation emitted, from the number ``first`` on."""
    payload = {
        "job": invocation.job_id,
        "invocation": str(invocation.id),
        "target": target,
        "first": first,
        "created": now,
    }
    return QueueTask("dispatch-to", payload, now)


def sweep_task(after: DueCursor, now: Instant) -> QueueTask:
    """Return the task that goes on with a sweep which its time has not sufficed for."""
    place = {
        "due": after.due,
        "job": after.job_id,
        "invocation": str(after.invocation_id),
        "deferred": after.deferred,
    }
    return QueueTask("sweep", {"after": place, "created": now}, now)


def deferred_task(work: Deferred, now: Instant) -> QueueTask:
    """Return the task that tries a deferred task once it is due, unless another try is made before."""
    payload = {"deferred": work.id, "tries": work.tries, "created": now}
    return QueueTask("deferred", payload, max(now, work.next_due))
