"""Checks of decoded requests (see `protojson`), with the error texts of the real service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emulator.buildbucket.identifiers import BuilderId

__all__ = [
    "InvalidError",
    "builder_from_json",
    "check_bucket",
    "check_buildset",
    "check_callback",
    "check_commit",
    "check_properties",
    "check_request_id",
    "check_schedule",
    "check_tags",
    "gitiles_buildsets",
    "topic_fault",
]

_PROJECT = re.compile(r"^[a-z0-9\-_]+$")
_BUCKET = re.compile(r"^[a-z0-9\-_.]{1,100}$")
_BUILDER = re.compile(r"^[a-zA-Z0-9\-_.\(\) ]{1,128}$")
_SHA = re.compile(r"^[a-f0-9]{40}$")
_GITILES_BUILDSET = re.compile(r"^commit/gitiles/([^/]+)/(.+?)/\+/([a-f0-9]{40})$")
_GERRIT_BUILDSET = re.compile(r"^patch/gerrit/([^/]+)/(\d+)/(\d+)$")
_TOPIC_NAME = re.compile(r"^projects/(.*)/topics/(.*)$")
_TOPIC_PROJECT = re.compile(r"^[a-z]([a-z0-9-]){4,28}[a-z0-9]$")
_TOPIC_ID = re.compile(r"^[A-Za-z]([0-9A-Za-z\._\-~+%]){3,255}$")

_RESERVED_PATHS = (
    ("$recipe_engine/buildbucket",),
    ("$recipe_engine/runtime", "is_experimental"),
    ("$recipe_engine/runtime", "is_luci"),
    ("branch",),
    ("buildbucket",),
    ("buildername",),
    ("repository",),
)
_V1_BUCKET_PARTS = 3
_MAX_TAG_KEY = 64
_MAX_TAG_VALUE = 256
_MAX_BUILDSET = 1024
_MAX_PRIORITY = 255
_MAX_USER_DATA = 4096


class InvalidError(ValueError):
    """A field of a request is invalid; the text is the field's path and the reason."""


def builder_from_json(message: Mapping[str, Any]) -> BuilderId:
    """Check a ``BuilderID`` and return it; all its fields are required."""
    project, bucket, builder = (message.get(name, "") for name in ("project", "bucket", "builder"))
    if not _PROJECT.match(project):
        raise InvalidError(f'builder: project must match "{_escaped(_PROJECT)}"')
    check_bucket(bucket)
    if not builder:
        raise InvalidError("builder: builder is required")
    if not _BUILDER.match(builder):
        raise InvalidError(f'builder: builder must match "{_escaped(_BUILDER)}"')
    return BuilderId(project, bucket, builder)


def check_bucket(bucket: str) -> None:
    """Check the bucket of a ``BuilderID``; the error for a name of the v1 API has a hint."""
    if not bucket:
        raise InvalidError("builder: bucket is required")
    parts = bucket.split(".")
    if parts[0] == "luci" and len(parts) >= _V1_BUCKET_PARTS:
        raise InvalidError(f'builder: invalid use of v1 bucket in v2 API (hint: try "{".".join(parts[2:])}")')
    if not _BUCKET.match(bucket):
        raise InvalidError(f'builder: bucket must match "{_escaped(_BUCKET)}"')


def check_schedule(request: Mapping[str, Any]) -> None:
    """Check the format of a ScheduleBuild request, without the topic's existence, and raise the first error."""
    if "builder" not in request and "templateBuildId" not in request:
        raise InvalidError("builder or template_build_id is required")
    if "builder" in request:
        builder_from_json(request["builder"])
    check_properties(request.get("properties", {}))
    if "gitilesCommit" in request:
        check_commit(request["gitilesCommit"])
    _check_changes(request.get("gerritChanges", []))
    check_tags([(tag.get("key", ""), tag.get("value", "")) for tag in request.get("tags", [])])
    if not 0 <= request.get("priority", 0) <= _MAX_PRIORITY:
        raise InvalidError("priority must be in [0, 255]")
    if "notify" in request:
        check_callback(request["notify"].get("pubsubTopic", ""), request["notify"].get("userData", b""))
    _check_timeouts(request)
    if "canOutliveParent" in request:
        raise InvalidError("can_outlive_parent is specified without a parent build")


def _check_timeouts(request: Mapping[str, Any]) -> None:
    for name in ("schedulingTimeout", "executionTimeout", "gracePeriod"):
        if request.get(name, 0) < 0:
            raise InvalidError(f"{_snake(name)}: cannot be negative")


def check_request_id(request_id: str) -> None:
    """Check a deduplication key."""
    if "/" in request_id:
        raise InvalidError("request_id cannot contain '/'")
    if request_id.startswith("__bb__:"):
        raise InvalidError("request_id cannot start with '__bb__:'")


def check_properties(properties: Mapping[str, Any]) -> None:
    """Check that a request sets no reserved property."""
    for path in _RESERVED_PATHS:
        holder: Any = properties
        for name in path:
            holder = holder.get(name, _ABSENT) if isinstance(holder, Mapping) else _ABSENT
        if holder is not _ABSENT:
            raise InvalidError(f'properties: "{".".join(path)}" must not be specified')


def check_commit(commit: Mapping[str, Any]) -> None:
    """Check the commit of a ScheduleBuild request; ``ref`` is required."""
    identifier = commit.get("id", "")
    if not commit.get("host"):
        reason = "host is required"
    elif not commit.get("project"):
        reason = "project is required"
    elif commit["project"].startswith("/"):
        reason = 'project must not start with "/"'
    elif commit["project"].endswith(".git"):
        reason = 'project must not end with ".git"'
    elif identifier and not _SHA.match(identifier):
        reason = 'id must match "^[a-f0-9]{40}$"'
    else:
        reason = _ref_fault(commit)
    if reason:
        raise InvalidError(f"gitiles_commit: {reason}")


def _ref_fault(commit: Mapping[str, Any]) -> str:
    """Return the error of a commit's ``ref``, or an empty string."""
    ref = commit.get("ref", "")
    if not ref:
        return "position requires ref" if commit.get("position") else "ref is required"
    return "" if ref.startswith("refs/") else "ref must match refs/.*"


def check_tags(tags: Sequence[tuple[str, str]]) -> None:
    """Check the tags of a v2 request."""
    builder = None
    for key, value in tags:
        reason = _tag_fault(key, value)
        if not reason and key == "builder":
            if builder not in (None, value):
                reason = f'tag "builder:{value}" conflicts with tag "builder:{builder}"'
            builder = value
        if reason:
            raise InvalidError(f"tags: {reason}")


def check_buildset(value: str) -> str:
    """Return the error of a ``buildset`` tag's value, or an empty string."""
    if len(f"buildset:{value}".encode()) > _MAX_BUILDSET:
        return "buildset tag is too long"
    if value.startswith("commit/gitiles/"):
        match = _GITILES_BUILDSET.match(value)
        if match is None:
            return f'does not match regex "{_GITILES_BUILDSET.pattern}"'
        if match[2].startswith("a/"):
            return 'gitiles project must not start with "a/"'
        if match[2].endswith(".git"):
            return 'gitiles project must not end with ".git"'
    if value.startswith("patch/gerrit/") and not _GERRIT_BUILDSET.match(value):
        return f'does not match regex "{_GERRIT_BUILDSET.pattern}"'
    return ""


def check_callback(topic: str, user_data: bytes) -> None:
    """Check the topic and the user data of notifications."""
    if not topic:
        raise InvalidError("notify: pubsub_topic must be specified")
    if len(user_data) > _MAX_USER_DATA:
        raise InvalidError(f"notify: user_data cannot exceed {_MAX_USER_DATA} bytes")
    if fault := topic_fault(topic):
        raise InvalidError(f"notify: invalid pubsub_topic {topic}: {fault}")


def topic_fault(topic: str) -> str:
    """Return the error of a topic's full name, or an empty string."""
    match = _TOPIC_NAME.match(topic)
    if match is None:
        return 'topic must match "projects/<project>/topics/<topic>"'
    project, name = match.groups()
    if not (_TOPIC_PROJECT.match(project) or project.startswith("google.com:")):
        return f'pubsub project id "{project}" does not match "{_TOPIC_PROJECT.pattern}"'
    if name.startswith("goog") or not _TOPIC_ID.match(name):
        return f'pubsub topic id "{name}" does not match "{_TOPIC_ID.pattern}"'
    return ""


def gitiles_buildsets(tags: Iterable[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Return host, project and commit of each ``buildset:commit/gitiles/...`` tag."""
    matches = (_GITILES_BUILDSET.match(value) for key, value in tags if key == "buildset")
    return [(match[1], match[2], match[3]) for match in matches if match]


def _check_changes(changes: Sequence[Mapping[str, Any]]) -> None:
    for index, change in enumerate(changes):
        missing = [name for name in ("host", "change", "patchset", "project") if not change.get(name)]
        if missing:
            raise InvalidError(f"gerrit_changes[{index}]: {missing[0]} must be specified")


def _tag_fault(key: str, value: str) -> str:
    if not key or ":" in key:
        return f'tag key "{key}" cannot have a colon' if key else "the key cannot be empty"
    if len(key.encode()) > _MAX_TAG_KEY:
        return f"the key should be no longer than {_MAX_TAG_KEY} (got {len(key.encode())})"
    if len(value.encode()) > _MAX_TAG_VALUE:
        return f"the value should be no longer than {_MAX_TAG_VALUE} (got {len(value.encode())})"
    if value != value.strip():
        return "the value should have no leading or trailing spaces"
    if key == "build_address":
        return 'tag "build_address" is reserved'
    return check_buildset(value) if key == "buildset" else ""


def _escaped(pattern: re.Pattern[str]) -> str:
    """Format a pattern like Go's ``%q``."""
    return pattern.pattern.replace("\\", "\\\\")


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", name)


_ABSENT = object()
