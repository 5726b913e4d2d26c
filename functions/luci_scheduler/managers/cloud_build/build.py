"""A build as Cloud Build describes it: status, texts, and the part that the log shows. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.instants import LAST_INSTANT, Instant, parse_rfc3339
from luci_scheduler.core.invocation import Status
from luci_scheduler.managers.cloud_build.commit import Log

__all__ = [
    "BUILD_ID",
    "build_of",
    "created",
    "indented",
    "is_active",
    "is_of",
    "oldest_first",
    "outcome",
    "printed",
    "reason_of",
    "state_of",
    "view_url",
]

BUILD_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
"""The form of a build's ID, which becomes a part of URLs."""

_ACTIVE = frozenset({"", "STATUS_UNKNOWN", "PENDING", "QUEUED", "WORKING"})
"""The statuses of a build that is going on. Cloud Build leaves out the zero value, STATUS_UNKNOWN."""
_FINAL = {
    "SUCCESS": Status.SUCCEEDED,
    "FAILURE": Status.FAILED,
    "INTERNAL_ERROR": Status.FAILED,
    "TIMEOUT": Status.FAILED,
    "EXPIRED": Status.FAILED,
    "CANCELLED": Status.ABORTED,
}
_PRINTED = (
    "id", "projectId", "status", "statusDetail", "createTime", "startTime", "finishTime", "timeout", "queueTtl",
    "buildTriggerId", "approval", "failureInfo", "logUrl", "tags",
)  # fmt: skip
"""The members of a build that the log shows, in this order. Others may be large or hold values of substitutions."""
_MAX_STATUS = 100  # characters
_MAX_TEXT = 1000  # characters of any other text of the service: an invocation's document holds it
_WAITS = "waits for approval in Cloud Build"


def build_of(operation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the build of an operation, which answers a request for a build; None if the answer has none.

    Raises:
        PermanentError: the operation has failed without a build, or the build has no ID.
    """
    metadata = operation.get("metadata")
    build = metadata.get("build") if isinstance(metadata, Mapping) else None
    if isinstance(build, Mapping):
        if not BUILD_ID.fullmatch(str(build.get("id", ""))):
            raise PermanentError("Cloud Build's answer has a build without a valid ID")
        return build
    error = operation.get("error")
    if isinstance(error, Mapping):
        raise PermanentError(f"Cloud Build made no build: {_text(error, 'message')}")
    return None


def is_of(build: Mapping[str, Any], identity: Mapping[str, str]) -> bool:
    """Whether a build carries all substitutions that identify the builds of an invocation, and has a valid ID."""
    values = build.get("substitutions")
    if not isinstance(values, Mapping) or not BUILD_ID.fullmatch(str(build.get("id", ""))):
        return False
    return all(values.get(key) == value for key, value in identity.items())


def created(build: Mapping[str, Any]) -> Instant:
    """Return when a build was created. A build without a readable time counts as the newest of all."""
    try:
        return parse_rfc3339(str(build.get("createTime", "")))
    except (ValueError, OverflowError):
        return LAST_INSTANT


def oldest_first(builds: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return builds in the order of their creation; the order of IDs decides between two of one time."""
    return sorted(builds, key=lambda build: (created(build), str(build.get("id"))))


def _text(said: Mapping[str, Any], member: str) -> str:
    """Return a text of the service as one line, cut; empty if it is missing."""
    return sanitized(str(said.get(member) or "")[:_MAX_TEXT])


def _status(build: Mapping[str, Any]) -> str:
    return sanitized(str(build.get("status") or ""))[:_MAX_STATUS]


def is_active(build: Mapping[str, Any]) -> bool:
    """Whether a build is going on."""
    return outcome(build) is None


def outcome(build: Mapping[str, Any], log: Log | None = None) -> Status | None:
    """Return the final status of the invocation of a build; None while the build is going on.

    An unknown status is final if the build has a ``finishTime``. ``log`` then gets a line about it.
    """
    name = _status(build)
    if name in _ACTIVE:
        return None
    if name in _FINAL:
        return _FINAL[name]
    if not build.get("finishTime"):
        return None
    if log:
        log(log_lines.CLOUD_UNEXPECTED.format(status=name))
    return Status.FAILED


def printed(build: Mapping[str, Any]) -> str:
    """Return the part of a build that the log shows, as indented JSON."""
    return indented({name: build[name] for name in _PRINTED if build.get(name)})


def indented(value: Mapping[str, Any]) -> str:
    """Return a message as the log shows it, with its members in their own order."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def reason_of(build: Mapping[str, Any]) -> str:
    """Return the line about the end of a build that did not succeed; empty if Cloud Build names no reason."""
    info = build.get("failureInfo")
    if isinstance(info, Mapping) and info.get("type"):
        words = [_text(info, name) for name in ("type", "detail") if info.get(name)]
        return log_lines.BUILD_FAILED.format(reason=" - ".join(words))
    detail = _text(build, "statusDetail")
    return log_lines.BUILD_ENDED.format(status=_status(build).replace(" ", "_"), detail=detail) if detail else ""


def state_of(build: Mapping[str, Any]) -> dict[str, str]:
    """Return the status of a build for its page, with the reason of a wait for a person's approval."""
    approval = build.get("approval")
    waits = _status(build) == "PENDING" and isinstance(approval, Mapping) and approval.get("state") == "PENDING"
    return {"status": _status(build) or "STATUS_UNKNOWN", **({"waits": _WAITS} if waits else {})}


def view_url(build: Mapping[str, Any]) -> str:
    """Return the address of a build's page, as the service names it."""
    return _text(build, "logUrl")
