"""The triggering policies: the only list of them."""

from __future__ import annotations

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.job import TriggeringPolicy
from luci_scheduler.core.policy.base import Policy
from luci_scheduler.core.policy.batching import GreedyBatching
from luci_scheduler.core.policy.logarithmic import LogarithmicBatching
from luci_scheduler.core.policy.newest_first import NewestFirst

__all__ = ["POLICIES", "make_policy", "policy_class"]

POLICIES: tuple[type[Policy], ...] = (GreedyBatching, LogarithmicBatching, NewestFirst)
"""Every policy of this version. The first is the default."""


def policy_class(kind: str) -> type[Policy]:
    """Return the policy of a kind. For a kind that this version does not know, return the default policy."""
    return next((policy for policy in POLICIES if policy.kind == kind), POLICIES[0])


def make_policy(definition: TriggeringPolicy, era: Era, hosts: CommitHosts = DEFAULT_HOSTS) -> Policy:
    """Build the policy of a definition; ``era`` decides the wording of requests, ``hosts`` how repositories are read.

    Raises:
        ValueError: this version does not know the kind, or a number is out of range (the original's texts). The caller
            falls back to the default policy.
    """
    policy = policy_class(definition.kind)
    # A job that a newer version stored may name a policy that this version does not have.
    if policy.kind != definition.kind:
        raise ValueError(f"unrecognized triggering policy kind {definition.kind}")
    return policy(definition, era, hosts)
