"""The pause before the next attempt of a call that failed."""

from __future__ import annotations

from luci_scheduler.core.instants import HOUR

__all__ = ["plain_pause", "throttled_pause"]

_MAX_ASKED = HOUR


def plain_pause(attempts: int, shortest: int, longest: int) -> int:
    """Return the pause after the attempt with the number ``attempts`` (from 1): it doubles from ``shortest`` to ``longest``.

    All numbers but ``attempts`` are nanoseconds, here and below.
    """
    return min(shortest << min(attempts - 1, 20), longest)


def throttled_pause(plain: int, retry_after: int, draw: int) -> int:
    """Return the pause after a refusal for a quota: at least the longer one of ``plain`` and ``retry_after``, less than twice as long.

    The spread keeps launches that were refused together from coming again together.

    Args:
        plain: the pause after another failure.
        retry_after: the pause that the server named, or 0; at most an hour of it counts.
        draw: a random number, at least 0.
    """
    base = max(plain, min(retry_after, _MAX_ASKED))
    return base + draw % base
