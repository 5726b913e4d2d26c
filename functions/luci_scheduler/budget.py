"""The time budget of a delivery: outside calls end within it, so that the handler answers in time.

The platform ends a process that has not answered by its limit.

An entry point sets the budget, and the clients in ``adapters`` call `time_left` before each outside call. The budget is
measured on the machine's monotonic clock, because neither a corrected system clock nor the faster time of a local cloud
may change how long a socket stays open.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from luci_scheduler.core.errors import TransientError

__all__ = ["BUDGETS", "limited", "time_left"]

BUDGETS = {
    "on_gitiles_commit": 290.0,
    "on_build_completion": 110.0,
    "on_cloud_build": 110.0,
    "on_task": 590.0,
    "console": 50.0,
    "on_github_push": 8.0,
}
"""Function → seconds that the outside calls of one delivery may take together: ten less than the platform's limit.

The limit of a task is the queue's dispatch deadline (600 s), that of the others is the function's timeout (see
infra/terraform/functions.tf). GitHub waits ten seconds for the answer to a webhook ("Best practices for using
webhooks"), so the budget of ``on_github_push`` ends two seconds before."""

_end: ContextVar[float | None] = ContextVar("end_of_delivery", default=None)


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Give all outside calls inside ``with`` a common budget of ``seconds``; None leaves the current budget in place.

    Threads that work in a copy of the context share the budget.
    """
    if seconds is None:
        yield
        return
    token = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def time_left(limit: float) -> float:
    """Return the seconds that an outside call may take: its own limit, or the remaining budget if that is less.

    Raises:
        TransientError: the budget is used up. The call must not be made; the delivery is repeated.
    """
    end = _end.get()
    if end is None:
        return limit
    left = end - time.monotonic()
    if left <= 0:
        raise TransientError("the time budget of this delivery is used up; the next delivery tries again")
    return min(limit, left)
