"""Buildbucket v1 as of February 2021: requests, answers and log lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luci_scheduler.core import go_json, log_lines
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.foreign_json import read_answer
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.invocation import Status
from luci_scheduler.managers.buildbucket.build_request import (
    BuildRequest,
    Log,
    agree,
    common_tags,
    merged_properties,
    our_tags,
    shown_triggers,
)
from luci_scheduler.managers.buildbucket.builder_id import canonical_bucket
from luci_scheduler.managers.buildbucket.protocol_client import Build, announce_topic, messages
from luci_scheduler.ports import Buildbucket, BuildbucketError

__all__ = ["V1Client"]

_WITHOUT_SCHEDULER_PROPERTY = ("luci.chromium.", "luci.chrome.")

_BUILD_FIELDS = (
    "bucket", "canary", "canary_preference", "cancelation_reason", "completed_ts", "created_by", "created_ts",
    "experimental", "failure_reason", "id", "lease_expiration_ts", "lease_key", "parameters_json", "project", "result",
    "result_details_json", "retry_of", "service_account", "started_ts", "status", "status_changed_ts", "tags",
    "updated_ts", "url", "utcnow_ts",
)  # fmt: skip
"""The fields of a build that the original's client knows. The log of an answer omits all other fields."""
_ERROR_FIELDS = ("message", "reason")


class V1Client:
    """The client of the v1 protocol."""

    def __init__(self, wire: Buildbucket) -> None:
        self._wire = wire

    def prepare(self, request: BuildRequest, log: Log) -> dict[str, Any]:
        """Return the body of ``PUT builds``. Log it with its token hidden."""
        triggers = shown_triggers(request, log)
        announce_topic(request, log)
        body = self._body(request, triggers)
        shown = dict(body)
        if request.topic:
            shown["pubsub_callback"] = {**body["pubsub_callback"], "auth_token": "..."}
        log(log_lines.REQUEST.format(request=go_json.indented(shown)))
        return body

    def _body(self, request: BuildRequest, triggers: list[Mapping[str, Any]]) -> dict[str, Any]:
        bucket, builder = request.task.get("bucket", ""), request.task.get("builder", "")
        properties = merged_properties(request)
        if not bucket.startswith(_WITHOUT_SCHEDULER_PROPERTY):
            properties["$recipe_engine/scheduler"] = {"hostname": request.hostname, "triggers": triggers}
        tags = [f"{key}:{value}" for key, value in [("builder", builder), *common_tags(request)]]
        body = {
            "bucket": bucket,
            "client_operation_id": str(request.invocation_id),
            "parameters_json": go_json.compact({"builder_name": builder, "properties": properties}),
            "pubsub_callback": {"auth_token": request.token, "topic": request.topic} if request.topic else None,
            "tags": [*tags, *(request.task.get("tags") or ()), *request.tags],
        }
        return {name: value for name, value in body.items() if value}

    def schedule(self, request: BuildRequest, body: Mapping[str, Any]) -> dict[str, Any]:
        """Request the build, under the ID of ``request``."""
        numbered = {**body, "client_operation_id": request.request_id}
        return self._wire.v1(request.task["server"], "PUT", "builds", numbered, until=request.until)

    def find(self, request: BuildRequest) -> list[dict[str, Any]]:
        """Return the builds of earlier requests, newest first, each in the form of an answer."""
        query = [
            ("bucket", request.task.get("bucket", "")),
            ("tag", f"scheduler_invocation_id:{request.invocation_id}"),
            ("tag", f"scheduler_job_id:{request.job_id}"),
            ("tag", f"builder:{request.task.get('builder', '')}"),
            # A search omits builds of experimental builders unless it says this.
            ("include_experimental", "true"),
        ]
        found = self._wire.v1(request.task["server"], "GET", "search", query=query, until=request.until)
        if error := _error_of(found):
            raise BuildbucketError(*error, transient=False)
        return [{"build": build} for build in messages(found.get("builds"))]

    def is_ours(self, request: BuildRequest, answer: Mapping[str, Any]) -> bool:
        """Whether an answer names our job and invocation. The tags decide; without tags, the bucket does."""
        build = answer.get("build")
        if not isinstance(build, Mapping):
            return True
        if isinstance(tags := build.get("tags"), list) and tags:
            pairs = [(key, value) for key, _, value in (str(tag).partition(":") for tag in tags)]
            return agree(pairs, {**our_tags(request), "builder": request.task.get("builder", "")})
        bucket = _string(build, "bucket")
        return not bucket or canonical_bucket(bucket) == canonical_bucket(request.task.get("bucket", ""))

    def is_refusal(self, answer: Mapping[str, Any]) -> bool:
        """Whether the answer is an error of the service, which v1 sends with HTTP status 200."""
        return _error_of(answer) is not None

    def build_id(self, answer: Mapping[str, Any]) -> str:
        """Return the build ID in an answer, unchecked."""
        build = answer.get("build")
        return str(build.get("id", "")) if isinstance(build, Mapping) else ""

    def is_active(self, answer: Mapping[str, Any]) -> bool:
        """Whether the build of an answer is still active."""
        build = answer.get("build")
        return not isinstance(build, Mapping) or build.get("status") != "COMPLETED"

    def launched(self, request: BuildRequest, answer: Mapping[str, Any], log: Log) -> Build:  # noqa: ARG002
        """Read and log the answer to a request for a build.

        Raises:
            PermanentError: the server refused, or the answer has no build.
        """
        log(log_lines.V1_RESPONSE.format(answer=_printed(answer)))
        build = _build_of(answer, log)
        log(log_lines.TASK_URL.format(url=sanitized(str(build.get("url", "")))))
        status = _examined(build, log) if build.get("status") == "COMPLETED" else None
        return Build(str(build["id"]), str(build.get("url", "")), status)

    def get(self, server: str, build_id: str) -> dict[str, Any]:
        """Fetch a build, or the service's own error.

        Raises:
            BuildbucketError: the server did not answer, or answered neither with a build nor with an error. The latter
                says nothing about the build, so it is transient.
        """
        answer = self._wire.v1(server, "GET", f"builds/{build_id}")
        if not (_error_of(answer) or self.build_id(answer)):
            raise BuildbucketError("200", "the answer holds no build", transient=True)
        return answer

    def checked(self, answer: Mapping[str, Any], log: Log) -> Status | None:
        """Read and log the answer to a status check. Return the final status, or None while the build is active.

        Raises:
            PermanentError: the answer is an error, or has no build.
        """
        try:
            build = _build_of(answer, log)
        except PermanentError:
            log(log_lines.V1_RESPONSE.format(answer=_printed(answer)))
            raise
        status = _examined(build, log)
        if status is not None:
            log(log_lines.V1_BUILD.format(answer=_printed(answer)))
        return status

    def summary(self, answer: Mapping[str, Any]) -> str:
        """Return the error or the remark in the build's details; otherwise the reason of its failure."""
        build = answer.get("build")
        if not isinstance(build, Mapping):
            return ""
        details = _details(_string(build, "result_details_json"))
        texts = [_text(details, "error", "message"), _text(details, "ui", "info")]
        reasons = [_string(build, name) for name in ("failure_reason", "cancelation_reason")]
        return next((text for text in (*texts, *reasons) if text), "")

    def cancel(self, server: str, build_id: str) -> None:
        """Cancel a build; do nothing if it has ended.

        Raises:
            PermanentError: the server refuses.
        """
        answer = self._wire.v1(server, "POST", f"builds/{build_id}/cancel", {})
        reason, _ = _error_of(answer) or ("", "")
        if reason != "BUILD_IS_COMPLETED":
            _refuse_error(answer)


def _build_of(answer: Mapping[str, Any], log: Log) -> Mapping[str, Any]:
    if error := _error_of(answer):
        reason, message = error
        log(log_lines.V1_ERROR.format(reason=quote(reason), message=message))
        _refuse_error(answer)
    build = answer.get("build")
    if not isinstance(build, Mapping) or not build.get("id"):
        log(log_lines.V1_INVALID.format())
        raise PermanentError("the buildbucket response is not valid, missing 'build'")
    return build


def _refuse_error(answer: Mapping[str, Any]) -> None:
    if error := _error_of(answer):
        reason, message = error
        raise PermanentError(f"buildbucket error {quote(reason)} - {message}")


def _error_of(answer: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return reason and message if the answer is an error. A proxy in front of the server may send any shape."""
    error = answer.get("error")
    if isinstance(error, Mapping):
        return _string(error, "reason"), sanitized(_string(error, "message"))
    return ("", sanitized(str(error))) if error else None


def _string(part: Mapping[str, Any], name: str) -> str:
    value = part.get(name)
    return value if isinstance(value, str) else ""


def _details(text: str) -> Mapping[str, Any]:
    try:
        return read_answer(text.encode(errors="replace"))
    except ValueError:
        return {}


def _text(details: Mapping[str, Any], group: str, name: str) -> str:
    part = details.get(group)
    return _string(part, name) if isinstance(part, Mapping) else ""


def _examined(build: Mapping[str, Any], log: Log) -> Status | None:
    names = ("status", "result", "failure_reason", "cancelation_reason")
    fields = {name: quote(_string(build, name)) for name in names}
    log(log_lines.V1_STATUS.format(build_id=sanitized(str(build["id"])), **fields))
    if build.get("status") in ("SCHEDULED", "STARTED"):
        return None
    succeeded = build.get("status") == "COMPLETED" and build.get("result") == "SUCCESS"
    return Status.SUCCEEDED if succeeded else Status.FAILED


def _printed(answer: Mapping[str, Any]) -> str:
    document = {}
    for name, known in (("build", _BUILD_FIELDS), ("error", _ERROR_FIELDS)):
        if isinstance(part := answer.get(name), Mapping):
            document[name] = {field: part[field] for field in known if part.get(field)}
    return go_json.indented(document)
