"""Trigger records: a stored trigger is pending, or a marker of a resolved trigger."""

from __future__ import annotations

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import NO_INVOCATION, InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.trigger import Trigger

__all__ = ["TriggerRecord"]


@frozen
class TriggerRecord:
    """A trigger of a job: pending, or the marker that stays after it was consumed or discarded."""

    job_id: JobId
    trigger: Trigger
    invocation_id: InvocationId = NO_INVOCATION
    """The invocation that consumed it; 0 while it is pending or if it was discarded."""
    discarded: str = ""
    """Why it was discarded; empty if it was not."""
    resolved: Instant | None = None
    """When it was consumed or discarded; None while it is pending."""
    expires: Instant | None = None
    """When the store may delete it; None while it is pending."""
    deliveries: tuple[str, ...] = ()
    """Keys of its deliveries, the latest last: they distinguish a repeated delivery from a new request."""
    refused: bool = False
    """Whether it was discarded on arrival: another delivery of the same ID counts as new at once."""

    @property
    def is_pending(self) -> bool:
        """Whether it was neither consumed nor discarded."""
        return self.resolved is None
