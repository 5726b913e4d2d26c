"""Newest first: each invocation runs one trigger; older triggers wait until they time out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import ClassVar

from luci_scheduler.core import discards
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import TriggeringPolicy
from luci_scheduler.core.policy.base import Decision, Discard, Policy, check_positive
from luci_scheduler.core.trigger import Trigger

__all__ = ["NewestFirst"]


class NewestFirst(Policy):
    """Fills the free slots with the latest triggers, one request each.

    A trigger that has been pending for ``pending_timeout`` (nanoseconds) is discarded, even if no slot is free.
    """

    kind: ClassVar[str] = "NEWEST_FIRST"
    number: ClassVar[int] = 3
    fields: ClassVar[tuple[str, ...]] = ("pending_timeout",)
    eras: ClassVar[frozenset[Era]] = frozenset({Era.V2})
    takes_newest: ClassVar[bool] = True

    def __init__(self, definition: TriggeringPolicy, era: Era, hosts: CommitHosts = DEFAULT_HOSTS) -> None:
        super().__init__(definition, era, hosts)
        check_positive("pending_timeout", definition.pending_timeout)

    def decide(self, triggers: Sequence[Trigger], active_invocations: int, now: Instant) -> Decision:
        """Discard the triggers that are too old, then start the newest of the others."""
        timeout = self._definition.pending_timeout
        # The oldest triggers come first, so the first trigger that is young enough ends the search.
        reason = discards.pending_too_long(self.kind, timeout)
        old = tuple(
            Discard(trigger, reason) for trigger in takewhile(lambda item: now - item.created >= timeout, triggers)
        )
        slots = self._free_slots(active_invocations)
        if slots <= 0:
            return Decision(discards=old, log=(self._no_slots(active_invocations),))
        # The other triggers stay pending until a slot is free or their timeout has passed.
        newest = triggers[len(old) :][-slots:]
        return Decision(tuple(self._request([trigger]) for trigger in newest), old)
