"""Errors of the Cloud Build API, as the service writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

__all__ = ["STATUSES", "CallError", "disabled", "invalid", "not_found", "over_quota", "unauthenticated"]

STATUSES: Mapping[str, int] = {
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "FAILED_PRECONDITION": HTTPStatus.BAD_REQUEST,
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
    "PERMISSION_DENIED": HTTPStatus.FORBIDDEN,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "ABORTED": HTTPStatus.CONFLICT,
    "ALREADY_EXISTS": HTTPStatus.CONFLICT,
    "RESOURCE_EXHAUSTED": HTTPStatus.TOO_MANY_REQUESTS,
    "CANCELLED": 499,
    "INTERNAL": HTTPStatus.INTERNAL_SERVER_ERROR,
    "UNKNOWN": HTTPStatus.INTERNAL_SERVER_ERROR,
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
    "DEADLINE_EXCEEDED": HTTPStatus.GATEWAY_TIMEOUT,
}
"""Name of a gRPC code → the HTTP status of an answer with it."""


class CallError(Exception):
    """A call that the service refuses.

    Args:
        code: the name of a gRPC code, a key of `STATUSES`.
        message: the service's words.
        details: the details of the error, such as an ``ErrorInfo``.
    """

    def __init__(self, code: str, message: str, details: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(STATUSES[self.code])

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        error: dict[str, Any] = {"code": self.status, "message": self.message, "status": self.code}
        if self.details:
            error["details"] = [dict(detail) for detail in self.details]
        return {"error": error}


def invalid(message: str) -> CallError:
    """Return the error about a request that the service cannot accept."""
    return CallError("INVALID_ARGUMENT", message)


def not_found() -> CallError:
    """Return the error about a build or trigger that is not there, or is in another location."""
    return CallError("NOT_FOUND", "Requested entity was not found.")


def unauthenticated() -> CallError:
    """Return the error about a call without a valid token."""
    return CallError(
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential.",
    )


def over_quota(number: int) -> CallError:
    """Return the error about too many calls in a minute; ``number`` is the project's."""
    metric = "Build and Operation Get requests"
    message = (
        f"Quota exceeded for quota metric '{metric}' and limit '{metric} per minute' of service "
        f"'cloudbuild.googleapis.com' for consumer 'project_number:{number}'."
    )
    more = {"quota_metric": "cloudbuild.googleapis.com/get_requests", "quota_limit": "GetRequestsPerMinutePerProject"}
    return CallError("RESOURCE_EXHAUSTED", message, [_info("RATE_LIMIT_EXCEEDED", number, more)])


def disabled(number: int) -> CallError:
    """Return the error about a project in which the API is switched off; ``number`` is the project's."""
    message = f"Cloud Build API has not been used in project {number} before or it is disabled."
    return CallError("PERMISSION_DENIED", message, [_info("SERVICE_DISABLED", number, {})])


def _info(reason: str, number: int, more: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"service": "cloudbuild.googleapis.com", "consumer": f"projects/{number}", **more}
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": metadata,
    }
