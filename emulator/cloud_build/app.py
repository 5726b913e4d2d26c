"""The Cloud Build server's WSGI application: the API, the pages of builds, and the request log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from emulator.cloud_build.errors import unauthenticated
from emulator.cloud_build.exchange import CutError, Exchange, Reply, refused
from emulator.cloud_build.pages import Pages
from emulator.cloud_build.service import Service, find_call
from emulator.cloud_build.state import CloudBuildRequest, CloudBuildState
from emulator.serving.responses import compress, cut_connection, truncated

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["CloudBuildApp"]

_RULES = Map(
    [
        Rule("/", endpoint="builds", methods=["GET"]),
        Rule("/builds/<build_id>", endpoint="build", methods=["GET"]),
        Rule("/builds/<build_id>/log", endpoint="log", methods=["GET"]),
        Rule("/assets/builds.js", endpoint="script", methods=["GET"]),
        Rule("/control/<path:path>", endpoint="control"),
        Rule("/<path:path>", endpoint="api", methods=["GET", "POST"]),
    ]
)


class CloudBuildApp:
    """Serves the API below ``/v1/``, the pages of builds and the control endpoint.

    Args:
        service: the builds and everything that changes them.
        state: faults, request log and authentication.
        control: handles the requests below ``/control/``.
    """

    def __init__(self, service: Service, state: CloudBuildState, control: Callable[[Request, str], Response]) -> None:
        self._service = service
        self._state = state
        self._exchange = Exchange(service, state.faults)
        self._pages = Pages(service, state)
        self._control = control

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = Request(environ)
        try:
            endpoint, arguments = _RULES.bind_to_environ(environ).match()
            response = self._dispatch(request, endpoint, arguments.get("path", ""), arguments.get("build_id", ""))
        except HTTPException as error:
            response = error.get_response(environ)
        except CutError:
            cut_connection(environ)
        return response(environ, start_response)

    def _dispatch(self, request: Request, endpoint: str, path: str, build_id: str) -> Response:
        if endpoint == "control":
            return self._control(request, path)
        if endpoint == "api":
            return self._logged(request)
        return self._pages.answer(request, endpoint, build_id)

    def _logged(self, request: Request) -> Response:
        """Answer a call of the API and record it, even if a fault cuts its connection."""
        time, reply = self._service.clock.now(), Reply(0, b"")
        call = find_call(request.method, request.path)
        try:
            reply = self._answer(request)
        finally:
            self._state.log.add(
                CloudBuildRequest(
                    method=call.method if call else "",
                    http_method=request.method,
                    path=request.full_path.rstrip("?"),
                    body=request.get_data().decode(errors="replace"),
                    time=time,
                    status=reply.status,
                    answer=reply.body.decode(errors="replace"),
                )
            )
        response = Response(reply.body, reply.status, content_type=reply.content_type)
        if reply.is_cut:
            return truncated(request.environ, response)
        compress(request, response)
        return response

    def _answer(self, request: Request) -> Reply:
        known = request.headers.get("Authorization", "").startswith("Bearer fake:")
        if self._state.strict_auth and not known:
            return refused(unauthenticated())
        query = request.args.to_dict()
        return self._exchange.answer(request.method, request.path, query, request.get_data(), self._wait)

    def _wait(self, seconds: float) -> None:
        self._state.stopping.wait(seconds)
