"""The v2 API over HTTP: pRPC calls, prepared responses and faults."""

from __future__ import annotations

import random
from collections.abc import Mapping

from werkzeug.wrappers import Request, Response

from emulator.buildbucket import prpc
from emulator.buildbucket.canned import CannedResponse
from emulator.buildbucket.identifiers import ANONYMOUS
from emulator.buildbucket.injection import FaultInjector
from emulator.buildbucket.service import Service
from emulator.buildbucket.state import BuildbucketState
from emulator.buildbucket.v2 import BuildsV2
from luci_scheduler.core.instants import SECOND

__all__ = ["V2Endpoint"]

_SERVICE = "buildbucket.v2.Builds"


class V2Endpoint:
    """Handles requests below ``/prpc/``."""

    def __init__(self, service: Service, state: BuildbucketState, app_id: str, spacing: random.Random) -> None:
        self._builds = BuildsV2(service, app_id)
        self._state = state
        self._faults = FaultInjector(state)
        self._spacing = spacing

    def handle(self, request: Request, service: str, method: str, caller: str) -> Response:
        """Handle one call."""
        try:
            call = prpc.parse(request, service, method)
        except prpc.RpcError as error:
            return prpc.failure(error)
        timeout = None if call.timeout is None else call.timeout / SECOND
        return self._faults.run(request, call.method, lambda: self._respond(call, caller), timeout=timeout)

    def _respond(self, call: prpc.Call, caller: str) -> Response:
        try:
            return self._call(call, caller)
        except prpc.RpcError as error:
            return prpc.failure(error)

    def _call(self, call: prpc.Call, caller: str) -> Response:
        if call.service != _SERVICE:
            raise prpc.RpcError(prpc.UNIMPLEMENTED, f"no service {call.service}")
        if self._state.strict_auth and caller == ANONYMOUS:
            raise prpc.RpcError(prpc.UNAUTHENTICATED, "bad credentials")
        if call.method in self._state.canned.left():
            # A malformed request gets its error and uses up no prepared response.
            self._builds.check(call.method, call.message)
            if (canned := self._state.canned.take(call.method)) is not None:
                return self._canned_response(call, canned)
        return prpc.success(call, self._builds.call(call.method, call.message, caller), self._spacing)

    def _canned_response(self, call: prpc.Call, canned: CannedResponse) -> Response:
        if canned.code is not None:
            response = prpc.failure(prpc.RpcError(canned.code, str(canned.body)))
            response.headers.update(canned.headers)
            return response
        if not isinstance(canned.body, Mapping):
            return Response(canned.body, canned.status, dict(canned.headers))
        response = prpc.success(call, canned.body, self._spacing)
        response.headers.update(canned.headers)
        return response
