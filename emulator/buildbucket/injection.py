"""Applies faults to API calls of the Buildbucket server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from emulator.buildbucket import prpc
from emulator.buildbucket.faults import Fault
from emulator.buildbucket.state import BuildbucketState
from emulator.serving.responses import truncated

__all__ = ["CutError", "FaultInjector", "json_response"]

_JSON_TYPE = "application/json; charset=utf-8"
_FRONT_END_PAGE = (
    "<html><head><title>{status} Server Error</title></head><body text=#000000 bgcolor=#ffffff>"
    "<h1>Error: Server Error</h1>"
    "<h2>The server encountered a temporary error and could not complete your request.</h2></body></html>"
)


class CutError(Exception):
    """The connection must be closed without a response."""


class FaultInjector:
    """Runs calls under the active faults."""

    def __init__(self, state: BuildbucketState) -> None:
        self._state = state

    def run(
        self, request: Request, method: str, work: Callable[[], Response], *, timeout: float | None = None
    ) -> Response:
        """Run a call and return its response, or the response of a fault.

        Args:
            request: the request.
            method: the method's name; names of the v1 API begin with ``v1.``.
            work: completes the call.
            timeout: the caller's deadline in seconds, if it gave one.

        Raises:
            CutError: a fault cuts the connection.
        """
        body = request.get_data().decode(errors="replace")
        faults = self._state.faults.use(lambda fault: fault.matches(method, body))
        is_v2 = not method.startswith("v1.")
        for fault in faults:
            if fault.when == "before" and (failed := self._fail(fault, timeout, is_v2=is_v2)) is not None:
                return failed
        response = work()
        for fault in faults:
            if fault.effect == "cut_body":
                response = truncated(request.environ, response)
            elif fault.when == "after" and (failed := self._fail(fault, timeout, is_v2=is_v2)) is not None:
                return failed
        return response

    def _fail(self, fault: Fault, timeout: float | None, *, is_v2: bool) -> Response | None:
        """Return the fault's response; None if the call continues."""
        match fault.effect:
            case "cut":
                raise CutError
            case "slow":
                return self._delay(fault, timeout, is_v2=is_v2)
            case "html":
                page = _FRONT_END_PAGE.format(status=fault.status)
                return Response(page, fault.status, content_type="text/html; charset=UTF-8")
            case "http":
                return Response(fault.body, fault.status, content_type="text/plain; charset=utf-8")
            case "error":
                error = prpc.RpcError(fault.code, fault.message)
                return prpc.failure(error) if is_v2 else json_response(_error(fault.message), error.status)
        return None

    def _delay(self, fault: Fault, timeout: float | None, *, is_v2: bool) -> Response | None:
        is_late = timeout is not None and fault.seconds >= timeout
        self._state.stopping.wait(timeout if is_late else fault.seconds)
        return prpc.failure(prpc.RpcError(prpc.DEADLINE_EXCEEDED, "too slow")) if is_late and is_v2 else None


def json_response(body: Mapping[str, Any], status: int) -> Response:
    """Return a JSON response as the v1 API formats it: sorted keys, indented by one."""
    return Response(json.dumps(body, sort_keys=True, indent=1), status, content_type=_JSON_TYPE)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message}}
