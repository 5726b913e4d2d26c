"""The Buildbucket server's WSGI application: routes, callers and the request log."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from emulator.buildbucket.identifiers import ANONYMOUS
from emulator.buildbucket.injection import CutError, json_response
from emulator.buildbucket.pages import Pages
from emulator.buildbucket.service import Service
from emulator.buildbucket.state import BuildbucketRequest, BuildbucketState
from emulator.buildbucket.v1_endpoint import V1Endpoint
from emulator.buildbucket.v2_endpoint import V2Endpoint
from emulator.serving.responses import compress, cut_connection

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["BuildbucketApp", "identity_of"]

_V1 = "/_ah/api/buildbucket/v1"
_RULES = Map(
    [
        Rule("/prpc/<service>/<method>", endpoint="prpc"),
        Rule("/auth/api/v1/server/info", endpoint="info", methods=["GET"]),
        Rule("/", endpoint="pages.builds", methods=["GET"]),
        Rule("/build/<build_id>", endpoint="pages.build", methods=["GET"]),
        Rule("/build/<build_id>/log", endpoint="pages.log", methods=["GET"]),
        Rule("/assets/builds.js", endpoint="pages.script", methods=["GET"]),
        Rule("/control/<path:path>", endpoint="control"),
        Rule(f"{_V1}/builds", endpoint="v1.put", methods=["PUT"]),
        Rule(f"{_V1}/builds/batch", endpoint="v1.put_batch", methods=["PUT"]),
        Rule(f"{_V1}/builds/<build_id>", endpoint="v1.get", methods=["GET"]),
        Rule(f"{_V1}/builds/<build_id>/cancel", endpoint="v1.cancel", methods=["POST"]),
        Rule(f"{_V1}/builds/cancel", endpoint="v1.cancel_batch", methods=["POST"]),
        Rule(f"{_V1}/builds/<build_id>/retry", endpoint="v1.retry", methods=["PUT"]),
        Rule(f"{_V1}/search", endpoint="v1.search", methods=["GET"]),
        Rule(f"{_V1}/buckets/<path:bucket>", endpoint="v1.get_bucket", methods=["GET"]),
    ]
)


def identity_of(authorization: str) -> str:
    """Return the identity of the caller in an ``Authorization`` header.

    ``Bearer fake:<email>`` is that user; ``fake:`` may also precede a whole identity, such as ``project:tint``.
    Anything else is anonymous.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.startswith("fake:"):
        return ANONYMOUS
    identity = token.removeprefix("fake:")
    return identity if ":" in identity else f"user:{identity}"


class BuildbucketApp:
    """Serves both APIs, the pages of builds, the service's information and the control endpoint.

    Args:
        service: the builds and everything that changes them.
        state: faults, prepared responses, request log and authentication.
        app_id: the App Engine application that the server represents.
        service_account: the account that publishes notifications, as the information endpoint shows it.
        control: handles the requests below ``/control/``.
        spacing: chooses the random spaces in v2 replies.
    """

    def __init__(
        self,
        service: Service,
        state: BuildbucketState,
        app_id: str,
        service_account: str,
        control: Callable[[Request, str], Response],
        spacing: random.Random,
    ) -> None:
        self._service = service
        self._state = state
        self._v1 = V1Endpoint(service, state)
        self._v2 = V2Endpoint(service, state, app_id, spacing)
        self._pages = Pages(service, state)
        self._info = {
            "app_id": app_id,
            "app_runtime": "python",
            "app_runtime_version": "python3",
            "app_version": "local",
            "service_account_name": service_account,
        }
        self._control = control

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = Request(environ)
        try:
            endpoint, arguments = _RULES.bind_to_environ(environ).match()
            response = self._dispatch(request, endpoint, arguments)
        except HTTPException as error:
            response = error.get_response(environ)
        except CutError:
            cut_connection(environ)
        return response(environ, start_response)

    def _dispatch(self, request: Request, endpoint: str, arguments: Mapping[str, Any]) -> Response:
        if endpoint == "control":
            return self._control(request, arguments["path"])
        if endpoint == "info":
            return json_response(self._info, 200)
        if endpoint.startswith("pages."):
            return self._pages.answer(request, endpoint.removeprefix("pages."), arguments.get("build_id", ""))
        return self._logged_call(request, endpoint, arguments)

    def _logged_call(self, request: Request, endpoint: str, arguments: Mapping[str, Any]) -> Response:
        """Handle an API call and record it, even if a fault cuts its connection."""
        method = arguments["method"] if endpoint == "prpc" else endpoint
        caller = identity_of(request.headers.get("Authorization", ""))
        time, status, answer = self._service.clock.now(), 0, ""
        try:
            if endpoint == "prpc":
                response = self._v2.handle(request, arguments["service"], method, caller)
            else:
                response = self._v1.handle(request, method, arguments, caller)
            status, answer = response.status_code, "" if response.is_streamed else response.get_data(as_text=True)
        finally:
            self._state.log.add(
                BuildbucketRequest(
                    method=method,
                    caller=caller,
                    http_method=request.method,
                    path=request.full_path.rstrip("?"),
                    body=request.get_data().decode(errors="replace"),
                    time=time,
                    status=status,
                    answer=answer,
                    headers=dict(request.headers.items()),
                )
            )
        compress(request, response)
        return response
