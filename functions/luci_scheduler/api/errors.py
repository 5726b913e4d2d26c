"""How calls fail: a gRPC code and a text for the caller.

An error that callers handle differently has its own class. Texts are for people and are never compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from luci_scheduler.core.errors import TransientError

__all__ = [
    "ApiError",
    "BadMemberError",
    "Code",
    "HostUnavailableError",
    "InvalidCursorError",
    "NoSuchInvocationError",
    "NoSuchJobError",
    "failed_precondition",
    "forbidden",
    "invalid",
    "no_such_invocation",
    "no_such_job",
]


class Code(IntEnum):
    """The gRPC codes that the API returns."""

    OK = 0
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class ApiError(Exception):
    """A call was refused or has failed; nothing was done unless the raiser says so."""

    def __init__(self, code: Code, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Make the error.

        Args:
            code: the gRPC code.
            message: the text for the caller.
            headers: HTTP headers to add to the response.
        """
        super().__init__(message)
        self.code = code
        self.message = message
        self.headers = headers or {}


class BadMemberError(ApiError):
    """A member of a request is unknown, empty, or has the wrong type."""

    def __init__(self, member: str, problem: str, what: str = "") -> None:
        """Make the error: ``project`` ``must be a text, not the number 1``; ``what`` precedes them in the message."""
        super().__init__(Code.INVALID_ARGUMENT, f"{what}{member} {problem}")
        self.details = ({"member": member, "problem": problem},)


class NoSuchJobError(ApiError):
    """A job does not exist, or the caller may not see it; the text does not reveal which."""


class NoSuchInvocationError(ApiError):
    """An invocation does not exist under a job that the caller may see."""


class InvalidCursorError(ApiError):
    """A page cursor was not made by this API."""


class HostUnavailableError(TransientError):
    """The host of a repository did not answer; its text is for the caller, and names the host's answer."""


def invalid(message: str) -> ApiError:
    """Return the error for a request that can never succeed unchanged."""
    return ApiError(Code.INVALID_ARGUMENT, message)


def failed_precondition(message: str) -> ApiError:
    """Return the error for a request that may succeed after something else changes."""
    return ApiError(Code.FAILED_PRECONDITION, message)


def forbidden() -> ApiError:
    """Return the error for an action that the caller may not take on a visible job (the original's text)."""
    return ApiError(Code.PERMISSION_DENIED, "no permission to execute the action")


def no_such_job(names: str = "") -> NoSuchJobError:
    """Return the error for jobs that do not exist or are not visible (the original's text)."""
    text = "no such job or no permission to see it"
    return NoSuchJobError(Code.NOT_FOUND, f"{text}: {names}" if names else text)


def no_such_invocation() -> NoSuchInvocationError:
    """Return the error for an invocation that does not exist under a visible job (the original's text)."""
    return NoSuchInvocationError(Code.NOT_FOUND, "no such invocation")
