"""A build in the v2 API: the complete ``buildbucket.v2.Build`` message as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.buildbucket.builds import Build
from emulator.building.wire_time import format_duration, format_timestamp

__all__ = ["HIDDEN_TAGS", "build_to_json", "status_details", "summary_markdown"]

# Tags that a search matches but replies leave out.
HIDDEN_TAGS = frozenset({"builder", "build_address", "gitiles_ref"})
_SUMMARY_LIMIT = 4000
_TIMES = (
    ("createTime", "create_time"),
    ("startTime", "start_time"),
    ("endTime", "end_time"),
    ("updateTime", "update_time"),
    ("cancelTime", "cancel_time"),
)


def build_to_json(build: Build, hostname: str) -> dict[str, Any]:
    """Return the whole message, without a mask and without default values.

    Args:
        build: the build.
        hostname: the hostname of Buildbucket.
    """
    spec = build.spec
    message: dict[str, Any] = {"id": str(build.id), "builder": spec.builder.to_json(), "status": build.status}
    message.update(
        {name: format_timestamp(at) for name, attribute in _TIMES if (at := getattr(build, attribute)) is not None}
    )
    optional = {
        "number": build.number,
        "createdBy": spec.created_by,
        "canceledBy": build.canceled_by,
        "cancellationMarkdown": build.cancellation_markdown,
        "summaryMarkdown": summary_markdown(build),
        "critical": spec.critical,
        "canary": spec.canary,
        "tags": [{"key": key, "value": value} for key, value in spec.tags if key not in HIDDEN_TAGS],
        "steps": _steps(build),
        "statusDetails": status_details(build),
    }
    message.update({name: value for name, value in optional.items() if value})
    message["input"] = _input(build)
    message["output"] = _output(build)
    message["infra"] = _infra(build, hostname)
    message["exe"] = {"cipdPackage": spec.config.cipd_package, "cipdVersion": spec.cipd_version, "cmd": ["luciexe"]}
    message["schedulingTimeout"] = format_duration(spec.scheduling_timeout)
    message["executionTimeout"] = format_duration(spec.execution_timeout)
    message["gracePeriod"] = format_duration(spec.grace_period)
    return message


def summary_markdown(build: Build) -> str:
    """Return the build's summary followed by its cancellation's summary, truncated to 4000 bytes."""
    parts = [build.outcome.summary if build.outcome else "", build.cancellation_markdown]
    text = "\n".join(part for part in parts if part)
    return text.encode()[:_SUMMARY_LIMIT].decode(errors="ignore")


def status_details(build: Build) -> dict[str, Any]:
    """Return ``statusDetails``, whose members are empty messages, present or absent."""
    if build.outcome is None:
        return {}
    flags = {"resourceExhaustion": build.outcome.resource_exhaustion, "timeout": build.outcome.timeout}
    return {name: {} for name, is_set in flags.items() if is_set}


def _input(build: Build) -> dict[str, Any]:
    spec = build.spec
    message: dict[str, Any] = {
        "properties": dict(spec.properties),
        "gitilesCommit": dict(spec.gitiles_commit) if spec.gitiles_commit else None,
        "gerritChanges": [_stringed(change) for change in spec.gerrit_changes],
        "experimental": spec.experimental,
        "experiments": list(spec.experiments),
    }
    return {name: value for name, value in message.items() if value}


def _stringed(change: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, int) else value for name, value in change.items()}


def _output(build: Build) -> dict[str, Any]:
    if build.status == "SCHEDULED":
        return {}
    message: dict[str, Any] = {"status": build.status}
    if build.outcome and build.outcome.output_properties:
        message["properties"] = dict(build.outcome.output_properties)
    if build.outcome and build.outcome.summary:
        message["summaryMarkdown"] = build.outcome.summary
    return message


def _infra(build: Build, hostname: str) -> dict[str, Any]:
    config, spec = build.spec.config, build.spec
    buildbucket: dict[str, Any] = {"hostname": hostname, "requestedProperties": dict(spec.requested_properties)}
    if build.number is not None:
        buildbucket["buildNumber"] = True
    return {
        "buildbucket": buildbucket,
        "swarming": {
            "hostname": config.swarming_hostname,
            "taskId": build.task_id,
            "taskServiceAccount": config.service_account,
            "priority": spec.priority,
        },
        "logdog": {
            "hostname": config.logdog_hostname,
            "project": spec.builder.project,
            "prefix": f"buildbucket/{hostname.removesuffix('.appspot.com')}/{build.id}",
        },
    }


def _steps(build: Build) -> list[dict[str, Any]]:
    """Return the single step of a started build; a build that never started has no steps."""
    if build.start_time is None:
        return []
    step = {"name": "setup_build", "startTime": format_timestamp(build.start_time), "status": build.status}
    if build.end_time is not None:
        step["endTime"] = format_timestamp(build.end_time)
    return [step]
