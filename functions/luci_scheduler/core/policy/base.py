"""What a triggering policy is given and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luci_scheduler.core.request import Request
from luci_scheduler.core.trigger import Trigger

__all__ = ["Decision", "Policy"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy wants: invocations to start, triggers to drop, lines for the triage log."""

    requests: tuple[Request, ...] = ()
    discard: tuple[Trigger, ...] = ()
    log: tuple[str, ...] = ()


Policy = Callable[[Sequence[Trigger], int], Decision]
"""(pending triggers, oldest first; number of active invocations) → decision. Pure."""
