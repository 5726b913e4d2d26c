"""How a job changes: defined, removed, paused, resumed, rewound. Pure; the engine commits the job and enqueues the ticks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from luci_scheduler.core import cron_machine
from luci_scheduler.core.cron_machine import DrawNonce, Step, TickLater
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.job import Job, JobDefinition
from luci_scheduler.core.schedule import BadScheduleError, Schedule, parse_schedule

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
"""Between two ticks that an interval brings, ``continuously`` included. The original has no such rule, but is as slow as that:
the end of an invocation waits up to two seconds for a triage, and a triage's cron machine another second for its batch."""

_TRIGGERED = "triggered"


@dataclass(frozen=True, slots=True)
class JobChange:
    """A job as it is to be written, and the tick that is to be on the queue before it is."""

    job: Job
    tick: TickLater | None = None


def effective_schedule(job: Job) -> Schedule:
    """Return the schedule that a job runs on: a paused one, and one whose schedule no longer parses, never ticks."""
    try:
        return parse_schedule(_TRIGGERED if job.paused else job.definition.schedule)
    except BadScheduleError:
        return parse_schedule(_TRIGGERED)


def stepped(job: Job, step: Step, now: Instant) -> JobChange:
    """Return a job whose cron machine has made a step."""
    state, actions = step
    ticks = [action for action in actions if isinstance(action, TickLater)]
    if ticks:
        at = cron_machine.enqueue_at(now, ticks[-1].when)
        return JobChange(replace(job, cron=state, tick_at=at), ticks[-1])
    same = state.last_tick_nonce == job.cron.last_tick_nonce and state.last_tick_when == job.cron.last_tick_when
    return JobChange(replace(job, cron=state, tick_at=job.tick_at if same else None))


def rewound(job: Job, now: Instant, draw_nonce: DrawNonce) -> JobChange:
    """Begin to wait for the next tick if nothing is active and none is awaited; intervals count from here.

    However short the interval, ticks are ``MIN_PAUSE`` apart.
    """
    if job.active_invocations:
        return JobChange(job)
    schedule = effective_schedule(job)
    step = cron_machine.rewind_if_necessary(job.cron, schedule, _paced(job, schedule, now), draw_nonce)
    return stepped(job, step, now)


def _paced(job: Job, schedule: Schedule, now: Instant) -> Instant:
    """Return from when an interval counts: later than now only if it is shorter than the pause, and its run was, too."""
    if schedule.interval is None or job.cron.last_rewind is None:
        return now
    return Instant(max(now, job.cron.last_rewind + MIN_PAUSE - schedule.interval))


def defined(
    job: Job | None, job_id: JobId, definition: JobDefinition, now: Instant, draw_nonce: DrawNonce
) -> JobChange | None:
    """Return what a config that defines the job makes of it, or None if it is so already.

    A new revision alone is no change, as in the original: a job shows the revision of its last real change.
    """
    if job is None:
        new = Job(job_id, definition)
        return stepped(new, cron_machine.enable(new.cron, effective_schedule(new), now, draw_nonce), now)
    same = replace(job.definition, revision=definition.revision, revision_url=definition.revision_url) == definition
    if same and job.enabled:
        return None
    before = job
    policy_changed = definition.policy != job.definition.policy
    job = replace(job, definition=definition, enabled=True, triage_due=now if policy_changed else job.triage_due)
    schedule = effective_schedule(job)
    if not before.enabled:
        return stepped(job, cron_machine.enable(job.cron, schedule, now, draw_nonce), now)
    if definition.schedule != before.definition.schedule and not job.paused:
        return stepped(job, cron_machine.schedule_changed(job.cron, schedule, now, draw_nonce), now)
    return JobChange(job)


def removed(job: Job, now: Instant) -> JobChange | None:
    """Return what becomes of a job that no config defines any more; None if it is disabled already.

    What runs goes on; a triage clears its pending triggers.
    """
    if not job.enabled:
        return None
    disabled = replace(job, enabled=False, triage_due=now)
    return stepped(disabled, cron_machine.disable(job.cron), now)


def paused(job: Job, who: str, reason: str, now: Instant, draw_nonce: DrawNonce) -> JobChange | None:
    """Pause a job: it takes no triggers, a triage clears those that wait, what runs goes on. None if it is paused."""
    if job.paused:
        return None
    job = replace(job, paused=True, changed_by=who, changed_when=now, change_reason=reason, triage_due=now)
    return stepped(job, cron_machine.schedule_changed(job.cron, effective_schedule(job), now, draw_nonce), now)


def resumed(job: Job, who: str, reason: str, now: Instant, draw_nonce: DrawNonce) -> JobChange | None:
    """Resume a paused job: its schedule is in force again. None if it is not paused."""
    if not job.paused:
        return None
    job = replace(job, paused=False, changed_by=who, changed_when=now, change_reason=reason)
    return stepped(job, cron_machine.schedule_changed(job.cron, effective_schedule(job), now, draw_nonce), now)
