"""Errors of Gitiles: statuses, codes and texts of the hosted service or of open-source Gitiles."""

from __future__ import annotations

import hashlib
from typing import Literal

from werkzeug.wrappers import Response

__all__ = ["ErrorForm", "GitilesError", "error_response"]

ErrorForm = Literal["hosted", "open"]

_REQUEST_INFO = '[type.googleapis.com/google.rpc.RequestInfo]\nrequest_id: "{request_id}"\n'
_QUOTA = (
    '[type.googleapis.com/google.rpc.QuotaFailure]\nviolations {{\n  subject: "ip/192.0.2.7"\n'
    '  description: "Short term server-time rate limit exceeded"\n}}\n\n'
)
_HOSTED = {
    401: "UNAUTHENTICATED: Request had invalid authentication credentials.\n" + _REQUEST_INFO,
    403: "PERMISSION_DENIED: The caller does not have permission\n" + _REQUEST_INFO,
    404: "NOT_FOUND: Requested entity was not found\n" + _REQUEST_INFO,
    429: "RESOURCE_EXHAUSTED: Resource has been exhausted (e.g. check quota)\n" + _QUOTA + _REQUEST_INFO,
    500: "INTERNAL: Internal error encountered.\n" + _REQUEST_INFO,
    502: "UNAVAILABLE: Bad gateway.\n" + _REQUEST_INFO,
    503: "UNAVAILABLE: The service is currently unavailable.\n" + _REQUEST_INFO,
}
_OPEN = {
    "AMBIGUOUS_OBJECT": "The object specified by the URL is ambiguous and Gitiles cannot identify one object",
    "CANNOT_PARSE_GITILES_VIEW": "The URL cannot be parsed",
    "INCORECT_PARAMETER": "The parameter specified in the URL is incorrect",
    "INTERNAL_SERVER_ERROR": "There was an internal server error",
    "NOT_AUTHORIZED": "The caller is not authorized",
    "OBJECT_NOT_FOUND": "The requested object was not found",
    "REPOSITORY_NOT_FOUND": "The requested repository was not found",
    "SERVICE_NOT_ENABLED": "The requested service is not enabled",
    "UNSUPPORTED_RESPONSE_FORMAT": "The requested format is not supported",
}
_BAD_REQUEST = 400


class GitilesError(Exception):
    """A failed request; ``code`` is a code of ``X-Gitiles-Error``, and ``advice`` takes the place of the text."""

    def __init__(self, status: int, code: str, advice: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.advice = advice


def error_response(error: GitilesError, form: ErrorForm, path: str) -> Response:
    """Return the response to a failed request, without a guard line and never in JSON.

    The hosted service responds with plain text, except for 400, where it shows the page of open-source Gitiles.
    """
    if form == "hosted" and error.status in _HOSTED:
        request_id = hashlib.md5(path.encode(), usedforsecurity=False).hexdigest()
        text = _HOSTED[error.status].format(request_id=request_id)
        if error.advice:  # clients show the first line
            text = f"{text.partition(':')[0]}: {error.advice}\n"
        return Response(text, error.status, content_type="text/plain; charset=utf-8")
    headers = {"Content-Type": "text/html; charset=utf-8", "X-Gitiles-Error": error.code}
    return Response(_OPEN.get(error.code, error.code), error.status, headers)
