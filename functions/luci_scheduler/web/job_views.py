"""Jobs as pages show them; all decisions about wording are here, templates hold none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context
from luci_scheduler.api.service import state_of
from luci_scheduler.core.humanized import relative, ui_duration
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.instants import Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Flavor, Job, TriggeringPolicy
from luci_scheduler.core.policy.registry import policy_class
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.public_state import LABEL_CLASSES
from luci_scheduler.core.schedule import DISTANT_FUTURE
from luci_scheduler.core.triage import has_free_slot
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.web.page_request import address
from luci_scheduler.web.presentation import label_of, shown, status_of

__all__ = [
    "JobView",
    "PollerView",
    "ResultView",
    "TriageView",
    "job_order",
    "job_view",
    "policy_text",
    "poller_view",
    "result_view",
    "row_json",
    "triage_view",
]

_FLAVORS = {
    Flavor.PERIODIC: "Periodic job",
    Flavor.TRIGGERED: "Triggered job",
    Flavor.TRIGGER: "Triggering job",
}
_MAX_REFS = 20


@dataclass(frozen=True, slots=True)
class ResultView:
    """How an invocation ended, or what it is doing."""

    address: str
    invocation_id: str
    status: str
    label: str
    when: str
    at: str
    duration: str


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and what the caller may do to it."""

    id: str
    project: str
    name: str
    address: str
    flavor: str
    flavor_words: str
    schedule: str
    state: str
    label: str
    next_run: str
    next_run_at: str
    """RFC 3339; empty where ``next_run`` is no time."""
    active: int
    paused: bool
    pause_notice: str
    revision: str
    revision_url: str
    may_trigger: bool
    may_abort: bool
    may_pause: bool
    may_resume: bool

    @property
    def may_act(self) -> bool:
        """Whether the caller may do anything to it."""
        return self.may_trigger or self.may_abort or self.may_pause or self.may_resume

    @property
    def may_act_in_row(self) -> bool:
        """Whether a list of jobs has something to offer for it, as things stand."""
        return self.may_resume if self.paused else self.may_trigger or self.may_pause


@dataclass(frozen=True, slots=True)
class PollerView:
    """How a gitiles job's polling goes."""

    css: str
    """Class of the notice: good, bad, or empty where nothing is known."""
    words: str
    looked: str
    repo: str
    refs: Sequence[tuple[str, str]]
    """Ref, the revision that is known of it; the first ones by name."""
    more_refs: int
    backlog: Sequence[str]


@dataclass(frozen=True, slots=True)
class TriageView:
    """A job's last triage."""

    log: str
    at: str
    """RFC 3339; empty if it is not known."""
    when: str
    changes: Sequence[str]
    """What has changed since, in sentences: where there are any the log is stale."""


def job_order(job: Job) -> tuple[str, bool, str]:
    """Order jobs as lists do: by project, those that poll behind the others, by name."""
    project, name = split_job_id(job.id)
    return project, job.definition.flavor is Flavor.TRIGGER, name


def job_view(context: Context, job: Job, now: Instant) -> JobView:
    """Return a job as its caller sees it at ``now``."""
    project, name = split_job_id(job.id)
    state = state_of(job)
    tick = job.cron.last_tick_when
    is_set = tick not in (None, DISTANT_FUTURE)
    return JobView(
        id=job.id,
        project=project,
        name=name,
        address=address("jobs", project, name),
        flavor=str(job.definition.flavor),
        flavor_words=_FLAVORS[job.definition.flavor],
        schedule=job.definition.schedule,
        state=str(state),
        label=LABEL_CLASSES[state].removeprefix("label-"),
        next_run=_next_run(tick, now),
        next_run_at=format_rfc3339(tick) if tick is not None and is_set else "",
        active=len(job.active_invocations),
        paused=job.paused,
        pause_notice=_pause_notice(job, now),
        revision=job.definition.revision,
        revision_url=job.definition.revision_url,
        may_trigger=context.may(Permission.TRIGGER, job),
        may_abort=context.may(Permission.ABORT, job),
        may_pause=context.may(Permission.PAUSE, job),
        may_resume=context.may(Permission.RESUME, job),
    )


def _next_run(tick: Instant | None, now: Instant) -> str:
    if tick is None:
        return "not scheduled yet"
    return "-" if tick == DISTANT_FUTURE else relative(now - tick, "ago", "from now")


def _pause_notice(job: Job, now: Instant) -> str:
    if not job.paused:
        return ""
    who = job.changed_by.removeprefix("user:") or "unknown"
    when = f" {relative(now - job.changed_when, 'ago', 'from now')}" if job.changed_when else ""
    return f"Paused by {who}{when}: {job.change_reason or 'Unknown reason.'}"


def result_view(invocation: Invocation, now: Instant) -> ResultView:
    """Return an invocation as a result in a row of them."""
    project, name = split_job_id(invocation.job_id)
    status = status_of(invocation)
    at = invocation.finished or invocation.started
    return ResultView(
        address=address("jobs", project, name, str(invocation.id)),
        invocation_id=str(invocation.id),
        status=str(status),
        label=label_of(status),
        when=relative(now - at, "ago", "from now"),
        at=format_rfc3339(at),
        duration=ui_duration((invocation.finished or now) - invocation.started),
    )


def policy_text(policy: TriggeringPolicy) -> str:
    """Return a policy as Go prints a text proto, with defaults filled in; only the fields that its kind has."""
    return policy_class(policy.kind).describe(policy)


def poller_view(
    job: Job, repo: str, record: PollerRecord | None, newest: Invocation | None, now: Instant
) -> PollerView:
    """Return how a gitiles job's polling goes, from what it knows and its newest invocation."""
    known = sorted(record.known.items()) if record else []
    looks = [at for at in (job.last_poll, newest.finished if newest else None) if at is not None]
    last = max(looks, default=None)
    failed = newest is not None and newest.status is Status.FAILED and newest.finished == last
    if failed:
        words = "The last poll failed: its log tells why. It is tried again at the next run."
    elif last is None:
        words = "It has not polled yet."
    else:
        words = "The last poll succeeded."
    return PollerView(
        css="bad" if failed else "good" if last is not None else "",
        words=words,
        looked=f"{shown(last)} ({relative(now - last, 'ago', 'from now')})" if last is not None else "never",
        repo=repo,
        refs=known[:_MAX_REFS],
        more_refs=max(0, len(known) - _MAX_REFS),
        backlog=[
            f"{ref}: {backlog.taken} commits taken up on the way to {backlog.target}"
            for ref, backlog in sorted((record.backlog if record else {}).items())
        ],
    )


def triage_view(job: Job, log: str, waiting: Sequence[Trigger], now: Instant) -> TriageView:
    """Return how a job's last triage went and what has changed since.

    Log and time of a triage are one commit here, so one cannot fall behind the other as in the original; but both can be
    behind the job.

    Args:
        job: the job.
        log: the log of its last triage.
        waiting: its oldest pending triggers, as many as are known.
        now: the clock.
    """
    at = job.last_triage
    return TriageView(
        log=log,
        at=format_rfc3339(at) if at is not None else "",
        when=f"{shown(at)}, {relative(now - at, 'ago', 'from now')}" if at is not None else "",
        changes=list(_changes_since(job, at, waiting)) if at is not None else [],
    )


def _changes_since(job: Job, triage: Instant, waiting: Sequence[Trigger]) -> Iterable[str]:
    """Tell what the last triage could not know. An invocation that ended with nothing to wait for it needed none."""
    if newer := sum(trigger.created > triage for trigger in waiting):
        later = "" if has_free_slot(job) else " They are looked at when an invocation ends."
        yield f"{newer} of the triggers shown as pending {'has' if newer == 1 else 'have'} come.{later}"
    if job.triaged_revision != job.definition.revision:
        before, after = job.triaged_revision or "an earlier config", job.definition.revision or "another config"
        yield f"The definition has changed, from revision {before} to {after}."
    if job.changed_when is not None and job.changed_when > triage:
        yield f"The job has been {'paused' if job.paused else 'resumed'}."
    if job.triage_due is not None:
        yield "Another triage has been asked for, and is on its way."


def row_json(view: JobView, results: Sequence[ResultView]) -> dict[str, Any]:
    """Return the JSON twin of a job's row on its project's page."""
    return {
        "job_id": view.id,
        "flavor": view.flavor,
        "schedule": view.schedule,
        "state": view.state,
        "paused": view.paused,
        "next_run": view.next_run_at or None,
        "active_invocations": view.active,
        "results": [{"invocation_id": item.invocation_id, "status": item.status, "at": item.at} for item in results],
    }
