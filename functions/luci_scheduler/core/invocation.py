"""Invocations: one run of a job, and the number of saves that the original would have made of it.

The mutation counter counts the original's saves. One commit may represent several saves: the original saves once before
and once after its Buildbucket request, and one commit here records both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from luci_scheduler.core.cleanup import Cleanup
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId, invocation_created
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import MAX_RESULT_REVISIONS, Result, Status, TaskDefinition
from luci_scheduler.core.trigger import Trigger, sort_key

__all__ = ["Invocation", "Status", "Timer", "commit_known", "result_of", "summary_line"]

_NEVER = Instant(0)
_MAX_TEXT = 500  # characters of a text in a result: a job's document holds ten results, and the API takes any trigger
_MAX_SUMMARY = 160  # characters of the summary in a result


@frozen
class Timer:
    """A delayed callback that an invocation waits for."""

    id: str
    title: str
    created: Instant
    eta: Instant
    payload: Mapping[str, Any] = field(default_factory=dict)


@frozen
class Invocation:
    """An invocation's record, except its debug log: that is stored separately, so that a step need not read it."""

    id: InvocationId
    job_id: JobId
    started: Instant
    """When it was created, truncated to microseconds as in the original's store."""
    task: TaskDefinition
    """Snapshot of the job's task; launches use it instead of the current config."""
    status: Status = Status.STARTING
    finished: Instant | None = None
    realm: str = "@legacy"
    revision: str = ""
    revision_url: str = ""
    triggered_by: str = ""
    properties: Mapping[str, Any] | None = None
    tags: tuple[str, ...] = ()
    incoming_triggers: tuple[Trigger, ...] = ()
    outgoing_triggers: tuple[Trigger, ...] = ()
    """The triggers that it emitted, in order."""
    dispatched: int = 0
    """How many emitted triggers, from the first, were delivered to ``triggered_jobs``."""
    triggered_jobs: tuple[JobId, ...] = ()
    pending_timers: tuple[Timer, ...] = ()
    attempts: int = 0
    """The number of claimed launch attempts; the log's ``attempt N``."""
    claim_until: Instant | None = None
    """End of the claim of the launch in progress; None if no launch is in progress."""
    abort_requested_by: str = ""
    """The identity that requested an abort, even if the abort must wait; outside the mutation counter."""
    abort_reason: str = ""
    """The reason, as the caller stated it."""
    abort_requested_at: Instant | None = None
    """When the abort was requested; None without a request, or if an older version recorded the request."""
    view_url: str = ""
    task_data: Mapping[str, Any] = field(default_factory=dict)
    """Data of the task manager; for buildbucket ``{"build_id": "<decimal>"}``."""
    summary: str = ""
    """The reason of the last failure, or the build's own words about its end; for people: sanitized and bounded."""
    mutations: int = 0
    """How many saves the original would have made since the creation."""
    commits: int = 0
    """Raised by every commit, even if the original would not count it."""
    last_event: str = ""
    """Name of the last commit, which contains the delivery's key: identifies a commit of unknown outcome."""
    handled_notifications: tuple[str, ...] = ()
    """Message IDs of the latest handled notifications: a repeated delivery writes nothing."""
    next_due: Instant | None = None
    """When the sweep must handle it; None only if it is final and no work is left."""
    cleanup: Cleanup | None = None
    """The build that may still run because the build service did not answer; None if there is no such build."""
    expires: Instant | None = None
    """When the store may delete it; None until it is final."""
    trace: str = ""
    """The trace of the delivery that created it; all log lines about the invocation carry it."""
    log_size: int = 0
    """Size of the stored debug log in bytes, so that an append need not read it."""
    last_line: Instant = _NEVER
    """Time of the debug log's last line. Instances whose clocks differ never write an earlier time below it."""

    @property
    def has_undispatched(self) -> bool:
        """Whether emitted triggers were not yet delivered to the triggered jobs."""
        return bool(self.triggered_jobs) and self.dispatched < len(self.outgoing_triggers)


def commit_known(invocation: Invocation) -> Instant | None:
    """Return when the newest commit among an invocation's triggers became known to the scheduler; None without one.

    That is the publication of its event, the start of the poll that found it, or its emission by a caller.
    """
    # A poll's trigger carries the time of the commit itself, which may be much older than the push.
    known = [
        invocation_created(InvocationId(trigger.invocation_id))[0] if trigger.invocation_id else trigger.created
        for trigger in invocation.incoming_triggers
        if trigger.is_commit
    ]
    return max(known, default=None)


def result_of(invocation: Invocation) -> Result:
    """Return the result of an invocation that has ended.

    Its commits are those of its triggers. A text that is longer than any real one is left out.
    """
    commits = sorted((item for item in invocation.incoming_triggers if item.is_commit), key=sort_key, reverse=True)
    revisions = list(filter(None, dict.fromkeys(_short(trigger.payload.get("revision")) for trigger in commits)))
    newest = commits[0].payload if commits else {}
    return Result(
        invocation.id,
        invocation.status,
        invocation.started,
        invocation.started if invocation.finished is None else invocation.finished,
        _short(invocation.triggered_by),
        tuple(revisions[:MAX_RESULT_REVISIONS]),
        _short(newest.get("repo")),
        _short(newest.get("ref")),
        _short(invocation.view_url),
        summary_line(invocation),
        len(revisions),
    )


def summary_line(invocation: Invocation) -> str:
    """Return the first line of the reason why an invocation did not succeed, cut for a list."""
    lines = () if invocation.status is Status.SUCCEEDED else invocation.summary.strip().splitlines()
    line = lines[0] if lines else ""
    return line if len(line) <= _MAX_SUMMARY else f"{line[: _MAX_SUMMARY - 1]}…"


def _short(text: Any) -> str:
    return text if isinstance(text, str) and len(text) <= _MAX_TEXT else ""
