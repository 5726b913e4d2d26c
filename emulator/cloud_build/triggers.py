"""Triggers: build configs with a name, which a client runs at a commit."""

from __future__ import annotations

import threading
import tomllib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.cloud_build.builds import Place
from emulator.cloud_build.errors import CallError
from emulator.cloud_build.plans import Plan, plan_from_json
from emulator.cloud_build.shapes import check_shape
from emulator.errors import LocalCloudError

__all__ = ["FILE", "Trigger", "Triggers", "read_triggers", "trigger_from_json"]

FILE = "triggers.toml"
"""The name under which the file is found in the folder of a local cloud."""
_NAMESPACE = uuid.UUID("5d1c4b1e-6a6c-4d0e-8b7d-2f6f3a1f0c11")
_MEMBERS = frozenset(
    {"name", "id", "location", "repository", "ref", "substitutions", "tags", "steps", "approval", "disabled", "plan"}
    | {"service_account", "timeout"}
)
_STEPS = ({"name": "ubuntu", "script": "echo built"},)


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger; with a repository it is one for pushes, and needs a commit to run. Without one it is manual.

    Attributes:
        id: a UUID.
        location: its region, or ``global``.
        repository: the https address of the repository, or the name of a connected repository.
        ref: the branch or tag that a run without a revision builds; empty: such a run is refused.
        steps: the steps of its build config, as JSON.
        approval: whether its builds wait for approval.
        plan: the plan of its builds; None: the default.
    """

    name: str
    id: str
    location: str = "global"
    repository: str = ""
    ref: str = ""
    substitutions: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = _STEPS
    approval: bool = False
    disabled: bool = False
    service_account: str = ""
    timeout: str = ""
    plan: Plan | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the repository is a connected one."""
        return self.repository.startswith("projects/")

    def source(self, revision: str) -> dict[str, Any]:
        """Return the source of a build at a revision, as the member ``source``; empty without a repository."""
        if not self.repository:
            return {}
        if self.is_connected:
            return {"connectedRepository": {"repository": self.repository, "revision": revision}}
        return {"gitSource": {"url": self.repository, "revision": revision}}

    def to_json(self, place: Place, created: str) -> dict[str, Any]:
        """Return the message ``BuildTrigger``; its own push filter matches no branch."""
        found: dict[str, Any] = {
            "resourceName": place.name("triggers", self.id),
            "id": self.id,
            "name": self.name,
            "createTime": created,
            "disabled": self.disabled,
            "build": {"steps": [dict(step) for step in self.steps]},
        }
        if self.repository:
            found["repositoryEventConfig"] = {
                "repository": self.repository,
                "repositoryType": "GITHUB",
                "push": {"branch": "^none-of-them$"},
            }
        optional = {
            "substitutions": dict(self.substitutions),
            "tags": list(self.tags),
            "approvalConfig": {"approvalRequired": True} if self.approval else {},
            "serviceAccount": self.service_account,
        }
        return {**found, **{name: value for name, value in optional.items() if value}}


class Triggers:
    """The triggers of every project. Thread-safe."""

    def __init__(self, triggers: Iterable[Trigger] = ()) -> None:
        self._triggers: list[Trigger] = list(triggers)
        self._lock = threading.Lock()

    def add(self, trigger: Trigger) -> None:
        """Add a trigger; it replaces an earlier one with the same name and location."""
        with self._lock:
            others = [other for other in self._triggers if (other.name, other.location) != _key(trigger)]
            self._triggers = [*others, trigger]

    def clear(self) -> None:
        """Remove all triggers."""
        with self._lock:
            self._triggers = []

    def all(self) -> list[Trigger]:
        """Return all triggers."""
        with self._lock:
            return list(self._triggers)

    def find(self, place: Place, name: str) -> Trigger | None:
        """Return a trigger of a place by its name or ID."""
        here = (trigger for trigger in self.all() if trigger.location == place.location)
        return next((trigger for trigger in here if name in (trigger.name, trigger.id)), None)


def _key(trigger: Trigger) -> tuple[str, str]:
    return trigger.name, trigger.location


def trigger_from_json(value: Mapping[str, Any]) -> Trigger:
    """Parse a trigger: the attributes of `Trigger`, of which only ``name`` is required.

    Raises:
        ValueError: the JSON is not a trigger.
    """
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"a trigger needs a name, got {dict(value)!r}")
    unknown = value.keys() - _MEMBERS
    if unknown:
        raise ValueError(
            f'the trigger "{name}" has the unknown key "{min(unknown)}": use {", ".join(sorted(_MEMBERS))}'
        )
    location, steps = str(value.get("location", "global")), value.get("steps", list(_STEPS))
    _check_steps(name, steps)
    return Trigger(
        name=name,
        id=str(value.get("id") or uuid.uuid5(_NAMESPACE, f"{location}/{name}")),
        location=location,
        repository=str(value.get("repository", "")),
        ref=str(value.get("ref", "")),
        substitutions={str(key): str(text) for key, text in dict(value.get("substitutions", {})).items()},
        tags=tuple(str(tag) for tag in value.get("tags", ())),
        steps=tuple(dict(step) for step in steps),
        approval=bool(value.get("approval")),
        disabled=bool(value.get("disabled")),
        service_account=str(value.get("service_account", "")),
        timeout=str(value.get("timeout", "")),
        plan=plan_from_json(value["plan"]) if "plan" in value else None,
    )


def _check_steps(name: str, steps: object) -> None:
    try:
        check_shape("Build", {"steps": steps}, "")
    except CallError as error:
        raise ValueError(f'the steps of the trigger "{name}" are not valid: {error}') from error


def read_triggers(path: Path) -> list[Trigger]:
    """Read the file of triggers, in TOML: a table ``[triggers.NAME]`` for each.

    Raises:
        LocalCloudError: the file cannot be read, or is not valid.
    """
    try:
        return _triggers(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise LocalCloudError(f"{path} cannot be read: {error.strerror}") from error
    except (TypeError, ValueError) as error:
        raise LocalCloudError(f"{path}: {error}") from error


def _triggers(document: Mapping[str, Any]) -> list[Trigger]:
    tables = document.get("triggers", {})
    if document.keys() - {"triggers"} or not isinstance(tables, Mapping):
        raise ValueError("write a table [triggers.NAME] for each trigger, and nothing else")
    return [trigger_from_json({**table, "name": name}) for name, table in tables.items()]
