"""What Gitiles answers when it cannot: statuses, codes and texts, in the form of the hosted service or of the open one."""

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
    """A request that cannot be answered; ``code`` is one of the words of ``X-Gitiles-Error``."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


def error_response(error: GitilesError, form: ErrorForm, path: str) -> Response:
    """Return the answer to a failed request. There is never a guard line, and never JSON.

    The hosted service answers plain text but for 400, where the open one's page shows through.
    """
    if form == "hosted" and error.status in _HOSTED:
        request_id = hashlib.md5(path.encode(), usedforsecurity=False).hexdigest()
        text = _HOSTED[error.status].format(request_id=request_id)
        return Response(text, error.status, content_type="text/plain; charset=utf-8")
    headers = {"Content-Type": "text/html; charset=utf-8", "X-Gitiles-Error": error.code}
    return Response(_OPEN.get(error.code, error.code), error.status, headers)
