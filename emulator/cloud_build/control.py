"""The control endpoint of the Cloud Build server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from emulator.building.wire_time import parse_duration
from emulator.cloud_build.faults import fault_from_json
from emulator.cloud_build.notifications import notification_fault_from_json
from emulator.cloud_build.plans import change_from_json, rule_from_json
from emulator.cloud_build.service import Service
from emulator.cloud_build.state import CloudBuildState
from emulator.cloud_build.triggers import trigger_from_json
from emulator.serving.control import ControlEndpoint, Handler, state_handlers

__all__ = ["Control"]

_SETTINGS = frozenset({"list_lag", "strict_auth", "topic_missing"})


class Control:
    """Handles requests below ``/control/`` with the methods that the server offers in this process."""

    def __init__(self, service: Service, state: CloudBuildState) -> None:
        self._service = service
        self._state = state
        self._handlers: dict[tuple[str, str], Handler] = {
            **state_handlers(state),
            ("GET", "status"): lambda _body: {"now": service.clock.now(), "lost": service.notifier.lost},
            ("POST", "faults"): lambda body: state.faults.add(fault_from_json(dict(body))),
            ("POST", "notifications"): lambda body: service.notifier.add_fault(notification_fault_from_json(body)),
            ("DELETE", "notifications"): lambda _body: service.notifier.clear_faults(),
            ("POST", "plans"): lambda body: service.plans.add(rule_from_json(body)),
            ("DELETE", "plans"): lambda _body: service.plans.clear(),
            ("POST", "triggers"): lambda body: service.triggers.add(trigger_from_json(body)),
            ("DELETE", "triggers"): lambda _body: service.triggers.clear(),
            ("POST", "settings"): self._set,
            ("POST", "run_due"): lambda _body: {"count": service.timeline.run_due()},
            ("GET", "builds"): lambda _body: [dict(build.body) for build in service.store.newest_first()],
            ("GET", "ledger"): self._ledger,
        }
        self._endpoint = ControlEndpoint(self._find)

    def __call__(self, request: Request, path: str) -> Response:
        """Handle a request; ``path`` is the part after ``/control/``."""
        return self._endpoint(request, path)

    def _find(self, method: str, path: str) -> Handler | None:
        return self._handlers.get((method, path)) or self._build_handler(method, path)

    def _build_handler(self, method: str, path: str) -> Handler | None:
        """Return the handler of ``builds/<id>/change``, ``builds/<id>/approve`` and ``builds/<id>/reject``."""
        parts = path.split("/")
        if method != "POST" or len(parts) != 3 or parts[0] != "builds":  # noqa: PLR2004 - builds, ID, action
            return None
        _, build_id, action = parts
        life_cycle = self._service.life_cycle
        if action == "change":
            return lambda body: {"changed": life_cycle.change(build_id, change_from_json(body)) is not None}
        if action in ("approve", "reject"):
            approved = action == "approve"
            return lambda body: {
                "changed": life_cycle.decide(build_id, approved=approved, comment=str(body.get("comment", "")))
                is not None
            }
        return None

    def _ledger(self, _body: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
        found = self._service.store.by_invocation()
        return {
            invocation: [{"id": build.id, "status": build.status} for build in builds]
            for invocation, builds in found.items()
        }

    def _set(self, body: Mapping[str, Any]) -> None:
        unknown = body.keys() - _SETTINGS
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        if "list_lag" in body:
            self._service.list_lag = parse_duration(str(body["list_lag"]))
        if "strict_auth" in body:
            self._state.strict_auth = bool(body["strict_auth"])
        if "topic_missing" in body:
            self._service.notifier.topic_missing = bool(body["topic_missing"])
