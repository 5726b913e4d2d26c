"""A build in the v1 API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from emulator.buildbucket.builds import Build
from emulator.building.wire_time import microseconds

__all__ = ["build_to_v1", "dump_parameters"]

# Numbers that the service wrote as integers when it rewrote parameters_json.
_WHOLE_NUMBERS = frozenset({"buildnumber", "issue", "patchset", "patch_issue", "patch_set"})


def build_to_v1(build: Build, hostname: str, now: int) -> dict[str, Any]:
    """Return a build in the v1 format: int64 as strings, times in microseconds, false values included.

    Args:
        build: the build.
        hostname: the hostname of Buildbucket, which is part of a tag.
        now: the instant of the response (``utcnow_ts``).
    """
    spec = build.spec
    parameters = {
        **spec.v1_parameters,
        "builder_name": spec.builder.builder,
        "properties": dict(spec.requested_properties),
    }
    message: dict[str, Any] = {
        "id": str(build.id),
        "project": spec.builder.project,
        "bucket": spec.builder.v1_bucket,
        "created_by": spec.created_by,
        "created_ts": microseconds(build.create_time),
        "status_changed_ts": microseconds(build.status_changed_time),
        "updated_ts": microseconds(build.update_time),
        "utcnow_ts": microseconds(now),
        "parameters_json": dump_parameters(parameters),
        "result_details_json": json.dumps(_result_details(build), sort_keys=True),
        "service_account": spec.config.service_account,
        "tags": _tags(build, hostname),
        "url": f"https://ci.chromium.org/b/{build.id}",
        "canary": spec.canary,
        "canary_preference": "CANARY" if spec.canary else "PROD",
        "experimental": spec.experimental,
        **_status(build),
    }
    if build.start_time is not None:
        message["started_ts"] = microseconds(build.start_time)
    if build.end_time is not None:
        message["completed_ts"] = microseconds(build.end_time)
    return message


def dump_parameters(parameters: Mapping[str, Any]) -> str:
    """Format ``parameters_json`` like the service.

    Keys are sorted, separators are followed by spaces, and numbers are floats with few exceptions.
    """
    return json.dumps(_floated(parameters), sort_keys=True)


def _floated(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {key: _floated(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_floated(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if name in _WHOLE_NUMBERS else float(value)
    return value


def _status(build: Build) -> dict[str, str]:
    if not build.ended:
        return {"status": build.status}
    completed = {"status": "COMPLETED"}
    if build.status == "SUCCESS":
        return {**completed, "result": "SUCCESS"}
    if build.status == "CANCELED":
        return {**completed, "result": "CANCELED", "cancelation_reason": "CANCELED_EXPLICITLY"}
    if build.status == "INFRA_FAILURE" and build.outcome and build.outcome.timeout:
        return {**completed, "result": "CANCELED", "cancelation_reason": "TIMEOUT"}
    reason = "BUILD_FAILURE" if build.status == "FAILURE" else "INFRA_FAILURE"
    return {**completed, "result": "FAILURE", "failure_reason": reason}


def _result_details(build: Build) -> dict[str, Any]:
    details: dict[str, Any] = {"properties": {}}
    if not build.ended or build.outcome is None:
        return details
    details["properties"] = dict(build.outcome.output_properties)
    if build.start_time is not None:
        details["swarming"] = {
            "bot_dimensions": {key: list(values) for key, values in build.spec.config.bot_dimensions.items()}
        }
    if build.outcome.summary:
        details["ui"] = {"info": build.outcome.summary}
        if build.status != "SUCCESS":
            details["error"] = {"message": build.outcome.summary}
    return details


def _tags(build: Build, hostname: str) -> list[str]:
    """Return the request's tags and the tags added by the service so far; the list only grows."""
    spec, config = build.spec, build.spec.config
    tags = {f"{key}:{value}" for key, value in spec.tags}
    location = (
        f"logdog://{config.logdog_hostname}/{spec.builder.project}/buildbucket/{hostname}/{build.id}/+/annotations"
    )
    tags |= {
        f"swarming_hostname:{config.swarming_hostname}",
        f"swarming_task_id:{build.task_id if build.start_time is not None else ''}",
        f"swarming_tag:log_location:{location}",
        f"swarming_tag:luci_project:{spec.builder.project}",
        f"swarming_tag:recipe_name:{config.recipe}",
        f"swarming_tag:recipe_package:{config.cipd_package}",
    }
    if build.number is not None:
        tags.add(f"build_address:{spec.builder.v1_bucket}/{spec.builder.builder}/{build.number}")
    systems = config.bot_dimensions.get("os", [])
    if build.ended and build.start_time is not None and systems:
        tags.add(f"swarming_tag:os:{systems[0]}")
    return sorted(tags)
