"""The errors that this project raises on purpose. Each class states how a caller must react.

::

    SchedulerError
    ├── TransientError         a retry may succeed: 500, delivered again
    │   ├── NewerVersionError  a newer version wrote it: its own function can read it
    │   └── StoreConflictError a precondition of a commit failed: read again and decide again
    ├── ComeAgainError         expected, not yet time: 409, delivered again
    ├── MalformedError         the message itself is bad: 400 until the dead-letter topic has it
    └── PermanentError         a retry cannot help: recorded, counted, acknowledged
        ├── JobNotFoundError
        └── BadTokenError
            └── UnknownKeyError
"""

from __future__ import annotations

__all__ = [
    "BadTokenError",
    "ComeAgainError",
    "JobNotFoundError",
    "MalformedError",
    "NewerVersionError",
    "PermanentError",
    "SchedulerError",
    "StoreConflictError",
    "TransientError",
    "UnknownKeyError",
]


class SchedulerError(Exception):
    """Base of all errors that this project raises on purpose."""


class TransientError(SchedulerError):
    """A retry may succeed. The failed attempt stored nothing, unless the raiser documents it."""

    def __init__(self, message: str = "", *, throttled: bool = False, retry_after: int = 0) -> None:
        """Make the error.

        Args:
            message: a description of the failure, without secrets.
            throttled: whether the server refused because of too many requests (a quota).
            retry_after: the wait in nanoseconds that the server requested; 0 if it named no time.
        """
        super().__init__(message)
        self.throttled = throttled
        self.retry_after = retry_after


class NewerVersionError(TransientError):
    """A newer version of the functions wrote the payload. A newer function may handle the next delivery."""


class StoreConflictError(TransientError):
    """A document did not have the version that the commit required. Nothing was written.

    Read again and decide again.
    """


class ComeAgainError(SchedulerError):
    """The delivery came before its precondition (a live claim, a commit not yet visible). Deliver it again shortly."""


class MalformedError(SchedulerError):
    """The message cannot be understood, now or later. It belongs on the dead-letter topic."""


class PermanentError(SchedulerError):
    """A retry cannot help. The error is recorded where people see it, counted, and acknowledged."""


class JobNotFoundError(PermanentError):
    """The job does not exist, or the caller may not know that it exists."""


class BadTokenError(PermanentError):
    """A notification's token is missing, forged, stale or for another invocation.

    The message names the fault, not the token.
    """


class UnknownKeyError(BadTokenError):
    """A token is whole and fresh, and none of the known keys signed it. A newer function may know the key."""
