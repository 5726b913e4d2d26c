"""A trigger as the store keeps it: pending, or remembered as a marker."""

from __future__ import annotations

from dataclasses import dataclass

from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.trigger import Trigger

__all__ = ["NO_INVOCATION", "TriggerRecord"]

NO_INVOCATION = InvocationId(0)


@dataclass(frozen=True, slots=True)
class TriggerRecord:
    """A trigger of a job, pending or (as a marker) remembered after it was consumed or discarded."""

    job_id: JobId
    trigger: Trigger
    invocation_id: InvocationId = NO_INVOCATION
    """The invocation that consumed it; 0 while it is pending or if it was discarded."""
    discarded: str = ""
    """Why it was discarded; empty otherwise."""
    resolved: Instant | None = None
    """When it stopped being pending."""
    expires: Instant | None = None
    """When the store may delete it; None while it is pending."""
    deliveries: tuple[str, ...] = ()
    """Keys of the deliveries that brought it, the latest last: a redelivery is told from a new request by them."""
    refused: bool = False
    """Whether it was discarded on arrival and never pending: another delivery of the same ID counts as new at once."""

    @property
    def is_pending(self) -> bool:
        """Whether no invocation has taken it and nothing has discarded it."""
        return self.resolved is None
