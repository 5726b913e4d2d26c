"""What a triggering policy is given and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luci_scheduler.core.instants import Instant
from luci_scheduler.core.request import Request
from luci_scheduler.core.trigger import Trigger

__all__ = ["Decision", "Policy", "check_positive", "no_slots"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy wants: invocations to start, triggers to drop, lines for the triage log."""

    requests: tuple[Request, ...] = ()
    discard: tuple[Trigger, ...] = ()
    log: tuple[str, ...] = ()


Policy = Callable[[Sequence[Trigger], int, Instant], Decision]
"""(pending triggers, oldest first; number of active invocations; the present) → decision. Pure."""


def check_positive(name: str, value: int) -> None:
    """Check a number of a policy's definition.

    Raises:
        ValueError: it is zero or less.
    """
    if value <= 0:
        raise ValueError(f"{name} should be positive")


def no_slots(limit: int, running: int) -> str:
    """Return the line that says why nothing is started."""
    return f"Max concurrent invocations is {limit} and there's {running} running => refusing to launch more"
