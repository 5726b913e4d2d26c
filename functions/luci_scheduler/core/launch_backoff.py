"""The pause before the next attempt of a launch."""

from __future__ import annotations

from luci_scheduler.core.instants import HOUR

__all__ = ["plain_pause", "throttled_pause"]

_MAX_ASKED = HOUR


def plain_pause(attempts: int, shortest: int, longest: int) -> int:
    """Return the original's pause after the attempt with the number ``attempts``: it doubles from ``shortest`` to ``longest``.

    All numbers but ``attempts`` are nanoseconds, here and below.
    """
    return min(shortest << min(attempts - 1, 20), longest)


def throttled_pause(plain: int, retry_after: int, draw: int) -> int:
    """Return the pause after a refusal for a quota: the plain one or the one that the server asks for, spread over its double.

    Launches that were refused together would else come again together.

    Args:
        plain: the pause after another failure.
        retry_after: the pause that the other side asked for; it counts up to an hour, so that a wrong answer parks nothing.
        draw: a random number, at least 0.
    """
    base = max(plain, min(retry_after, _MAX_ASKED))
    return base + draw % base
