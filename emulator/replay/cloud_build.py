"""Cloud Build in a replay: the cloud's client, over HTTP without a socket, and the scenario's answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from werkzeug.wrappers import Request, Response

from emulator.replay.answers import Reply, code_name
from emulator.replay.buildbucket import WsgiAdapter
from luci_scheduler.adapters.cloud_build import CloudBuildClient
from luci_scheduler.ports import Clock, CloudBuild

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["CloudBuildRequest", "ScriptedCloudBuild"]

_URL = "http://cloudbuild.replay.invalid"
_PATH = re.compile(
    r"/v1/projects/[^/]+/locations/[^/]+/(?P<collection>[a-z]+)(?:/(?P<id>[^/:]+))?(?::(?P<verb>[a-z]+))?"
)
_STATUSES = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ABORTED": 409, "ALREADY_EXISTS": 409, "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
"""gRPC code → HTTP status, as Google's APIs have it; 500 for any other code."""


@dataclass(frozen=True, slots=True)
class CloudBuildRequest:
    """A request to Cloud Build."""

    method: str
    """Such as ``builds.create``."""
    path: str
    query: str
    body: Any
    """The message; None without one."""


class ScriptedCloudBuild:
    """A Cloud Build that gives the scenario's answers; ``next_reply`` takes the next answer for a method."""

    def __init__(self, next_reply: Callable[[str], Reply | None]) -> None:
        self._next_reply = next_reply
        self._requests: list[CloudBuildRequest] = []

    @property
    def requests(self) -> tuple[CloudBuildRequest, ...]:
        """The requests so far, in order."""
        return tuple(self._requests)

    def client(self, clock: Clock) -> CloudBuild:
        """Return the client of the functions."""
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", WsgiAdapter(self))
        return CloudBuildClient(_URL, lambda: session, clock)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request.

        Raises:
            ConnectionAbortedError: the scenario says that the answer is lost.
        """
        request = Request(environ)
        method, data = _method(request), request.get_data()
        query = request.query_string.decode()
        self._requests.append(CloudBuildRequest(method, request.path, query, json.loads(data) if data else None))
        return _response(self._next_reply(method))(environ, start_response)


def _method(request: Request) -> str:
    """Return the name of the API's method, such as ``builds.create`` or ``triggers.run``."""
    found = _PATH.fullmatch(request.path)
    if found is None:
        return request.path
    of_collection = "list" if request.method == "GET" else "create"
    return f"{found['collection']}.{found['verb'] or ('get' if found['id'] else of_collection)}"


def _response(reply: Reply | None) -> Response:
    if reply is None or reply.is_own:
        return _json({}, 200)
    if reply.lost:
        raise ConnectionAbortedError("the answer is lost")
    if reply.http is not None:
        return Response(reply.text, reply.http, reply.headers, mimetype="text/html")
    if reply.code is None:
        return _json(reply.reply, 200, reply.headers)
    name = code_name(reply.code)
    status = _STATUSES.get(name, 500)
    text = reply.text or "The service has failed to handle this request."
    return _json({"error": {"code": status, "message": text, "status": name}}, status, reply.headers)


def _json(document: Any, status: int, headers: Any = None) -> Response:
    return Response(json.dumps(document), status, headers, mimetype="application/json")
