"""The control endpoint: tests and tools in other processes inject faults, make commits and read the requests."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from emulator.errors import LocalCloudError
from emulator.github.deliveries import Webhook
from emulator.github.faults import EFFECTS, GitHubFault
from emulator.github.service import GitHubService
from emulator.gitiles.refs import Push, RefChange
from emulator.serving.control import Handler, state_handlers

__all__ = ["handlers"]

_HASH = re.compile(r"[0-9a-f]{40}")
_RATES = frozenset({"requests", "anonymous", "points", "writes_minute", "writes_hour"})
_SETTINGS = _RATES | {"refs_per_page", "strict_auth"}


def handlers(service: GitHubService) -> dict[tuple[str, str], Handler]:
    """Return the handler of each method and path below ``/control/``."""
    state = service.state
    control = _Control(service)
    return {
        **state_handlers(state),
        ("GET", "status"): lambda _body: {},
        ("POST", "faults"): control.add_fault,
        ("POST", "hidden"): lambda body: state.faults.hide(str(body["commit"]), body.get("times")),
        ("DELETE", "hidden"): lambda body: state.faults.reveal(str(body["commit"])),
        ("POST", "held"): lambda body: service.hold_refs(str(body["repository"]), body.get("times")),
        ("POST", "settings"): control.set,
        ("GET", "quota"): lambda _body: {"used": state.meter.used(), **dataclasses.asdict(state.rates)},
        ("DELETE", "quota"): lambda _body: state.meter.reset(),
        ("DELETE", "tokens"): lambda _body: state.tokens.revoke(),
        ("POST", "rename"): lambda body: service.rename(str(body["repository"]), str(body["to"])),
        ("POST", "commits"): control.commit,
        ("POST", "refs"): control.move_ref,
        ("POST", "webhook"): control.set_webhook,
        ("DELETE", "webhook"): lambda _body: setattr(state.deliveries, "webhook", None),
        ("POST", "ping"): lambda _body: service.send_ping(),
        ("POST", "push"): control.push,
        ("POST", "redeliver"): lambda body: state.deliveries.redeliver(str(body["delivery"])),
        ("GET", "deliveries"): lambda _body: [dataclasses.asdict(one) for one in state.deliveries.all()],
        ("DELETE", "deliveries"): lambda _body: state.deliveries.clear(),
        ("GET", "statuses"): lambda _body: state.statuses.exported(),
        ("DELETE", "statuses"): lambda _body: state.statuses.clear(),
    }


class _Control:
    """The handlers that need more than one line. A body that they cannot use raises `ValueError` or `KeyError`."""

    def __init__(self, service: GitHubService) -> None:
        self._service = service
        self._state = service.state

    def add_fault(self, body: Mapping[str, Any]) -> None:
        """Add a fault from the fields of `GitHubFault`."""
        if body["effect"] not in EFFECTS:
            raise ValueError(f"no such fault: {body}")
        self._state.faults.add(GitHubFault(**body))

    def set(self, body: Mapping[str, Any]) -> None:
        """Change settings: the limits of `RateLimits`, ``refs_per_page`` and ``strict_auth``."""
        if body.keys() - _SETTINGS:
            raise ValueError(f"unknown settings: {sorted(body.keys() - _SETTINGS)}")
        for name in body.keys() & _RATES:
            setattr(self._state.rates, name, int(body[name]))
        self._state.refs_per_page = int(body.get("refs_per_page", self._state.refs_per_page))
        self._state.strict_auth = bool(body.get("strict_auth", self._state.strict_auth))

    def set_webhook(self, body: Mapping[str, Any]) -> None:
        """Set the webhook: its ``url`` and its ``secret``."""
        self._state.deliveries.webhook = Webhook(str(body["url"]), str(body["secret"]))

    def commit(self, body: Mapping[str, Any]) -> dict[str, str]:
        """Make a commit on a branch and push it: ``repository``, ``branch``, ``message``, ``files``, ``parents``."""
        files = body.get("files") or {}
        if any(not isinstance(text, str | None) for text in files.values()):
            raise ValueError("files: contents by path, null to delete")
        name, branch = str(body["repository"]), str(body.get("branch") or "main")
        message = f"{str(body['message']).rstrip()}\n"
        try:
            return {"commit": self._service.commit(name, branch, message, files, body.get("parents"))}
        except LocalCloudError as error:
            raise ValueError(str(error)) from error

    def move_ref(self, body: Mapping[str, Any]) -> None:
        """Push a ref by force: ``repository``, ``ref``, ``revision`` (empty: delete the ref)."""
        try:
            self._service.move_ref(str(body["repository"]), str(body["ref"]), str(body["revision"]))
        except LocalCloudError as error:
            raise ValueError(str(error)) from error

    def push(self, body: Mapping[str, Any]) -> dict[str, list[str]]:
        """Send the webhook of a made-up push: ``repository``, ``ref``, and ``before`` and ``after`` (may be empty)."""
        service, name = self._service, str(body["repository"])
        found = service.names.find(name)
        if found is None:
            raise ValueError(f"no repository {name} on {service.site}")
        change = RefChange(str(body["ref"]), _hash(body, "before"), _hash(body, "after"))
        try:
            sent = service.send_push(Push(service.site, found.name, found.path, (change,)))
        except LocalCloudError as error:
            raise ValueError(str(error)) from error
        return {"deliveries": [delivery.id for delivery in sent]}


def _hash(body: Mapping[str, Any], name: str) -> str:
    """Return a hash of a control call; empty if it is left out."""
    text = str(body.get(name, ""))
    if text and not _HASH.fullmatch(text):
        raise ValueError(f"{name}: a full hash, or nothing")
    return text
