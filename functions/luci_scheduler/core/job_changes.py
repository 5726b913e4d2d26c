"""Changes of a job: defined, removed, paused, resumed, rewound.

Pure: the engine enqueues the tick of a change and then commits the job.
"""

from __future__ import annotations

from dataclasses import replace

from luci_scheduler.core import cron_machine
from luci_scheduler.core.cron_machine import DrawNonce, Step, TickLater
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.job import Job, JobDefinition
from luci_scheduler.core.schedule import BadScheduleError, Schedule, parse_schedule
from luci_scheduler.core.triage import request_triage

__all__ = [
    "MIN_PAUSE",
    "JobChange",
    "defined",
    "effective_schedule",
    "paused",
    "removed",
    "resumed",
    "rewound",
    "stepped",
]

MIN_PAUSE = 3 * SECOND
"""The least time between two ticks of an interval, ``continuously`` included. The original has no such rule, but is
as slow: the end of an invocation waits up to two seconds for a triage, and its cron machine one second for a batch."""

_TRIGGERED = "triggered"


@frozen
class JobChange:
    """A changed job, and the tick that must be on the queue before the job is committed."""

    job: Job
    tick: TickLater | None = None


def effective_schedule(job: Job) -> Schedule:
    """Return a job's schedule in effect: a paused job, and a job whose schedule no longer parses, never ticks."""
    try:
        return parse_schedule(_TRIGGERED if job.paused else job.definition.schedule)
    except BadScheduleError:
        return parse_schedule(_TRIGGERED)


def stepped(job: Job, step: Step, now: Instant) -> JobChange:
    """Return a job after a step of its cron machine."""
    state, actions = step
    ticks = [action for action in actions if isinstance(action, TickLater)]
    if ticks:
        at = cron_machine.enqueue_at(now, ticks[-1].when)
        return JobChange(replace(job, cron=state, tick_at=at), ticks[-1])
    # The step keeps the tick that is on the queue only if both its nonce and its time are the same.
    same = state.last_tick_nonce == job.cron.last_tick_nonce and state.last_tick_when == job.cron.last_tick_when
    return JobChange(replace(job, cron=state, tick_at=job.tick_at if same else None))


def rewound(job: Job, now: Instant, draw_nonce: DrawNonce) -> JobChange:
    """Start to wait for the next tick if no invocation is active and no tick is awaited; intervals count from here.

    Ticks are at least ``MIN_PAUSE`` apart, even for shorter intervals.
    """
    if job.active_invocations:
        return JobChange(job)
    schedule = effective_schedule(job)
    # A machine that already awaits a tick, or that is disabled, stays as it is.
    step = cron_machine.rewind_if_necessary(job.cron, schedule, _paced(job, schedule, now), draw_nonce)
    return stepped(job, step, now)


def _paced(job: Job, schedule: Schedule, now: Instant) -> Instant:
    """Return the start of an interval: later than now only if the interval and its run are shorter than the pause."""
    if schedule.interval is None or job.cron.last_rewind is None:
        return now
    return Instant(max(now, job.cron.last_rewind + MIN_PAUSE - schedule.interval))


def defined(
    job: Job | None, job_id: JobId, definition: JobDefinition, now: Instant, draw_nonce: DrawNonce
) -> JobChange | None:
    """Return the change by which a config defines a job, or None if the job has this definition already.

    A new revision alone is not a change, as in the original: a job shows the revision of its last real change.
    """
    if job is None:
        new = Job(job_id, definition)
        return stepped(new, cron_machine.enable(new.cron, effective_schedule(new), now, draw_nonce), now)
    same = replace(job.definition, revision=definition.revision, revision_url=definition.revision_url) == definition
    if same and job.enabled:
        return None
    before = job
    job = replace(job, definition=definition, enabled=True)
    if definition.policy != before.definition.policy:
        job = request_triage(job, now)  # the new policy may start or discard triggers that the old one kept
    schedule = effective_schedule(job)
    # A disabled machine starts afresh. An enabled one keeps its tick unless the schedule itself has changed.
    if not before.enabled:
        return stepped(job, cron_machine.enable(job.cron, schedule, now, draw_nonce), now)
    if definition.schedule != before.definition.schedule and not job.paused:
        return stepped(job, cron_machine.schedule_changed(job.cron, schedule, now, draw_nonce), now)
    return JobChange(job)


def removed(job: Job, now: Instant) -> JobChange | None:
    """Disable a job that no config defines any more; return None if it is disabled already.

    Running invocations continue. A triage discards the pending triggers.
    """
    if not job.enabled:
        return None
    disabled = request_triage(replace(job, enabled=False), now)
    return stepped(disabled, cron_machine.disable(job.cron), now)


def paused(job: Job, who: str, reason: str, now: Instant, draw_nonce: DrawNonce) -> JobChange | None:
    """Pause a job, so that it accepts no triggers; return None if it is paused already.

    Running invocations continue. A triage discards the pending triggers.
    """
    if job.paused:
        return None
    job = request_triage(replace(job, paused=True, changed_by=who, changed_when=now, change_reason=reason), now)
    return stepped(job, cron_machine.schedule_changed(job.cron, effective_schedule(job), now, draw_nonce), now)


def resumed(job: Job, who: str, reason: str, now: Instant, draw_nonce: DrawNonce) -> JobChange | None:
    """Resume a paused job, so that its schedule is active again; return None if it is not paused."""
    if not job.paused:
        return None
    # No triage is needed: a paused job keeps no pending triggers.
    job = replace(job, paused=False, changed_by=who, changed_when=now, change_reason=reason)
    return stepped(job, cron_machine.schedule_changed(job.cron, effective_schedule(job), now, draw_nonce), now)
