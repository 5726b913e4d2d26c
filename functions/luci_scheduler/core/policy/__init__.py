"""Triggering policies: how pending triggers become requests for invocations; one module each."""

from __future__ import annotations

from luci_scheduler.core.era import Era
from luci_scheduler.core.job import PolicyKind, TriggeringPolicy
from luci_scheduler.core.policy.base import Decision, Policy
from luci_scheduler.core.policy.batching import greedy_batching

__all__ = ["Decision", "Policy", "make_policy"]


def make_policy(definition: TriggeringPolicy, era: Era) -> Policy:
    """Build the policy function of a definition.

    Raises:
        ValueError: the kind is not one that this version knows; the caller falls back to the default policy.
    """
    if definition.kind is PolicyKind.GREEDY_BATCHING:
        return greedy_batching(definition.max_concurrent_invocations, definition.max_batch_size, era)
    raise ValueError(f"unrecognized policy kind {definition.kind}")
