"""Newest first: each invocation runs one trigger, the latest go first, the others wait until they are too old."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.policy.base import Decision, Policy, check_positive, no_slots
from luci_scheduler.core.request import request_from_triggers
from luci_scheduler.core.trigger import Trigger

__all__ = ["newest_first"]


def newest_first(max_concurrent_invocations: int, pending_timeout: int, era: Era) -> Policy:
    """Fill the free slots with the latest triggers, one request each; discard what has waited ``pending_timeout``.

    The timeout is in nanoseconds. Triggers are discarded even while no slot is free.

    Raises:
        ValueError: the limit or the timeout is not positive.
    """
    check_positive("max_concurrent_invocations", max_concurrent_invocations)
    check_positive("pending_timeout", pending_timeout)

    def decide(triggers: Sequence[Trigger], active_invocations: int, now: Instant) -> Decision:
        discard = tuple(takewhile(lambda trigger: now - trigger.created >= pending_timeout, triggers))
        slots = max_concurrent_invocations - active_invocations
        if slots <= 0:
            return Decision(discard=discard, log=(no_slots(max_concurrent_invocations, active_invocations),))
        newest = triggers[len(discard) :][-slots:]
        return Decision(tuple(request_from_triggers([trigger], era) for trigger in newest), discard)

    return decide
