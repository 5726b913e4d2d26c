"""Triggering policies: how pending triggers become requests for invocations; one module each."""

from __future__ import annotations

from luci_scheduler.core.era import Era
from luci_scheduler.core.job import PolicyKind, TriggeringPolicy
from luci_scheduler.core.policy.base import Decision, Policy
from luci_scheduler.core.policy.batching import greedy_batching
from luci_scheduler.core.policy.logarithmic import logarithmic_batching
from luci_scheduler.core.policy.newest_first import newest_first

__all__ = ["Decision", "Policy", "make_policy"]


def make_policy(definition: TriggeringPolicy, era: Era) -> Policy:
    """Build the policy function of a definition; ``era`` decides how requests are worded.

    Raises:
        ValueError: the kind is not one that this version knows, or a number is out of range (the original's texts); the
            caller falls back to the default policy.
    """
    limit = definition.max_concurrent_invocations
    match definition.kind:
        case PolicyKind.GREEDY_BATCHING:
            return greedy_batching(limit, definition.max_batch_size, era)
        case PolicyKind.LOGARITHMIC_BATCHING:
            return logarithmic_batching(limit, definition.max_batch_size, definition.log_base, era)
        case PolicyKind.NEWEST_FIRST:
            return newest_first(limit, definition.pending_timeout, era)
    raise ValueError(f"unrecognized triggering policy kind {definition.kind}")
