"""Logarithmic batching: the more triggers wait, the larger the batches, but far slower than all at once."""

from __future__ import annotations

import math

from luci_scheduler.core.era import Era
from luci_scheduler.core.policy.base import Policy
from luci_scheduler.core.policy.batching import batching

__all__ = ["logarithmic_batching"]

_MIN_LOG_BASE = 1.0001  # below, the logarithm comes too close to zero (the original's limit)


def logarithmic_batching(max_concurrent_invocations: int, max_batch_size: int, log_base: float, era: Era) -> Policy:
    """Take log(N) of N pending triggers into each request: at least one, at most ``max_batch_size``.

    N is counted anew for each request. Where N is a power of the base, the last digit of the floating-point quotient
    decides, as in the original: base 10 takes two of 1000.

    Raises:
        ValueError: a limit is not positive, or the base is below 1.0001.
    """
    if not log_base >= _MIN_LOG_BASE:
        raise ValueError(f"log_base should be more or equal than {_MIN_LOG_BASE}")
    divisor = math.log(log_base)

    def reducer(pending: int) -> int:
        return max(1, min(pending, math.floor(math.log(pending) / divisor)))

    return batching(max_concurrent_invocations, max_batch_size, era, reducer=reducer)
