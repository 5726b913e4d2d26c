"""Scenarios: JSON files of inputs, and of nothing that the scheduler writes itself.

::

    {"service":   {"app_id", "project", "hostname", "buildbucket": [{"host", "publisher", "protocol"}],
                   "check_interval_seconds"},
     "config":    {"project", "file" (beside the scenario), "revision", "revision_url"},
     "chance":    {"suffixes": [46556, ...], "check_delays": [97, ...]},
     "defaults":  {"read", "commit", "enqueue", "call"},       how long each takes unless a delivery says otherwise
     "deliveries": [
        {"at": "<RFC 3339>", "commit": {"repo", "ref", "revision"}, "message": "<ID>", "published": "<RFC 3339>"},
        {"at": "<RFC 3339>", "notification": {"build": <what the message's body holds>}, "message": "<ID>"},
        {"task": "timer" | "launch" | ..., "lateness": "<duration>"}],        the earliest task on the queue
     "drain": true}                                            deliver what is left on the queue at its time

Each delivery may hold ``"takes": {"read": ["5ms", ...], "commit": [...], "enqueue": [...], "call": [...]}``, used in order,
and ``"answers": [...]``: what Buildbucket answers to each call, an object, or ``{"fail": "<code>", "transient": true}``.
Durations are Go's (``1.104s``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luci_scheduler.core.era import Era
from luci_scheduler.core.go_text import parse_duration
from luci_scheduler.core.instants import Instant, parse_rfc3339

__all__ = ["OPERATIONS", "Delivery", "Scenario", "ScenarioError", "load_scenario", "read_scenario"]

OPERATIONS = ("read", "commit", "enqueue", "call")


class ScenarioError(ValueError):
    """The scenario is not of the schema, or does not fit what the scheduler does; the message says where."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing that reaches a function."""

    kind: str
    """``commit``, ``notification``, or ``task``."""
    at: Instant | None
    body: Any
    message: str = ""
    published: Instant | None = None
    lateness: int = 0
    takes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    answers: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """All inputs of a replay."""

    service: Mapping[str, Any]
    servers: Sequence[tuple[str, str, Era]]
    config_project: str
    config_text: str
    config_revision: str
    config_revision_url: str
    suffixes: Sequence[int]
    check_delays: Sequence[int]
    defaults: Mapping[str, int]
    deliveries: Sequence[Delivery]
    drain: bool


def load_scenario(path: Path) -> Scenario:
    """Read a scenario and the config beside it.

    Raises:
        ScenarioError: it is not of the schema.
        OSError: a file cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ScenarioError(f"{path}: not JSON: {error}") from error
    config = (path.parent / document["config"]["file"]).read_text(encoding="utf-8")
    return read_scenario(document, config)


def read_scenario(document: Mapping[str, Any], config_text: str) -> Scenario:
    """Read a scenario that was parsed already.

    Raises:
        ScenarioError: it is not of the schema.
    """
    try:
        service, config = document["service"], document["config"]
        return Scenario(
            service=service,
            servers=[(s["host"], s["publisher"], Era(s.get("protocol", "v2"))) for s in service["buildbucket"]],
            config_project=config["project"],
            config_text=config_text,
            config_revision=config["revision"],
            config_revision_url=config.get("revision_url", ""),
            suffixes=document["chance"]["suffixes"],
            check_delays=document["chance"].get("check_delays", ()),
            defaults={name: parse_duration(document["defaults"].get(name, "0s")) for name in OPERATIONS},
            deliveries=[_delivery(item) for item in document["deliveries"]],
            drain=document.get("drain", True),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ScenarioError(f"bad scenario: {error!r}") from error


def _delivery(item: Mapping[str, Any]) -> Delivery:
    kind = next((name for name in ("commit", "notification", "task") if name in item), None)
    if kind is None:
        raise ScenarioError(f"a delivery is a commit, a notification or a task: {item}")
    takes = {name: [parse_duration(text) for text in texts] for name, texts in item.get("takes", {}).items()}
    if unknown := set(takes) - set(OPERATIONS):
        raise ScenarioError(f"no such operation: {sorted(unknown)}")
    return Delivery(
        kind=kind,
        at=parse_rfc3339(item["at"]) if "at" in item else None,
        body=item[kind],
        message=item.get("message", ""),
        published=parse_rfc3339(item["published"]) if "published" in item else None,
        lateness=parse_duration(item.get("lateness", "0s")),
        takes=takes,
        answers=item.get("answers", ()),
    )
