"""How calls fail: a gRPC code and a text for the caller."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

__all__ = ["ApiError", "Code", "failed_precondition", "forbidden", "invalid", "no_such_invocation", "no_such_job"]


class Code(IntEnum):
    """The gRPC codes that the API answers with."""

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
    """A call is refused or has failed; nothing was done unless the raiser says so."""

    def __init__(self, code: Code, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Make the error; ``headers`` go with the answer."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.headers = headers or {}


def invalid(message: str) -> ApiError:
    """Return the error of a request that can never succeed as it is."""
    return ApiError(Code.INVALID_ARGUMENT, message)


def failed_precondition(message: str) -> ApiError:
    """Return the error of a request that may succeed when something else has been changed."""
    return ApiError(Code.FAILED_PRECONDITION, message)


def forbidden() -> ApiError:
    """Return the error of an action that the caller may not take on a job that it sees (the original's text)."""
    return ApiError(Code.PERMISSION_DENIED, "no permission to execute the action")


def no_such_job(names: str = "") -> ApiError:
    """Return the error of jobs that do not exist or are not visible: nothing tells which (the original's text)."""
    text = "no such job or no permission to see it"
    return ApiError(Code.NOT_FOUND, f"{text}: {names}" if names else text)


def no_such_invocation() -> ApiError:
    """Return the error of an invocation that does not exist under a job that the caller sees (the original's text)."""
    return ApiError(Code.NOT_FOUND, "no such invocation")
