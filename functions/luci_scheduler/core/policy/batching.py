"""The batching policies: the oldest triggers become one request, its properties are those of the latest among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.policy.base import Decision, Policy, check_positive, no_slots
from luci_scheduler.core.request import request_from_triggers
from luci_scheduler.core.trigger import Trigger

__all__ = ["batching", "greedy_batching"]


def greedy_batching(max_concurrent_invocations: int, max_batch_size: int, era: Era) -> Policy:
    """Take all pending triggers, up to ``max_batch_size``, into each request."""
    return batching(max_concurrent_invocations, max_batch_size, era, reducer=lambda pending: pending)


def batching(
    max_concurrent_invocations: int, max_batch_size: int, era: Era, *, reducer: Callable[[int], int]
) -> Policy:
    """Fill the free slots with batches; ``reducer`` tells how many of N pending triggers one batch takes, 0 to stop.

    Raises:
        ValueError: a limit is not positive.
    """
    check_positive("max_concurrent_invocations", max_concurrent_invocations)
    check_positive("max_batch_size", max_batch_size)

    def decide(triggers: Sequence[Trigger], active_invocations: int, _now: Instant) -> Decision:
        slots = max_concurrent_invocations - active_invocations
        if not triggers:
            return Decision()
        if slots <= 0:
            return Decision(log=(no_slots(max_concurrent_invocations, active_invocations),))
        pending, requests = list(triggers), []
        while slots > 0 and pending:
            size = min(max_batch_size, reducer(len(pending)))
            if size <= 0:
                break
            requests.append(request_from_triggers(pending[:size], era))
            del pending[:size]
            slots -= 1
        return Decision(requests=tuple(requests))

    return decide
