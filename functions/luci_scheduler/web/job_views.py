"""Jobs as pages show them. Wording is decided here, not in templates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from luci_scheduler.api.access import Permission
from luci_scheduler.api.causes import cause_of, commit_of
from luci_scheduler.api.commit_titles import Titles
from luci_scheduler.api.context import Context
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.humanized import exact_duration
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.instants import Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Flavor, Job, JobState, TriggeringPolicy, public_state
from luci_scheduler.core.policy.registry import policy_class
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.schedule import DISTANT_FUTURE
from luci_scheduler.core.triage import has_free_slot
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.display import displayed
from luci_scheduler.web.addresses import address, invocation_address, job_address
from luci_scheduler.web.presentation import ago, safe_url, shown
from luci_scheduler.web.result_views import cause_json, commit_json, result_json

__all__ = [
    "JobView",
    "KnownRef",
    "PollerView",
    "TriageView",
    "job_json",
    "job_view",
    "policy_text",
    "poller_view",
    "row_json",
    "triage_view",
]

_LABELS = {
    JobState.RUNNING: "info",
    JobState.DISABLED: "default",
    JobState.PAUSED: "default",
    JobState.SCHEDULED: "primary",
    JobState.WAITING: "warning",
}
"""State → the CSS class of its label, as in the original. It does not show disabled jobs; here they look paused."""

_FLAVORS = {
    Flavor.PERIODIC: "Periodic job",
    Flavor.TRIGGERED: "Triggered job",
    Flavor.TRIGGER: "Triggering job",
}
_MAX_REFS = 20


@frozen
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
    failing: bool
    removed: bool
    """Whether no config defines the job any more."""
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


@frozen
class KnownRef:
    """A ref of a polled repository."""

    name: str
    revision: str
    """The newest commit that a poll has seen."""
    address: str
    """The page of that commit."""


@frozen
class PollerView:
    """The state of a gitiles job's polls."""

    css: str
    """CSS class of the notice: good, bad, or empty before the first poll."""
    words: str
    failed_address: str
    """The invocation of the last poll if it failed."""
    reason: str
    """Why the last poll failed; empty if it did not, or if the reason is not known."""
    last_poll: str
    next_poll: str
    """When the next poll is, as a sentence."""
    sees: str
    """The sentence about the commits that the next poll sees."""
    repo: str
    repo_url: str
    refs: Sequence[KnownRef]
    """The first refs by name."""
    more_refs: int
    backlog: Sequence[str]


@frozen
class TriageView:
    """A job's last triage."""

    log: str
    at: str
    """RFC 3339; empty before the first triage."""
    when: str
    changes: Sequence[str]
    """Changes since the triage, as sentences; if there are any, the log is stale."""


def job_view(context: Context, job: Job, now: Instant, active: int | None = None) -> JobView:
    """Return a job as the caller sees it at ``now``.

    ``active`` is the number of active invocations if they were read after the job, so that the page does not
    contradict itself; None: the number in the job's document.
    """
    number = len(job.active_invocations) if active is None else active
    project, name = split_job_id(job.id)
    tick = job.cron.last_tick_when
    state = public_state(active_invocations=number, enabled=job.enabled, paused=job.paused, next_tick=tick)
    return JobView(
        id=job.id,
        project=project,
        name=name,
        address=job_address(job.id),
        flavor=str(job.definition.flavor),
        flavor_words=_FLAVORS[job.definition.flavor],
        schedule=job.definition.schedule,
        state=str(state),
        label=_LABELS[state],
        next_run=_next_run(tick, now),
        next_run_at=format_rfc3339(tick) if _is_planned(tick) else "",
        active=number,
        failing=job.is_failing,
        removed=not job.enabled,
        paused=job.paused,
        pause_notice=_pause_notice(job, now),
        revision=job.definition.revision,
        revision_url=job.definition.revision_url,
        may_trigger=job.enabled and context.may(Permission.TRIGGER, job),
        may_abort=job.enabled and context.may(Permission.ABORT, job),
        may_pause=job.enabled and context.may(Permission.PAUSE, job),
        may_resume=job.enabled and context.may(Permission.RESUME, job),
    )


def _is_planned(tick: Instant | None) -> TypeGuard[Instant]:
    """Whether a job's next tick is a planned run: a triggered job's next tick is in the distant future."""
    return tick is not None and tick != DISTANT_FUTURE


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
    last, failed = _last_poll(job, newest)
    css, words = _poll_notice(last, failed=failed is not None)
    return PollerView(
        css=css,
        words=words,
        failed_address=invocation_address(failed.job_id, failed.id) if failed else "",
        reason=failed.summary if failed else "",
        last_poll=f"{shown(last)} ({ago(last, now)})" if last is not None else "never",
        next_poll=_next_poll(job, newest, now),
        sees=_next_sight(record),
        repo=repo,
        repo_url=safe_url(repo),
        refs=[
            KnownRef(ref, revision, address("commits", repo=repo, revision=revision, ref=ref))
            for ref, revision in known[:_MAX_REFS]
        ],
        more_refs=max(0, len(known) - _MAX_REFS),
        backlog=_backlog_lines(record) if record else [],
    )


def _last_poll(job: Job, newest: Invocation | None) -> tuple[Instant | None, Invocation | None]:
    """Return the end of the last poll, None before the first one, and its invocation if it failed."""
    finished = newest.finished if newest else None
    last = max((at for at in (job.last_poll, finished) if at is not None), default=None)
    is_failed = newest is not None and newest.status is Status.FAILED and newest.finished == last
    return last, newest if is_failed else None


def _poll_notice(last: Instant | None, *, failed: bool) -> tuple[str, str]:
    """Return the CSS class and the text of the notice about the last poll."""
    if last is None:
        return "", "The job has not polled yet."
    if failed:
        return "bad", "The last poll failed."
    return "good", "The last poll succeeded."


def _next_poll(job: Job, newest: Invocation | None, now: Instant) -> str:
    """Return when the next poll is, as a sentence."""
    if newest is not None and not newest.status.is_final:
        return "A poll is running now."
    if job.paused:
        return "The job is paused, so it does not poll."
    tick = job.cron.last_tick_when
    if not _is_planned(tick):
        return "No poll is planned. The job polls when a trigger starts it."
    if tick <= now:
        return "The next poll is due now."
    return f"The next poll is in {exact_duration(tick - now)}, at {shown(tick)}."


def _next_sight(record: PollerRecord | None) -> str:
    """Return the sentence about the commits that the next poll sees."""
    if record is None or not record.known:
        return "The first poll sees the latest commit of each ref. Later polls see each commit after that."
    if record.backlog:
        return "It continues with the commits that earlier polls left, listed below."
    if len(record.known) == 1:
        ((ref, revision),) = record.known.items()
        return f"It sees each commit on {ref} after {revision[:12]}."
    return f"It sees each commit on {len(record.known)} refs after their known revisions, and on new refs that match."


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


def job_json(context: Context, job: Job, invocations: Sequence[Invocation], titles: Titles) -> dict[str, Any]:
    """Return the JSON twin of the job page."""
    return {
        "job_id": job.id,
        "enabled": job.enabled,
        "paused": job.paused,
        "failing": job.is_failing,
        "schedule": job.definition.schedule,
        "revision": job.definition.revision,
        "active_invocations": [str(identifier) for identifier in job.active_invocations],
        "invocations": [_listed_json(context, item, titles) for item in invocations],
    }


def _listed_json(context: Context, item: Invocation, titles: Titles) -> dict[str, Any]:
    """Return the JSON twin of an invocation in a list."""
    return {
        "invocation_id": str(item.id),
        "status": str(item.status),
        "started": format_rfc3339(item.started),
        "finished": format_rfc3339(item.finished) if item.finished else None,
        "triggered_by": item.triggered_by or None,
        "commit": commit_json(commit_of(item), titles),
        "cause": cause_json(cause_of(context, item)),
        "view_url": displayed(item.view_url) or None,
        "tags": list(item.tags),
    }


def row_json(job: Job, titles: Titles) -> dict[str, Any]:
    """Return the JSON twin of a job's row on the page of its project."""
    tick = job.cron.last_tick_when
    return {
        "job_id": job.id,
        "flavor": str(job.definition.flavor),
        "schedule": job.definition.schedule,
        "state": str(job.state),
        "paused": job.paused,
        "failing": job.is_failing,
        "next_run": format_rfc3339(tick) if _is_planned(tick) else None,
        "active_invocations": len(job.active_invocations),
        "results": [result_json(job, item, titles) for item in job.recent],
    }
