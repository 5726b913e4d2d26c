"""Control endpoints: tests and tools in other processes change a server's state through JSON below ``/control/``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from werkzeug.exceptions import BadRequest, HTTPException, NotFound, UnsupportedMediaType
from werkzeug.wrappers import Request, Response

from emulator.serving.emulated_server import ServerState

__all__ = ["ControlEndpoint", "Handler", "state_handlers"]

Handler: TypeAlias = Callable[[Mapping[str, Any]], Any]


def state_handlers(state: ServerState[Any, Any]) -> dict[tuple[str, str], Handler]:
    """Return the handlers that all servers have: read and clear the request log, read and clear the faults."""
    return {
        ("GET", "requests"): lambda _body: [dataclasses.asdict(record) for record in state.log.all()],
        ("DELETE", "requests"): lambda _body: state.log.clear(),
        ("GET", "faults"): lambda _body: [dataclasses.asdict(fault) for fault in state.faults.active()],
        ("DELETE", "faults"): lambda _body: state.faults.clear(),
    }


class ControlEndpoint:
    """Handles requests below ``/control/``.

    Success is 200 with JSON. Errors are ``{"error": "..."}``: 400 for a body that the handler cannot read, 404 for an
    unknown path, 415 for a body that is not declared to be JSON.

    Args:
        find: returns the handler of a method and path, or None.
    """

    def __init__(self, find: Callable[[str, str], Handler | None]) -> None:
        self._find = find

    def __call__(self, request: Request, path: str) -> Response:
        """Handle a request; ``path`` is the part after ``/control/``."""
        try:
            handler = self._find(request.method, path)
            if handler is None:
                raise NotFound(f"no {request.method} /control/{path}")
            result = handler(_body(request))
        except HTTPException as error:
            return _reply({"error": error.description}, error.code or 400)
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            return _reply({"error": f"{type(error).__name__}: {error}"}, 400)
        return _reply({} if result is None else result, 200)


def _body(request: Request) -> Mapping[str, Any]:
    """Return the JSON object of a request; an empty one if the request has no body."""
    if not request.get_data():
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("the body must be application/json")
    body = request.get_json()
    if not isinstance(body, Mapping):
        raise BadRequest("the body must be a JSON object")
    return body


def _reply(body: object, status: int) -> Response:
    return Response(json.dumps(body, default=str), status, content_type="application/json")
