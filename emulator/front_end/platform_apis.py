"""Google's servers that the functions read: the Run Admin API, and the keys of IAP's assertions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from werkzeug.datastructures import Headers

from emulator.front_end.authority import Authority
from emulator.front_end.exchange import Answer, Message
from emulator.front_end.services import INVOKER, Service, Services

__all__ = ["IAP_KEYS", "PlatformApis"]

IAP_KEYS = "/iap/verify/public_key"
_NAME = re.compile(r"/v2/(projects/[^/]+/locations/([^/]+)/services/([^/:]+))(:getIamPolicy)?")
_STATUSES = {404: "NOT_FOUND", 405: "UNIMPLEMENTED", 403: "PERMISSION_DENIED", 500: "INTERNAL", 503: "UNAVAILABLE"}


class PlatformApis:
    """Serves the state of the services, read only.

    Attributes:
        failing: a status code with which the Run Admin API answers every request; 0: it works.
        reads: the number of requests to the Run Admin API.
    """

    def __init__(self, services: Services, authority: Authority) -> None:
        self._services = services
        self._authority = authority
        self.failing = 0
        self.reads = 0

    def __call__(self, message: Message) -> Answer:
        """Answer a request."""
        path = message.target.partition("?")[0]
        if message.method not in ("GET", "HEAD"):
            return _error(405, "the local cloud serves only reads")
        if path == IAP_KEYS:
            return _json(200, self._authority.iap_keys())
        self.reads += 1
        if self.failing:
            return _error(self.failing, "a test made it fail")
        return self._run(path)

    def _run(self, path: str) -> Answer:
        match = _NAME.fullmatch(path)
        if match is None:
            return _error(404, f"there is no method for {path}")
        name, location, short, is_policy = match.groups()
        try:
            service = self._services.get(short)
        except KeyError:
            return _error(404, f"there is no service {name}")
        if location != self._services.location:
            return _error(404, f"there is no service {name}")
        return _json(200, json.dumps(_policy(service) if is_policy else _rendered(name, service)))


def _rendered(name: str, service: Service) -> Mapping[str, Any]:
    """Return the members of a Service that the local cloud knows; as in Google's answers, false ones are left out."""
    members = {
        "name": name,
        "uri": service.uri,
        "ingress": service.ingress.value,
        "customAudiences": list(service.custom_audiences),
        "invokerIamDisabled": service.invoker_iam_disabled,
        "iapEnabled": service.iap_enabled,
    }
    return {member: value for member, value in members.items() if value}


def _policy(service: Service) -> Mapping[str, Any]:
    """Return a Policy; a role without members has no binding."""
    bindings = [{"role": INVOKER, "members": sorted(service.invokers)}] if service.invokers else []
    return {"version": 1, "etag": "BwYlocal", "bindings": bindings}


def _error(status: int, text: str) -> Answer:
    error = {"code": status, "message": text, "status": _STATUSES.get(status, "UNKNOWN")}
    return _json(status, json.dumps({"error": error}))


def _json(status: int, body: str) -> Answer:
    return Answer(status, Headers({"Content-Type": "application/json; charset=UTF-8"}), body.encode())
