"""The mutation counter, and the timer IDs drawn from it.

The original saves an invocation several times where this project makes one commit. The counter counts the original's
saves, because it is visible in timer IDs.
"""

from __future__ import annotations

from luci_scheduler.core.identifiers import InvocationId, JobId, timer_id

__all__ = ["MutationCounter"]


class MutationCounter:
    """The mutation counter of one invocation, held by its controller."""

    def __init__(self, known: int = 0) -> None:
        self._known = known
        self._timers = 0

    @property
    def known(self) -> int:
        """The counter of the state that was last loaded or saved."""
        return self._known

    def timer_id(self, job_id: JobId, invocation_id: InvocationId) -> str:
        """Draw the ID of a timer from the known counter and the number of timers added since the last save."""
        identifier = timer_id(job_id, invocation_id, self._known, self._timers)
        self._timers += 1
        return identifier

    def save(self, *, changed: bool) -> None:
        """Count a save. A save without a change and without an added timer does not count."""
        # The original writes nothing if nothing changed.
        if changed or self._timers:
            self._known += 1
        self._timers = 0
