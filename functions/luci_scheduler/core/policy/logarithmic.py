"""Logarithmic batching: batches grow with the number of pending triggers, but far more slowly."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.job import TriggeringPolicy
from luci_scheduler.core.policy.batching import Batching

__all__ = ["LogarithmicBatching"]

_MIN_LOG_BASE = 1.0001  # below this the logarithm comes too close to zero (the original's limit)


class LogarithmicBatching(Batching):
    """Takes log(N) of N pending triggers into each request: at least one, at most ``max_batch_size``.

    N is counted again for each request. If N is a power of the base, the last digit of the floating-point quotient
    decides, as in the original: base 10 takes two of 1000.
    """

    kind: ClassVar[str] = "LOGARITHMIC_BATCHING"
    number: ClassVar[int] = 2
    fields: ClassVar[tuple[str, ...]] = ("max_batch_size", "log_base")

    def __init__(self, definition: TriggeringPolicy, era: Era, hosts: CommitHosts = DEFAULT_HOSTS) -> None:
        # Written with `not`, because a base that is not a number compares false with everything.
        if not definition.log_base >= _MIN_LOG_BASE:
            raise ValueError(f"log_base should be more or equal than {_MIN_LOG_BASE}")
        super().__init__(definition, era, hosts)
        self._divisor = math.log(definition.log_base)

    def batch_size(self, pending: int) -> int:
        """Return the logarithm of ``pending``, rounded down, but at least 1."""
        return max(1, min(pending, math.floor(math.log(pending) / self._divisor)))

    @classmethod
    def problems(cls, message: Any) -> Iterable[tuple[str, str]]:
        """Yield an error if the base is missing or too small."""
        if not message.log_base >= _MIN_LOG_BASE:
            yield "log_base", f"log_base should be larger or equal {_MIN_LOG_BASE}, got {message.log_base:f}"
