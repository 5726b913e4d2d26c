"""The Buildbucket server's HTTP side: which path is which method, who calls, faults, and the request log."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from emulator.buildbucket import prpc
from emulator.buildbucket.faults import Canned, CannedAnswers, Fault, Faults, RequestLog, RequestRecord
from emulator.buildbucket.pages import build_page
from emulator.buildbucket.partial import PartialError, select_fields
from emulator.buildbucket.service import Service
from emulator.buildbucket.v1 import BuildsV1, ForbiddenV1, error_body
from emulator.buildbucket.v1_requests import BadRequest, Refused, parse_put
from emulator.buildbucket.v2 import BuildsV2
from emulator.serving.local_server import compress, cut_after, cut_connection

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["BuildbucketApp"]

_V1 = "/_ah/api/buildbucket/v1"
_V1_TYPE = "application/json; charset=utf-8"
_SERVICE = "buildbucket.v2.Builds"
_RULES = Map(
    [
        Rule("/prpc/<service>/<method>", endpoint="prpc"),
        Rule("/auth/api/v1/server/info", endpoint="info", methods=["GET"]),
        Rule("/build/<build_id>", endpoint="page", methods=["GET"]),
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
_FRONT_END_PAGE = (
    "<html><head><title>{status} Server Error</title></head><body text=#000000 bgcolor=#ffffff><h1>Error: Server Error</h1>"
    "<h2>The server encountered a temporary error and could not complete your request.</h2></body></html>"
)


class _Cut(Exception):  # noqa: N818 - an instruction, not an error
    """The connection is to be closed without an answer."""


class BuildbucketApp:
    """The WSGI application. ``control`` serves everything below ``/control/``; setting ``stopping`` ends slow answers early."""

    def __init__(
        self,
        service: Service,
        app_id: str,
        service_account: str,
        control: Callable[[Request, str], Response],
        entropy: random.Random,
    ) -> None:
        self._service = service
        self._v1 = BuildsV1(service)
        self._v2 = BuildsV2(service, app_id)
        self._info = {
            "app_id": app_id,
            "app_runtime": "python",
            "app_runtime_version": "python3",
            "app_version": "local",
            "service_account_name": service_account,
        }
        self._control = control
        self._entropy = entropy
        self.faults = Faults()
        self.canned = CannedAnswers()
        self.log = RequestLog()
        self.strict_auth = False
        self.stopping = threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = Request(environ)
        try:
            endpoint, arguments = _RULES.bind_to_environ(environ).match()
            response = self._dispatch(request, endpoint, arguments)
        except HTTPException as error:
            response = error.get_response(environ)
        except _Cut:
            cut_connection(environ)
        return response(environ, start_response)

    def _dispatch(self, request: Request, endpoint: str, arguments: Mapping[str, Any]) -> Response:
        if endpoint == "control":
            return self._control(request, arguments["path"])
        if endpoint == "info":
            return _json_response(self._info, 200)
        if endpoint == "page":
            build = self._service.store.get(int(arguments["build_id"])) if arguments["build_id"].isdecimal() else None
            return (
                Response("build not found\n", 404)
                if build is None
                else Response(build_page(build), mimetype="text/html")
            )
        method = arguments["method"] if endpoint == "prpc" else endpoint
        time, status, answer = self._service.clock.now(), 0, ""
        caller = ""
        try:
            caller = self._caller(request)
            response = (
                self._prpc(request, arguments, caller)
                if endpoint == "prpc"
                else self._rest(request, method, arguments, caller)
            )
            status, answer = response.status_code, "" if response.is_streamed else response.get_data(as_text=True)
        finally:
            body = request.get_data().decode(errors="replace")
            headers = dict(request.headers.items())
            self.log.add(
                RequestRecord(
                    method, caller, request.method, request.full_path.rstrip("?"), body, time, status, answer, headers
                )
            )
        compress(request, response)
        return response

    def _caller(self, request: Request) -> str:
        """Return the identity behind a request: ``Bearer fake:<email>`` is that user's, anything else is nobody's.

        After ``fake:`` a whole identity may stand as well, such as ``project:tint``.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.startswith("fake:"):
            identity = token.removeprefix("fake:")
            return identity if ":" in identity else f"user:{identity}"
        return "anonymous:anonymous"

    def _authenticated(self, caller: str) -> bool:
        return not (self.strict_auth and caller == "anonymous:anonymous")

    def _prpc(self, request: Request, arguments: Mapping[str, Any], caller: str) -> Response:
        try:
            call = prpc.parse(request, arguments["service"], arguments["method"])
        except prpc.RpcError as error:
            return prpc.failure(error)
        timeout = None if call.timeout is None else call.timeout / 1e9

        def work() -> Response:
            try:
                return self._call_v2(call, caller)
            except prpc.RpcError as error:
                return prpc.failure(error)

        return self._with_faults(request, call.method, work, timeout)

    def _call_v2(self, call: prpc.Call, caller: str) -> Response:
        if call.service != _SERVICE:
            raise prpc.RpcError(prpc.UNIMPLEMENTED, f"no service {call.service}")
        if not self._authenticated(caller):
            raise prpc.RpcError(prpc.UNAUTHENTICATED, "bad credentials")
        canned = self._canned_after(call.method, lambda: self._v2.check(call.method, call.message))
        if canned is None:
            return prpc.success(call, self._v2.call(call.method, call.message, caller), self._entropy)
        if canned.code is not None:
            raise prpc.RpcError(canned.code, str(canned.body))
        if isinstance(canned.body, Mapping):
            return _with_headers(prpc.success(call, canned.body, self._entropy), canned.headers)
        return Response(canned.body, canned.status, dict(canned.headers))

    def _rest(self, request: Request, method: str, arguments: Mapping[str, Any], caller: str) -> Response:
        def work() -> Response:
            try:
                if not self._authenticated(caller):
                    return _json_response({"error": {"message": "Invalid credentials"}}, 401)
                reply = self._call_v1(request, method, arguments, caller)
                if isinstance(reply, Response):
                    return reply
                if request.args.get("fields"):
                    reply = select_fields(reply, request.args["fields"])
            except Refused as error:
                return _json_response(error_body(error), 200)
            except (BadRequest, PartialError) as error:
                return _json_response({"error": {"message": str(error)}}, 400)
            except ForbiddenV1 as error:
                return _json_response({"error": {"message": str(error)}}, 403)
            return _json_response(reply, 200)

        return self._with_faults(request, method, work, None)

    def _call_v1(
        self, request: Request, method: str, arguments: Mapping[str, Any], caller: str
    ) -> dict[str, Any] | Response:
        build_id = arguments.get("build_id", "")
        body = _body(request) if request.method in {"PUT", "POST"} else None

        def check() -> None:
            if method == "v1.put":
                parse_put(body)
            elif build_id and not build_id.isdecimal():
                raise BadRequest(f"Invalid value for field id: {build_id}")

        canned = self._canned_after(method, check)
        if canned is not None:
            if isinstance(canned.body, Mapping):
                return _with_headers(_json_response(canned.body, canned.status), canned.headers)
            return Response(canned.body, canned.status, dict(canned.headers))
        methods: dict[str, Callable[[], dict[str, Any]]] = {
            "v1.put": lambda: self._v1.put(body, caller),
            "v1.put_batch": lambda: self._v1.put_batch(body, caller),
            "v1.get": lambda: self._v1.get(build_id, caller),
            "v1.cancel": lambda: self._v1.cancel(build_id, body, caller),
            "v1.cancel_batch": lambda: self._v1.cancel_batch(body, caller),
            "v1.retry": lambda: self._v1.retry(build_id, body, caller),
            "v1.search": lambda: self._v1.search(request.args, caller),
            "v1.get_bucket": lambda: self._v1.get_bucket(arguments["bucket"], caller),
        }
        return methods[method]()

    def _canned_after(self, method: str, check: Callable[[], None]) -> Canned | None:
        """Return the next made-up answer, once the request has been found well-formed (the check raises if it is not)."""
        if method not in self.canned.left():
            return None
        check()
        return self.canned.take(method)

    def _with_faults(
        self, request: Request, method: str, work: Callable[[], Response], timeout: float | None
    ) -> Response:
        faults = self.faults.take(method, request.get_data().decode(errors="replace"))
        is_prpc = not method.startswith("v1.")
        for fault in faults:
            if fault.when == "before" and (spoilt := self._spoil(fault, timeout, is_prpc=is_prpc)) is not None:
                return spoilt
        response = work()
        for fault in faults:
            if fault.effect == "cut_body":
                response = _half(request, response)
            elif fault.when == "after" and (spoilt := self._spoil(fault, timeout, is_prpc=is_prpc)) is not None:
                return spoilt
        return response

    def _spoil(self, fault: Fault, timeout: float | None, *, is_prpc: bool) -> Response | None:
        """Return what a fault answers instead; None if the call goes on."""
        if fault.effect == "cut":
            raise _Cut
        if fault.effect == "slow":
            late = timeout is not None and fault.seconds >= timeout
            self.stopping.wait(timeout if late else fault.seconds)
            return prpc.failure(prpc.RpcError(prpc.DEADLINE_EXCEEDED, "too slow")) if late and is_prpc else None
        if fault.effect == "html":
            return Response(
                _FRONT_END_PAGE.format(status=fault.status), fault.status, content_type="text/html; charset=UTF-8"
            )
        if fault.effect == "http":
            return Response(fault.body, fault.status, content_type="text/plain; charset=utf-8")
        if fault.effect == "error":
            error = prpc.RpcError(fault.code, fault.message)
            return (
                prpc.failure(error) if is_prpc else _json_response({"error": {"message": fault.message}}, error.status)
            )
        return None


def _half(request: Request, response: Response) -> Response:
    """Return a response that promises its whole length and breaks off half-way."""
    body = response.get_data()
    headers = response.headers.copy()
    headers["Content-Length"] = str(len(body))
    return Response(cut_after(request.environ, body), response.status_code, headers)


def _body(request: Request) -> Any:
    data = request.get_data()
    try:
        return json.loads(data) if data else {}
    except ValueError as error:
        raise BadRequest(f"Request decoding failed: {error}") from error


def _json_response(body: Mapping[str, Any], status: int) -> Response:
    return Response(json.dumps(body, sort_keys=True, indent=1), status, content_type=_V1_TYPE)


def _with_headers(response: Response, headers: Mapping[str, str]) -> Response:
    response.headers.update(headers)
    return response
