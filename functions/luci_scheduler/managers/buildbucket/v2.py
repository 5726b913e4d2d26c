"""Buildbucket v2, the protocol of today: requests, answers and log lines."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.core import go_json, log_lines
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.kv_lists import unpack_kv_list
from luci_scheduler.managers.buildbucket.build_request import (
    BuildRequest,
    Log,
    agree,
    common_tags,
    merged_properties,
    our_tags,
    shown_triggers,
)
from luci_scheduler.managers.buildbucket.builder_id import builder_id, canonical_bucket
from luci_scheduler.managers.buildbucket.gitiles_commit import extract_commit
from luci_scheduler.managers.buildbucket.protocol_client import Build, announce_topic, messages
from luci_scheduler.managers.buildbucket.spelling import build_message
from luci_scheduler.ports import Buildbucket, BuildbucketError

__all__ = ["V2Client"]

_WITHOUT_SCHEDULER_PROPERTY = ("chromium", "chrome")

_STATUSES = {
    "SUCCESS": Status.SUCCEEDED,
    "FAILURE": Status.FAILED,
    "INFRA_FAILURE": Status.FAILED,
    "CANCELED": Status.ABORTED,
}
_ACTIVE = ("SCHEDULED", "STARTED")

_ORDER = (
    "id", "builder", "builderInfo", "number", "createdBy", "canceledBy", "createTime", "startTime", "endTime",
    "updateTime", "cancelTime", "status", "summaryMarkdown", "cancellationMarkdown", "critical", "statusDetails",
    "input", "output", "steps", "infra", "tags", "exe", "canary", "schedulingTimeout", "executionTimeout",
    "gracePeriod", "waitForCapacity", "canOutliveParent", "ancestorIds", "retriable", "viewUrl",
)  # fmt: skip
"""The fields of a build in the order of their declaration. The log shows them in this order and omits other fields.

The content of a field is logged in the order in which the server sent it.
"""

_FIELDS = (
    "id,builder,number,createdBy,createTime,startTime,endTime,updateTime,status,statusDetails,critical,canary,"
    "input.experimental,input.gerritChanges,input.gitilesCommit,summaryMarkdown"
)
"""The fields that a check asks for: the default mask of Buildbucket, and the summary, which that mask omits."""

_FREE_FORM = (
    ("input", "properties"),
    ("output", "properties"),
    ("infra", "buildbucket", "requestedProperties"),
    ("infra", "backend", "config"),
)
"""Paths of the fields in a build that are a ``google.protobuf.Struct``."""


class V2Client:
    """The client of the v2 protocol."""

    def __init__(self, wire: Buildbucket) -> None:
        self._wire = wire

    def prepare(self, request: BuildRequest, log: Log) -> dict[str, Any]:
        """Return the message of ``ScheduleBuild``. Log it without its token.

        Raises:
            PermanentError: the task names no builder, or the repository URL of a trigger is invalid.
        """
        message = self._message(request, log)
        log(log_lines.REQUEST.format(request=go_json.message(message)))
        if not request.topic:
            return message
        user_data = base64.b64encode(request.token.encode()).decode()
        return {**message, "notify": {**message["notify"], "userData": user_data}}

    def _message(self, request: BuildRequest, log: Log) -> dict[str, Any]:
        builder = _builder(request)
        triggers = shown_triggers(request, log)
        properties = merged_properties(request)
        if builder["project"] not in _WITHOUT_SCHEDULER_PROPERTY:
            properties["$recipe_engine/scheduler"] = {
                "hostname": request.hostname,
                "job": request.job_id,
                "invocation": str(request.invocation_id),
                "triggers": triggers,
            }
        tags = [*common_tags(request), *unpack_kv_list([*(request.task.get("tags") or ()), *request.tags])]
        commit, tags = extract_commit(triggers, tags, properties, log, request.hosts)
        announce_topic(request, log)
        message = {
            "requestId": str(request.invocation_id),
            "builder": builder,
            "properties": go_json.struct(properties),
            "gitilesCommit": commit.as_json() if commit else None,
            "tags": [{name: text for name, text in (("key", key), ("value", value)) if text} for key, value in tags],
            "notify": {"pubsubTopic": request.topic} if request.topic else None,
        }
        return {name: value for name, value in message.items() if value is not None}

    def schedule(self, request: BuildRequest, body: Mapping[str, Any]) -> dict[str, Any]:
        """Request the build, under the ID of ``request``."""
        numbered = {**body, "requestId": request.request_id}
        return build_message(self._wire.v2(request.task["server"], "ScheduleBuild", numbered, until=request.until))

    def find(self, request: BuildRequest) -> list[dict[str, Any]]:
        """Return the builds of earlier requests, newest first."""
        predicate = {
            "builder": _builder(request),
            "tags": [{"key": key, "value": value} for key, value in our_tags(request).items()],
            # A search omits builds of experimental builders unless it says this.
            "includeExperimental": True,
        }
        query = {"predicate": predicate, "pageSize": 10}
        found = self._wire.v2(request.task["server"], "SearchBuilds", query, until=request.until)
        return [build_message(build) for build in messages(found.get("builds"))]

    def is_ours(self, request: BuildRequest, answer: Mapping[str, Any]) -> bool:
        """Whether a build names our builder, job and invocation. The default field mask omits the tags."""
        named, ours = answer.get("builder"), _builder(request)
        if isinstance(named, Mapping) and any(named.get(key, value) != value for key, value in ours.items()):
            return False
        tags = [(str(tag.get("key", "")), str(tag.get("value", ""))) for tag in messages(answer.get("tags"))]
        return agree(tags, our_tags(request))

    def is_refusal(self, answer: Mapping[str, Any]) -> bool:  # noqa: ARG002 - v1 needs the answer
        """Return False: v2 refuses with gRPC errors, never with an answer."""
        return False

    def build_id(self, answer: Mapping[str, Any]) -> str:
        """Return the build ID in an answer, unchecked."""
        return str(answer.get("id", ""))

    def is_active(self, answer: Mapping[str, Any]) -> bool:
        """Whether the build of an answer is still active."""
        return answer.get("status") in _ACTIVE

    def launched(self, request: BuildRequest, answer: Mapping[str, Any], log: Log) -> Build:
        """Read and log the answer to ``ScheduleBuild``.

        Raises:
            PermanentError: the answer has no build.
        """
        log(log_lines.V2_SCHEDULED.format(answer=_printed(answer)))
        if not answer.get("id"):
            raise PermanentError("the answer to ScheduleBuild holds no build ID")
        url = f"https://{request.task['server']}/build/{answer['id']}"
        log(log_lines.TASK_URL.format(url=url))
        return Build(str(answer["id"]), url, _status(answer, log))

    def get(self, server: str, build_id: str) -> dict[str, Any]:
        """Fetch a build.

        Raises:
            BuildbucketError: the server did not answer, refused, or answered without a build. The latter says nothing
                about the build, so it is transient.
        """
        answer = build_message(self._wire.v2(server, "GetBuild", {"id": build_id, "mask": {"fields": _FIELDS}}))
        if not answer.get("id"):
            raise BuildbucketError("INTERNAL", "the answer to GetBuild holds no build", transient=True)
        return answer

    def checked(self, answer: Mapping[str, Any], log: Log) -> Status | None:
        """Read and log the answer to ``GetBuild``. Return the final status, or None while the build is active."""
        status = _status(answer, log)
        if status is None:
            log(log_lines.BUILD_STATUS.format(status=answer["status"]))
        else:
            log(log_lines.BUILD.format(answer=_printed(answer)))
        return status

    def summary(self, answer: Mapping[str, Any]) -> str:
        """Return the build's summary, in Markdown."""
        return str(answer.get("summaryMarkdown") or "")

    def cancel(self, server: str, build_id: str) -> None:
        """Cancel a build."""
        self._wire.v2(server, "CancelBuild", {"id": build_id, "summaryMarkdown": "Canceled via LUCI Scheduler"})


def _builder(request: BuildRequest) -> dict[str, str]:
    bucket = canonical_bucket(request.task.get("bucket", ""))
    project, bucket, builder = builder_id(request.realm, bucket, request.task.get("builder", ""))
    return {"project": project, "bucket": bucket, "builder": builder}


def _status(build: Mapping[str, Any], log: Log) -> Status | None:
    name = str(build.get("status", "STATUS_UNSPECIFIED"))
    if name in _ACTIVE:
        return None
    if name not in _STATUSES:
        log(log_lines.V2_UNEXPECTED.format(status=sanitized(name)))
    return _STATUSES.get(name, Status.FAILED)


def _printed(build: Mapping[str, Any]) -> str:
    # Go prints an empty message, because it is set; it omits every other empty value.
    document: Any = {name: build[name] for name in _ORDER if build.get(name) or build.get(name) == {}}
    for path in _FREE_FORM:
        document = _with_struct(document, path)
    return go_json.message(document)


def _with_struct(part: Any, path: Sequence[str]) -> Any:
    """Return a value whose object at ``path``, if present, is marked as free-form."""
    if not isinstance(part, Mapping):
        return part
    if not path:
        return go_json.struct(part)
    name, *rest = path
    return {**part, name: _with_struct(part[name], rest)} if name in part else part
