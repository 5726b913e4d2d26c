"""The control endpoint of the Buildbucket server: what tests and tools in other processes may switch, as JSON over HTTP."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from emulator.buildbucket.faults import Canned, Fault
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.instants import parse_duration
from emulator.buildbucket.notifications import NotificationFault
from emulator.buildbucket.plans import announce_from_json, outcome_from_json, plan_from_json
from emulator.buildbucket.v2_build import build_to_json
from emulator.serving.local_server import control_body

if TYPE_CHECKING:
    from emulator.buildbucket.server import BuildbucketServer

__all__ = ["Control"]

_FAULT_EFFECTS = frozenset({"error", "http", "html", "slow", "cut", "cut_body"})
_NOTIFICATION_EFFECTS = frozenset(
    {"drop", "duplicate", "delay", "hold", "wrong_token", "missing_token", "foreign_token"}
)
_Handler = Callable[[Mapping[str, Any]], Any]


class Control:
    """Answers requests below ``/control/``; everything it does the server's own methods do, too.

    Success is 200 with JSON, what cannot be read 400, an unknown path 404, what a page sends 403, a body that is not declared to
    be JSON 415; errors are ``{"error": "..."}``.
    """

    def __init__(self, server: BuildbucketServer) -> None:
        self._server = server
        self._handlers: dict[tuple[str, str], _Handler] = {
            ("GET", "status"): self._status,
            ("GET", "requests"): lambda _body: [dataclasses.asdict(record) for record in server.requests],
            ("DELETE", "requests"): lambda _body: server.clear_requests(),
            ("GET", "faults"): lambda _body: [dataclasses.asdict(fault) for fault in server.faults.active()],
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): lambda _body: server.faults.clear(),
            ("POST", "notifications"): self._add_notification_fault,
            ("DELETE", "notifications"): lambda _body: server.notifier.clear_faults(),
            ("POST", "plans"): lambda body: server.plans.set(str(body["builder"]), plan_from_json(body["plan"])),
            ("DELETE", "plans"): lambda _body: server.plans.clear(),
            ("POST", "responses"): self._script_response,
            ("POST", "builders"): lambda body: server.add_builder(
                BuilderId(body["project"], body["bucket"], body["builder"])
            ),
            ("POST", "buckets"): self._set_bucket,
            ("POST", "settings"): self._set,
            ("POST", "run_due"): lambda _body: {"count": server.run_due()},
            ("GET", "builds"): self._builds,
        }

    def __call__(self, request: Request, path: str) -> Response:
        """Answer one request."""
        try:
            body = control_body(request)
            handler = self._handlers.get((request.method, path)) or self._build_handler(request.method, path)
            if handler is None:
                return _reply({"error": f"no {request.method} /control/{path}"}, 404)
            result = handler(body)
        except HTTPException as error:
            return _reply({"error": error.description}, error.code or 400)
        except (KeyError, TypeError, ValueError) as error:
            return _reply({"error": f"{type(error).__name__}: {error}"}, 400)
        return _reply({} if result is None else result, 200)

    def _build_handler(self, method: str, path: str) -> _Handler | None:
        parts = path.split("/")
        if method != "POST" or parts[0] != "builds" or parts[-1] not in {"start", "end"}:
            return None
        _, identifier, action = parts
        return lambda body: self._move(int(identifier), action, body)

    def _move(self, build_id: int, action: str, body: Mapping[str, Any]) -> dict[str, bool]:
        announce = announce_from_json(body.get("announce"))
        if action == "start":
            return {"changed": self._server.start_build(build_id, announce=announce) is not None}
        return {"changed": self._server.end_build(build_id, outcome_from_json(body), announce=announce) is not None}

    def _status(self, _body: Mapping[str, Any]) -> dict[str, Any]:
        return {"now": self._server.clock.now(), "responses_left": self._server.responses_left()}

    def _builds(self, _body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [build_to_json(build, self._server.hostname) for build in self._server.builds.newest_first()]

    def _add_fault(self, body: Mapping[str, Any]) -> None:
        if body["effect"] not in _FAULT_EFFECTS or body.get("when", "before") not in {"before", "after"}:
            raise ValueError(f"no such fault: {body}")
        self._server.faults.add(Fault(**body))

    def _add_notification_fault(self, body: Mapping[str, Any]) -> None:
        if body["effect"] not in _NOTIFICATION_EFFECTS:
            raise ValueError(f"no such fault: {body}")
        values = dict(body)
        if body["effect"] == "delay":
            values["value"] = parse_duration(str(body["value"]))
        self._server.notifier.add_fault(NotificationFault(**values))

    def _script_response(self, body: Mapping[str, Any]) -> None:
        answer = Canned(
            body.get("body", {}), int(body.get("status", 200)), dict(body.get("headers", {})), body.get("code")
        )
        self._server.script_response(str(body["method"]), answer)

    def _set_bucket(self, body: Mapping[str, Any]) -> None:
        if body["closed"]:
            allowed = frozenset(body.get("allowed", []))
            self._server.registry.close_bucket(str(body["bucket"]), visible=bool(body.get("visible")), allowed=allowed)
        else:
            self._server.registry.open_bucket(str(body["bucket"]))

    def _set(self, body: Mapping[str, Any]) -> None:
        unknown = body.keys() - {
            "strict_builders",
            "strict_auth",
            "request_id_memory",
            "legacy_notifications",
            "forget_request_ids",
        }
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        server = self._server
        if "strict_builders" in body:
            server.registry.strict = bool(body["strict_builders"])
        if "strict_auth" in body:
            server.strict_auth = bool(body["strict_auth"])
        if "legacy_notifications" in body:
            server.notifier.legacy_format = bool(body["legacy_notifications"])
        if "request_id_memory" in body:
            memory = body["request_id_memory"]
            server.request_id_memory = None if memory is None else parse_duration(memory)
        if body.get("forget_request_ids"):
            server.builds.forget_keys()


def _reply(body: object, status: int) -> Response:
    return Response(json.dumps(body, default=str), status, content_type="application/json")
