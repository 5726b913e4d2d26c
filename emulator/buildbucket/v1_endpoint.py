"""The v1 API over HTTP: REST calls, prepared responses and faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from emulator.buildbucket.canned import CannedResponse
from emulator.buildbucket.identifiers import ANONYMOUS
from emulator.buildbucket.injection import FaultInjector, json_response
from emulator.buildbucket.partial import PartialError, select_fields
from emulator.buildbucket.service import Service
from emulator.buildbucket.state import BuildbucketState
from emulator.buildbucket.v1 import BuildsV1, ForbiddenV1, error_body
from emulator.buildbucket.v1_requests import BadRequest, Refused, parse_put

__all__ = ["V1Endpoint"]


class V1Endpoint:
    """Handles requests below ``/_ah/api/buildbucket/v1/``."""

    def __init__(self, service: Service, state: BuildbucketState) -> None:
        self._builds = BuildsV1(service)
        self._state = state
        self._faults = FaultInjector(state)

    def handle(self, request: Request, method: str, arguments: Mapping[str, Any], caller: str) -> Response:
        """Handle one call; ``method`` is ``v1.put`` and so on, ``arguments`` are the variable parts of the path."""
        return self._faults.run(request, method, lambda: self._respond(request, method, arguments, caller))

    def _respond(self, request: Request, method: str, arguments: Mapping[str, Any], caller: str) -> Response:
        try:
            if self._state.strict_auth and caller == ANONYMOUS:
                return _error_response("Invalid credentials", 401)
            reply = self._call(request, method, arguments, caller)
            if isinstance(reply, Response):
                return reply
            if request.args.get("fields"):
                reply = select_fields(reply, request.args["fields"])
        except Refused as error:
            return json_response(error_body(error), 200)
        except (BadRequest, PartialError) as error:
            return _error_response(str(error), 400)
        except ForbiddenV1 as error:
            return _error_response(str(error), 403)
        return json_response(reply, 200)

    def _call(
        self, request: Request, method: str, arguments: Mapping[str, Any], caller: str
    ) -> dict[str, Any] | Response:
        build_id = arguments.get("build_id", "")
        body = _body(request) if request.method in {"PUT", "POST"} else None
        if method in self._state.canned.left():
            # A malformed request gets its error and uses up no prepared response.
            _check(method, build_id, body)
            if (canned := self._state.canned.take(method)) is not None:
                return _canned_response(canned)
        builds = self._builds
        methods: dict[str, Callable[[], dict[str, Any]]] = {
            "v1.put": lambda: builds.put(body, caller),
            "v1.put_batch": lambda: builds.put_batch(body, caller),
            "v1.get": lambda: builds.get(build_id, caller),
            "v1.cancel": lambda: builds.cancel(build_id, body, caller),
            "v1.cancel_batch": lambda: builds.cancel_batch(body, caller),
            "v1.retry": lambda: builds.retry(build_id, body, caller),
            "v1.search": lambda: builds.search(request.args, caller),
            "v1.get_bucket": lambda: builds.get_bucket(arguments["bucket"], caller),
        }
        return methods[method]()


def _check(method: str, build_id: str, body: object) -> None:
    """Check that a request is well-formed."""
    if method == "v1.put":
        parse_put(body)
    elif build_id and not build_id.isdecimal():
        raise BadRequest(f"Invalid value for field id: {build_id}")


def _canned_response(canned: CannedResponse) -> Response:
    if not isinstance(canned.body, Mapping):
        return Response(canned.body, canned.status, dict(canned.headers))
    response = json_response(canned.body, canned.status)
    response.headers.update(canned.headers)
    return response


def _body(request: Request) -> Any:
    data = request.get_data()
    try:
        return json.loads(data) if data else {}
    except (RecursionError, ValueError) as error:
        raise BadRequest(f"Request decoding failed: {error}") from error


def _error_response(message: str, status: int) -> Response:
    return json_response({"error": {"message": message}}, status)
