"""Every error that this project raises on purpose carries what is to be done about it.

::

    SchedulerError
    ├── TransientError         trying again later may succeed: 500, delivered again
    │   └── StoreConflictError a precondition of a commit did not hold: re-read and decide again
    ├── ComeAgainError         expected, not yet time: 409, delivered again
    ├── MalformedError         the message itself is bad: 400 until the dead-letter topic has it
    └── PermanentError         trying again cannot help: recorded, counted, acknowledged
        ├── JobNotFoundError
        └── BadTokenError
"""

from __future__ import annotations

__all__ = [
    "BadTokenError",
    "ComeAgainError",
    "JobNotFoundError",
    "MalformedError",
    "PermanentError",
    "SchedulerError",
    "StoreConflictError",
    "TransientError",
]


class SchedulerError(Exception):
    """Base of every error this project raises on purpose."""


class TransientError(SchedulerError):
    """Trying again later may succeed; nothing of this attempt was kept unless the raiser says so."""

    def __init__(self, message: str = "", *, throttled: bool = False, retry_after: int = 0) -> None:
        """Make the error.

        Args:
            message: what failed, without secrets.
            throttled: whether the other side refused because it gets too many requests (a quota).
            retry_after: nanoseconds that the other side asked to wait; 0 if it named no time.
        """
        super().__init__(message)
        self.throttled = throttled
        self.retry_after = retry_after


class StoreConflictError(TransientError):
    """A document was not in the state that the commit required; nothing was written. Re-read and decide again."""


class ComeAgainError(SchedulerError):
    """What the delivery needs is on its way (a live claim, a commit not yet visible); deliver it again shortly."""


class MalformedError(SchedulerError):
    """The message cannot be understood and never will be; the dead-letter topic is its place."""


class PermanentError(SchedulerError):
    """Trying again cannot help; it is recorded where people look, counted, and acknowledged."""


class JobNotFoundError(PermanentError):
    """The job does not exist, or the caller may not know that it does."""


class BadTokenError(PermanentError):
    """A notification's token is missing, forged, stale or for something else; the message names which, never the token."""
