"""Buildbucket v2, today's: requests, answers and log lines."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.core import go_json
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
from luci_scheduler.ports import Buildbucket

__all__ = ["V2Client"]

_WITHOUT_SCHEDULER_PROPERTY = ("chromium", "chrome")

_STATUSES = {
    "SUCCESS": Status.SUCCEEDED,
    "FAILURE": Status.FAILED,
    "INFRA_FAILURE": Status.FAILED,
    "CANCELED": Status.ABORTED,
}
_GOING_ON = ("SCHEDULED", "STARTED")

_ORDER = (
    "id", "builder", "builderInfo", "number", "createdBy", "canceledBy", "createTime", "startTime", "endTime", "updateTime",
    "cancelTime", "status", "summaryMarkdown", "cancellationMarkdown", "critical", "statusDetails", "input", "output",
    "steps", "infra", "tags", "exe", "canary", "schedulingTimeout", "executionTimeout", "gracePeriod", "waitForCapacity",
    "canOutliveParent", "ancestorIds", "retriable", "viewUrl",
)  # fmt: skip
"""Fields of a build in the order of their declaration, which is the order that they are printed in; others are dropped.

What a field holds is printed in the order in which the server sent it.
"""

_FREE_FORM = (
    ("input", "properties"),
    ("output", "properties"),
    ("infra", "buildbucket", "requestedProperties"),
    ("infra", "backend", "config"),
)
"""Where a build holds a ``google.protobuf.Struct``."""


class V2Client:
    """The v2 face of a Buildbucket server."""

    def __init__(self, wire: Buildbucket) -> None:
        self._wire = wire

    def prepare(self, given: BuildRequest, log: Log) -> dict[str, Any]:
        """Return the request of ``ScheduleBuild`` and log it without its token.

        Raises:
            PermanentError: no builder can be derived, or a trigger's repository has no proper URL.
        """
        request = self._request(given, log)
        log(f"Buildbucket request:\n{go_json.message(request)}")
        user_data = base64.b64encode(given.token.encode()).decode()
        return {**request, "notify": {**request["notify"], "userData": user_data}}

    def _request(self, given: BuildRequest, log: Log) -> dict[str, Any]:
        builder = _builder(given)
        triggers = shown_triggers(given, log)
        properties = merged_properties(given)
        if builder["project"] not in _WITHOUT_SCHEDULER_PROPERTY:
            properties["$recipe_engine/scheduler"] = {
                "hostname": given.hostname,
                "job": given.job_id,
                "invocation": str(given.invocation_id),
                "triggers": triggers,
            }
        tags = [*common_tags(given), *unpack_kv_list([*(given.task.get("tags") or ()), *given.tags])]
        commit, tags = extract_commit(triggers, tags, properties, log)
        announce_topic(given, log)
        request = {
            "requestId": str(given.invocation_id),
            "builder": builder,
            "properties": go_json.struct(properties),
            "gitilesCommit": commit.as_json() if commit else None,
            "tags": [{name: text for name, text in (("key", key), ("value", value)) if text} for key, value in tags],
            "notify": {"pubsubTopic": given.topic},
        }
        return {name: value for name, value in request.items() if value is not None}

    def schedule(self, given: BuildRequest, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for the build, under the request ID of ``given``."""
        request = {**body, "requestId": given.request_id}
        return build_message(self._wire.v2(given.task["server"], "ScheduleBuild", request, until=given.until))

    def find(self, given: BuildRequest) -> list[dict[str, Any]]:
        """Return the builds of earlier requests, the newest first."""
        predicate = {
            "builder": _builder(given),
            "tags": [{"key": key, "value": value} for key, value in our_tags(given).items()],
            # Builds of a builder whose config says ``experimental: YES`` are left out unless they are asked for.
            "includeExperimental": True,
        }
        question = {"predicate": predicate, "pageSize": 10}
        found = self._wire.v2(given.task["server"], "SearchBuilds", question, until=given.until)
        return [build_message(build) for build in messages(found.get("builds"))]

    def is_ours(self, given: BuildRequest, answer: Mapping[str, Any]) -> bool:
        """Whether a build names our builder, job and invocation; the default mask leaves the tags out."""
        named, ours = answer.get("builder"), _builder(given)
        if isinstance(named, Mapping) and any(named.get(key, value) != value for key, value in ours.items()):
            return False
        tags = [(str(tag.get("key", "")), str(tag.get("value", ""))) for tag in messages(answer.get("tags"))]
        return agree(tags, our_tags(given))

    def is_refusal(self, answer: Mapping[str, Any]) -> bool:  # noqa: ARG002 - v1 needs the answer
        """Refusals of v2 are errors of gRPC, never answers."""
        return False

    def build_id(self, answer: Mapping[str, Any]) -> str:
        """Return the ID that an answer gives its build."""
        return str(answer.get("id", ""))

    def goes_on(self, answer: Mapping[str, Any]) -> bool:
        """Whether the build of an answer is not over."""
        return answer.get("status") in _GOING_ON

    def launched(self, given: BuildRequest, answer: Mapping[str, Any], log: Log) -> Build:
        """Read the answer to ``ScheduleBuild``.

        Raises:
            PermanentError: it holds no build.
        """
        log(f"Scheduled build:\n{_printed(answer)}")
        if not answer.get("id"):
            raise PermanentError("the answer to ScheduleBuild holds no build ID")
        url = f"https://{given.task['server']}/build/{answer['id']}"
        log(f"Task URL: {url}")
        return Build(str(answer["id"]), url, _status(answer, log))

    def get(self, server: str, build_id: str) -> dict[str, Any]:
        """Ask for a build's state."""
        return build_message(self._wire.v2(server, "GetBuild", {"id": build_id}))

    def checked(self, answer: Mapping[str, Any], log: Log) -> Status | None:
        """Read the answer to ``GetBuild``: a final status or None."""
        status = _status(answer, log)
        if status is None:
            log(f"Build status: {answer['status']}")
        else:
            log(f"Build:\n{_printed(answer)}")
        return status

    def cancel(self, server: str, build_id: str) -> None:
        """Cancel a build."""
        self._wire.v2(server, "CancelBuild", {"id": build_id, "summaryMarkdown": "Canceled via LUCI Scheduler"})


def _builder(given: BuildRequest) -> dict[str, str]:
    bucket = canonical_bucket(given.task.get("bucket", ""))
    project, bucket, builder = builder_id(given.realm, bucket, given.task.get("builder", ""))
    return {"project": project, "bucket": bucket, "builder": builder}


def _status(build: Mapping[str, Any], log: Log) -> Status | None:
    name = str(build.get("status", "STATUS_UNSPECIFIED"))
    if name in _GOING_ON:
        return None
    if name not in _STATUSES:
        log(f"Unexpected Build status {sanitized(name)}, marking the invocation as failed")
    return _STATUSES.get(name, Status.FAILED)


def _printed(build: Mapping[str, Any]) -> str:
    # An empty message is set all the same and is printed; other empty values are as good as absent.
    document: Any = {name: build[name] for name in _ORDER if build.get(name) or build.get(name) == {}}
    for path in _FREE_FORM:
        document = _with_struct(document, path)
    return go_json.message(document)


def _with_struct(part: Any, path: Sequence[str]) -> Any:
    """Return a value with the object at ``path``, if there is one, marked as free-form."""
    if not isinstance(part, Mapping):
        return part
    if not path:
        return go_json.struct(part)
    name, *rest = path
    return {**part, name: _with_struct(part[name], rest)} if name in part else part
