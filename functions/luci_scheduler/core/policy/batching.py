"""The batching policies: the oldest triggers share one request, with the properties of the latest among them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import TriggeringPolicy
from luci_scheduler.core.policy.base import Decision, Policy, check_positive
from luci_scheduler.core.trigger import Trigger

__all__ = ["Batching", "GreedyBatching"]


class Batching(Policy):
    """Fills the free slots with batches; a subclass decides the size of each batch."""

    fields: ClassVar[tuple[str, ...]] = ("max_batch_size",)

    def __init__(self, definition: TriggeringPolicy, era: Era, hosts: CommitHosts = DEFAULT_HOSTS) -> None:
        super().__init__(definition, era, hosts)
        check_positive("max_batch_size", definition.max_batch_size)

    @abstractmethod
    def batch_size(self, pending: int) -> int:
        """Return how many of ``pending`` triggers one batch takes; 0 starts nothing more.

        ``decide`` caps the number at ``max_batch_size``.
        """

    def decide(self, triggers: Sequence[Trigger], active_invocations: int, now: Instant) -> Decision:  # noqa: ARG002
        """Batch the oldest triggers, one request for each free slot."""
        if not triggers:
            return Decision()
        slots = self._free_slots(active_invocations)
        if slots <= 0:
            return Decision(log=(self._no_slots(active_invocations),))
        pending, requests = list(triggers), []
        # Each batch size follows from the triggers that are still pending, as in the original.
        while slots > 0 and pending:
            size = min(self._definition.max_batch_size, self.batch_size(len(pending)))
            if size <= 0:
                break
            requests.append(self._request(pending[:size]))
            del pending[:size]
            slots -= 1
        return Decision(requests=tuple(requests))

    @classmethod
    def forecast(cls, definition: TriggeringPolicy, commits: int) -> str:
        """Return a sentence about how many commits share an invocation."""
        if definition.max_batch_size == 1 or commits == 1:
            return super().forecast(definition, commits)
        least = -(-commits // definition.max_batch_size)
        return (
            f"Up to {definition.max_batch_size} commits share an invocation, which runs the newest of them "
            f"(the job's policy is {definition.kind}). "
            f"{commits} commits need at least {least} invocation{'' if least == 1 else 's'}."
        )


class GreedyBatching(Batching):
    """Takes all pending triggers, up to ``max_batch_size``, into each request. The default policy."""

    kind: ClassVar[str] = "GREEDY_BATCHING"
    number: ClassVar[int] = 1

    def batch_size(self, pending: int) -> int:
        """Return the number of all pending triggers."""
        return pending
