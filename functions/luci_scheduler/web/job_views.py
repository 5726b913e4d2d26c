"""Jobs as pages show them. Wording is decided here, not in templates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context
from luci_scheduler.api.service import state_of
from luci_scheduler.core.humanized import ui_duration
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
from luci_scheduler.web.addresses import invocation_address, job_address
from luci_scheduler.web.presentation import ago, label_of, shown, status_of

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
    """The result of an invocation, or its present status."""

    address: str
    invocation_id: str
    status: str
    label: str
    when: str
    at: str
    duration: str


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and the caller's permissions on it."""

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
    """RFC 3339; empty if ``next_run`` is not a time."""
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
        """Whether the caller may take any action on the job."""
        return self.may_trigger or self.may_abort or self.may_pause or self.may_resume

    @property
    def may_act_in_row(self) -> bool:
        """Whether a list of jobs offers an action for this job in its present state."""
        return self.may_resume if self.paused else self.may_trigger or self.may_pause


@dataclass(frozen=True, slots=True)
class PollerView:
    """The state of a gitiles job's polls."""

    css: str
    """CSS class of the notice: good, bad, or empty before the first poll."""
    words: str
    last_poll: str
    repo: str
    refs: Sequence[tuple[str, str]]
    """Ref and its known revision; the first refs by name."""
    more_refs: int
    backlog: Sequence[str]


@dataclass(frozen=True, slots=True)
class TriageView:
    """A job's last triage."""

    log: str
    at: str
    """RFC 3339; empty before the first triage."""
    when: str
    changes: Sequence[str]
    """Changes since the triage, as sentences; if there are any, the log is stale."""


def job_order(job: Job) -> tuple[str, bool, str]:
    """Return the sort key of a job in lists: by project, jobs that poll last, then by name."""
    project, name = split_job_id(job.id)
    return project, job.definition.flavor is Flavor.TRIGGER, name


def job_view(context: Context, job: Job, now: Instant) -> JobView:
    """Return a job as the caller sees it at ``now``."""
    project, name = split_job_id(job.id)
    state = state_of(job)
    tick = job.cron.last_tick_when
    is_set = tick not in (None, DISTANT_FUTURE)  # a triggered job's next tick is in the distant future
    return JobView(
        id=job.id,
        project=project,
        name=name,
        address=job_address(job.id),
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
    return "-" if tick == DISTANT_FUTURE else ago(tick, now)


def _pause_notice(job: Job, now: Instant) -> str:
    if not job.paused:
        return ""
    who = job.changed_by.removeprefix("user:") or "unknown"
    when = f" {ago(job.changed_when, now)}" if job.changed_when else ""
    return f"Paused by {who}{when}: {job.change_reason or 'Unknown reason.'}"


def result_view(invocation: Invocation, now: Instant) -> ResultView:
    """Return an invocation as one result in a list."""
    status = status_of(invocation)
    at = invocation.finished or invocation.started
    return ResultView(
        address=invocation_address(invocation.job_id, invocation.id),
        invocation_id=str(invocation.id),
        status=str(status),
        label=label_of(status),
        when=ago(at, now),
        at=format_rfc3339(at),
        duration=ui_duration((invocation.finished or now) - invocation.started),
    )


def policy_text(policy: TriggeringPolicy) -> str:
    """Return a policy as Go prints a text proto: the fields of its kind, with defaults filled in."""
    return policy_class(policy.kind).describe(policy)


def poller_view(
    job: Job, repo: str, record: PollerRecord | None, newest: Invocation | None, now: Instant
) -> PollerView:
    """Return the state of a gitiles job's polls.

    Args:
        job: the job.
        repo: the URL of the polled repository.
        record: its poller record; None before the first poll.
        newest: its newest invocation, if there is one.
        now: the current time.
    """
    known = sorted(record.known.items()) if record else []
    finished = newest.finished if newest else None
    last = max((at for at in (job.last_poll, finished) if at is not None), default=None)
    failed = newest is not None and newest.status is Status.FAILED and newest.finished == last
    css, words = _poll_notice(last, failed=failed)
    return PollerView(
        css=css,
        words=words,
        last_poll=f"{shown(last)} ({ago(last, now)})" if last is not None else "never",
        repo=repo,
        refs=known[:_MAX_REFS],
        more_refs=max(0, len(known) - _MAX_REFS),
        backlog=_backlog_lines(record) if record else [],
    )


def _poll_notice(last: Instant | None, *, failed: bool) -> tuple[str, str]:
    """Return the CSS class and the text of the notice about the last poll."""
    if last is None:
        return "", "The job has not polled yet."
    if failed:
        return "bad", "The last poll failed; its log has the reason. The next run polls again."
    return "good", "The last poll succeeded."


def _backlog_lines(record: PollerRecord) -> list[str]:
    return [
        f"{ref}: {backlog.taken} commits processed on the way to {backlog.target}"
        for ref, backlog in sorted(record.backlog.items())
    ]


def triage_view(job: Job, log: str, pending: Sequence[Trigger], now: Instant) -> TriageView:
    """Return a job's last triage and the changes since.

    The log and the time of a triage are written by one commit, so unlike in the original neither can be older than the
    other. Both can be older than the job.

    Args:
        job: the job.
        log: the log of its last triage.
        pending: its oldest pending triggers.
        now: the current time.
    """
    at = job.last_triage
    if at is None:
        return TriageView(log=log, at="", when="", changes=())
    return TriageView(
        log=log,
        at=format_rfc3339(at),
        when=f"{shown(at)}, {ago(at, now)}",
        changes=[change for change in _changes_since(job, at, pending) if change],
    )


def _changes_since(job: Job, triage: Instant, pending: Sequence[Trigger]) -> Iterable[str]:
    """Yield a sentence for each change since a triage; an empty text stands for no change.

    The end of an invocation is not a change: without pending triggers it needs no triage.
    """
    yield _new_triggers(job, sum(trigger.created > triage for trigger in pending))
    yield _new_definition(job)
    if job.changed_when is not None and job.changed_when > triage:
        yield f"The job was {'paused' if job.paused else 'resumed'}."
    if job.triage_due is not None:
        yield "Another triage is due and will run soon."


def _new_triggers(job: Job, number: int) -> str:
    if not number:
        return ""
    later = "" if has_free_slot(job) else " They are triaged when an invocation ends."
    return f"{number} of the pending triggers on this page {'has' if number == 1 else 'have'} arrived.{later}"


def _new_definition(job: Job) -> str:
    if job.triaged_revision == job.definition.revision:
        return ""
    before, after = job.triaged_revision or "an earlier config", job.definition.revision or "another config"
    return f"The definition changed from revision {before} to {after}."


def row_json(view: JobView, results: Sequence[ResultView]) -> dict[str, Any]:
    """Return the JSON twin of a job's row on the page of its project."""
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
