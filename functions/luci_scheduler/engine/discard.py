"""Triggers that are discarded before they were pending: their commit was given up, or their project was skipped for it."""

from __future__ import annotations

from luci_scheduler.core.errors import StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.ports import CreateTrigger

__all__ = ["discard_trigger"]


def discard_trigger(runtime: Runtime, job_id: JobId, trigger: Trigger, key: str, reason: str) -> None:
    """Record a trigger as discarded; an existing marker stays as it is. Safe to repeat.

    Another delivery of the same ID counts as new at once: a poll, or a simpler config, may let the commit through later.

    Raises:
        TransientError: the trigger is not known to be recorded.
    """
    now = runtime.clock.now()
    record = TriggerRecord(
        job_id,
        trigger,
        discarded=reason,
        resolved=now,
        expires=runtime.limits.expiry(now),
        deliveries=(key,),
        refused=True,
    )
    try:
        runtime.store.commit([CreateTrigger(record)])
    except StoreConflictError:
        # The store also refuses a commit that meets another commit. Only the marker proves that nothing is left to do.
        if runtime.store.trigger(job_id, trigger.id) is None:
            raise
        return
    logger.warning("trigger_discarded", job_id=job_id, trigger_id=trigger.id, reason=reason)
