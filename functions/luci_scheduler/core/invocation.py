"""Invocations: one run of a job, with the saves that the original would have made of it.

The mutation counter counts the original's saves. One commit may carry several of them: the original saves once before it
asks Buildbucket and once after, both of which are one commit here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from luci_scheduler.core.cleanup import Cleanup
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.trigger import Trigger

__all__ = ["Invocation", "Status", "Timer"]

_NEVER = Instant(0)


class Status(StrEnum):
    """States of an invocation, as LUCI spells them."""

    STARTING = "STARTING"
    RETRYING = "RETRYING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    OVERRUN = "OVERRUN"  # legal and coloured, but nothing has produced it for years; kept for old records
    ABORTED = "ABORTED"

    @property
    def is_initial(self) -> bool:
        """Whether the launch has not succeeded yet."""
        return self in (Status.STARTING, Status.RETRYING)

    @property
    def is_final(self) -> bool:
        """Whether the invocation is over; nothing changes it any more."""
        return self in (Status.SUCCEEDED, Status.FAILED, Status.OVERRUN, Status.ABORTED)


@dataclass(frozen=True, slots=True)
class Timer:
    """A delayed call-back that an invocation waits for."""

    id: str
    title: str
    created: Instant
    eta: Instant
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Invocation:
    """An invocation's record but for its debug log, which is kept apart so that a step need not read it."""

    id: InvocationId
    job_id: JobId
    started: Instant
    """When it was created, cut to microseconds as the original's store did."""
    task: TaskDefinition
    """Snapshot of the job's task; launches use this, not the present config."""
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
    """Triggers that it emitted, in order."""
    dispatched: int = 0
    """How many of them, the first ones, have been brought to ``triggered_jobs``."""
    triggered_jobs: tuple[JobId, ...] = ()
    pending_timers: tuple[Timer, ...] = ()
    attempts: int = 0
    """Launch attempts that were claimed so far; the log's ``attempt N``."""
    claim_until: Instant | None = None
    """End of the lease of the launch that is under way; None when no launch is."""
    abort_requested_by: str = ""
    """Who asked for an abort; set while it cannot be carried out at once, too; outside the mutation counter."""
    abort_reason: str = ""
    """Why, in the words of whoever asked for the abort."""
    abort_requested_at: Instant | None = None
    """When the abort was requested; None without a request, or if an older version recorded it."""
    view_url: str = ""
    task_data: Mapping[str, Any] = field(default_factory=dict)
    """The manager's own; buildbucket: ``{"build_id": "<decimal>"}``."""
    mutations: int = 0
    """How many saves the original would have made since the allocation."""
    commits: int = 0
    """Raised by every commit, those that the original would not count included."""
    last_event: str = ""
    """Key of the delivery that made the last commit: tells a commit of unknown outcome from another's."""
    handled_notifications: tuple[str, ...] = ()
    """Message IDs of the latest notifications that were acted on: a redelivery writes nothing."""
    next_due: Instant | None = None
    """When the sweep looks at it; None only when it is final and nothing is left to do for it."""
    cleanup: Cleanup | None = None
    """The build that may run on unwatched, as the build service did not answer; None where none is known of, and at first."""
    expires: Instant | None = None
    """When the store may delete it; None until it is final."""
    trace: str = ""
    """The trace of the delivery that it was created in: whatever is done about it is logged under that."""
    log_size: int = 0
    """Bytes of the debug log in the store, so that appending need not read it."""
    last_line: Instant = _NEVER
    """The stamp of the debug log's last line: of instances whose clocks differ none writes an earlier one below it."""

    @property
    def has_undispatched(self) -> bool:
        """Whether triggers were emitted that have not been brought to the jobs that this one triggers."""
        return bool(self.triggered_jobs) and self.dispatched < len(self.outgoing_triggers)
