"""Positions in the lists of overdue records, which are read in pages."""

from __future__ import annotations

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import NO_INVOCATION, InvocationId, JobId
from luci_scheduler.core.instants import Instant

__all__ = ["DueCursor"]


@frozen
class DueCursor:
    """The position of an invocation; with the ID 0, of a job; with ``deferred``, of a deferred task."""

    due: Instant
    """Its ``next_due``, the sort key of the lists."""
    job_id: JobId
    """Empty for a deferred task."""
    invocation_id: InvocationId = NO_INVOCATION
    deferred: str = ""
    """ID of the deferred task."""
