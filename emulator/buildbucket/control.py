"""The control endpoint of the Buildbucket server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from werkzeug.wrappers import Request, Response

from emulator.buildbucket.canned import CannedResponse
from emulator.buildbucket.faults import Effect, Fault
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.notifications import NotificationEffect, NotificationFault
from emulator.buildbucket.plans import announce_from_json, outcome_from_json, plan_from_json
from emulator.buildbucket.service import Service
from emulator.buildbucket.state import BuildbucketState
from emulator.buildbucket.v2_build import build_to_json
from emulator.building.wire_time import parse_duration
from emulator.serving.control import ControlEndpoint, Handler, state_handlers

__all__ = ["Control"]

_SETTINGS = frozenset(
    {"strict_builders", "strict_auth", "request_id_memory", "legacy_notifications", "forget_request_ids"}
)


class Control:
    """Handles requests below ``/control/`` with the methods that the server offers in this process."""

    def __init__(self, service: Service, state: BuildbucketState) -> None:
        self._service = service
        self._state = state
        self._handlers: dict[tuple[str, str], Handler] = {
            **state_handlers(state),
            ("GET", "status"): self._status,
            ("POST", "faults"): self._add_fault,
            ("POST", "notifications"): self._add_notification_fault,
            ("DELETE", "notifications"): lambda _body: service.notifier.clear_faults(),
            ("POST", "plans"): lambda body: service.plans.set(str(body["builder"]), plan_from_json(body["plan"])),
            ("DELETE", "plans"): lambda _body: service.plans.clear(),
            ("POST", "responses"): self._add_response,
            ("POST", "builders"): self._add_builder,
            ("POST", "buckets"): self._set_bucket,
            ("POST", "settings"): self._set,
            ("POST", "run_due"): lambda _body: {"count": service.timeline.run_due()},
            ("GET", "builds"): self._builds,
        }
        self._endpoint = ControlEndpoint(self._find)

    def __call__(self, request: Request, path: str) -> Response:
        """Handle a request; ``path`` is the part after ``/control/``."""
        return self._endpoint(request, path)

    def _find(self, method: str, path: str) -> Handler | None:
        return self._handlers.get((method, path)) or self._build_handler(method, path)

    def _build_handler(self, method: str, path: str) -> Handler | None:
        """Return the handler of ``builds/<id>/start`` and ``builds/<id>/end``."""
        parts = path.split("/")
        if method != "POST" or parts[0] != "builds" or parts[-1] not in {"start", "end"}:
            return None
        _, identifier, action = parts
        return lambda body: self._move(int(identifier), action, body)

    def _move(self, build_id: int, action: str, body: Mapping[str, Any]) -> dict[str, bool]:
        life_cycle = self._service.life_cycle
        announce = announce_from_json(body.get("announce"))
        if action == "start":
            return {"changed": life_cycle.start(build_id, announce=announce) is not None}
        return {"changed": life_cycle.end(build_id, outcome_from_json(body), announce=announce) is not None}

    def _status(self, _body: Mapping[str, Any]) -> dict[str, Any]:
        return {"now": self._service.clock.now(), "responses_left": self._state.canned.left()}

    def _builds(self, _body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [build_to_json(build, self._service.hostname) for build in self._service.store.newest_first()]

    def _add_builder(self, body: Mapping[str, Any]) -> None:
        self._service.registry.add(BuilderId(body["project"], body["bucket"], body["builder"]))

    def _add_fault(self, body: Mapping[str, Any]) -> None:
        if body["effect"] not in get_args(Effect) or body.get("when", "before") not in {"before", "after"}:
            raise ValueError(f"no such fault: {body}")
        self._state.faults.add(Fault(**body))

    def _add_notification_fault(self, body: Mapping[str, Any]) -> None:
        if body["effect"] not in get_args(NotificationEffect):
            raise ValueError(f"no such fault: {body}")
        values = dict(body)
        if body["effect"] == "delay":
            values["value"] = parse_duration(str(body["value"]))
        self._service.notifier.add_fault(NotificationFault(**values))

    def _add_response(self, body: Mapping[str, Any]) -> None:
        response = CannedResponse(
            body.get("body", {}), int(body.get("status", 200)), dict(body.get("headers", {})), body.get("code")
        )
        self._state.canned.add(str(body["method"]), response)

    def _set_bucket(self, body: Mapping[str, Any]) -> None:
        registry = self._service.registry
        if body["closed"]:
            allowed = frozenset(body.get("allowed", []))
            registry.close_bucket(str(body["bucket"]), visible=bool(body.get("visible")), allowed=allowed)
        else:
            registry.open_bucket(str(body["bucket"]))

    def _set(self, body: Mapping[str, Any]) -> None:
        unknown = body.keys() - _SETTINGS
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        service = self._service
        if "strict_builders" in body:
            service.registry.strict = bool(body["strict_builders"])
        if "strict_auth" in body:
            self._state.strict_auth = bool(body["strict_auth"])
        if "legacy_notifications" in body:
            service.notifier.legacy_format = bool(body["legacy_notifications"])
        if "request_id_memory" in body:
            memory = body["request_id_memory"]
            service.request_id_memory = None if memory is None else parse_duration(memory)
        if body.get("forget_request_ids"):
            service.store.forget_keys()
