"""The members that a build gets at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.building.wire_time import format_timestamp
from emulator.cloud_build.builds import Build
from emulator.cloud_build.plans import FAILURES, Change

__all__ = ["end_members"]

_RESOLVED = {"gitSource": "resolvedGitSource", "connectedRepository": "resolvedConnectedRepository"}


def end_members(build: Build, change: Change, instant: int) -> dict[str, Any]:
    """Return the members that a change to a final status replaces; step statuses appear only then."""
    found: dict[str, Any] = {"status": change.status, "finishTime": format_timestamp(instant)}
    if change.detail:
        found["statusDetail"] = change.detail
    if change.failure:
        usual = FAILURES[change.failure]
        found["failureInfo"] = {
            "type": change.failure,
            "detail": f"{usual}: {change.detail}" if change.detail else usual,
        }
    if "startTime" in build.body:
        found |= _provenance(build) | _timing(build, found["finishTime"])
        found["steps"] = [_step(place, step, change) for place, step in enumerate(build.steps)]
    return found


def _provenance(build: Build) -> dict[str, Any]:
    source: Mapping[str, Any] = build.body.get("source", {})
    resolved = {_RESOLVED[name]: value for name, value in source.items() if name in _RESOLVED}
    return {"sourceProvenance": resolved} if resolved else {}


def _timing(build: Build, end: str) -> dict[str, Any]:
    return {"timing": {"BUILD": {"startTime": build.body["startTime"], "endTime": end}}}


def _step(place: int, step: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Return a step with its status; the first step is the one on which a planned failure falls."""
    if change.status == "SUCCESS":
        return {**step, "status": "SUCCESS"}
    if place:
        return {**step, "status": "QUEUED"}
    status = change.status if change.status in ("FAILURE", "TIMEOUT", "CANCELLED") else "FAILURE"
    return {**step, "status": status, **({"exitCode": 1} if status == "FAILURE" else {})}
