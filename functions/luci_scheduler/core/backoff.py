"""The pause before the next attempt of a call that failed."""

from __future__ import annotations

__all__ = ["plain_pause", "throttled_pause"]


def plain_pause(attempts: int, shortest: int, longest: int) -> int:
    """Return the pause after attempt number ``attempts`` (from 1): it doubles from ``shortest`` up to ``longest``.

    All numbers except ``attempts`` are nanoseconds, here and below.
    """
    # The bound keeps the shift small. Twenty doublings exceed every configured limit.
    return min(shortest << min(attempts - 1, 20), longest)


def throttled_pause(plain: int, retry_after: int, draw: int) -> int:
    """Return the pause after a quota refusal: at least ``max(plain, retry_after)``, less than twice that.

    The spread keeps launches that were refused together from returning together.

    Args:
        plain: the pause after any other failure.
        retry_after: the pause that the server named, or 0. The clients bound it (`transience.LONGEST_PAUSE`).
        draw: a random number, at least 0.
    """
    base = max(plain, retry_after)
    return base + draw % base
