"""The v1 API of Buildbucket, as of 2021: its methods, without HTTP."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

from werkzeug.datastructures import MultiDict

from emulator.buildbucket.builds import Build, BuildSpec
from emulator.buildbucket.identifiers import BuilderId, parse_v1_bucket
from emulator.buildbucket.service import Forbidden, OverrideError, Service, merge_properties
from emulator.buildbucket.v1_build import build_to_v1
from emulator.buildbucket.v1_requests import BadRequest, PutRequest, Refused, parse_put
from luci_scheduler.core.instants import MINUTE

__all__ = ["BuildsV1", "ForbiddenV1", "error_body"]

_OPERATION_MEMORY = MINUTE
_DEFAULT_PAGE, _MAX_PAGE = 10, 100
_INT64_MAX = 2**63 - 1


class ForbiddenV1(Exception):  # noqa: N818 - a response: HTTP 403
    """The caller has no permission; the text is the whole message."""


class BuildsV1:
    """The methods that a scheduler uses, and their batches. Each returns the JSON of a successful reply.

    All methods raise `BadRequest` (HTTP 400), `ForbiddenV1` (403) and `Refused` (HTTP 200 with an error object).
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def put(self, body: object, caller: str) -> dict[str, Any]:
        """``PUT builds``: create a build, or return the build of the same operation ID within a minute."""
        request = parse_put(body)
        split = parse_v1_bucket(request.bucket)
        if split is None:
            raise _no_access(caller, request.bucket)
        builder = BuilderId(*split, request.builder)
        try:
            self._service.check_writable(builder.bucket_name, caller)
        except Forbidden as error:
            if not error.visible:
                raise _no_access(caller, builder.v1_bucket) from error
            raise ForbiddenV1(f"User {caller} cannot add builds to buckets ['{builder.bucket_name}']") from error
        key = f"{caller}/{request.operation_id}" if request.operation_id else ""
        store = self._service.store
        existing = store.remembered(key, _OPERATION_MEMORY)
        if existing is not None:
            return self._reply(existing)
        build, _ = store.create(self._spec(request, builder, caller))
        # As in the service, the key is written after the build without a transaction: two concurrent calls create two
        # builds.
        store.remember(key, build)
        self._service.life_cycle.created(build)
        return self._reply(build)

    def put_batch(self, body: object, caller: str) -> dict[str, Any]:
        """``PUT builds/batch``."""
        requests = body.get("builds") if isinstance(body, Mapping) else None
        if not isinstance(requests, list):
            raise BadRequest("Message PutBatchRequestMessage is missing required field builds")
        if not all(isinstance(request, Mapping) for request in requests):
            raise BadRequest("Message PutRequestMessage must be an object")
        results = []
        for request in requests:
            operation = (
                {"client_operation_id": request["client_operation_id"]} if request.get("client_operation_id") else {}
            )
            try:
                results.append({**operation, **self.put(request, caller)})
            except Refused as error:
                results.append({**operation, **error_body(error)})
        return {"results": results}

    def get(self, build_id: str, caller: str) -> dict[str, Any]:
        """``GET builds/{id}``."""
        return self._reply(self._find(build_id, caller))

    def cancel(self, build_id: str, body: object, caller: str) -> dict[str, Any]:
        """``POST builds/{id}/cancel``: the build has ended when this returns."""
        build = self._find(build_id, caller)
        try:
            self._service.check_writable(build.spec.builder.bucket_name, caller)
        except Forbidden as error:
            raise ForbiddenV1(f"User {caller} cannot cancel build {build.id}") from error
        summary = _cancel_message(body)
        return self._reply(self._service.life_cycle.cancel_at_once(build, caller, summary))

    def cancel_batch(self, body: object, caller: str) -> dict[str, Any]:
        """``POST builds/cancel``."""
        build_ids = body.get("build_ids") if isinstance(body, Mapping) else None
        if not isinstance(build_ids, list):
            raise BadRequest("Message CancelBatchRequestBodyMessage is missing required field build_ids")
        results = []
        for build_id in map(str, build_ids):
            try:
                results.append({"build_id": build_id, **self.cancel(build_id, body, caller)})
            except Refused as error:
                results.append({"build_id": build_id, **error_body(error)})
        return {"results": results}

    def retry(self, build_id: str, body: object, caller: str) -> dict[str, Any]:
        """``PUT builds/{id}/retry``: a new build like an old build, with the callback of this request."""
        old = self._find(build_id, caller)
        message = body if isinstance(body, Mapping) else {}
        parameters = {**old.spec.v1_parameters, "builder_name": old.spec.builder.builder}
        parameters["properties"] = dict(old.spec.requested_properties)
        request = {
            "bucket": old.spec.builder.v1_bucket,
            "parameters_json": json.dumps(parameters),
            "tags": [f"{key}:{value}" for key, value in old.spec.tags],
            "client_operation_id": message.get("client_operation_id"),
            "pubsub_callback": message.get("pubsub_callback"),
        }
        return self.put(request, caller)

    def get_bucket(self, bucket: str, caller: str) -> dict[str, Any]:
        """``GET buckets/{bucket}``."""
        split = parse_v1_bucket(bucket)
        if split is None or not self._service.registry.may_read("/".join(split), caller):
            raise _no_access(caller, bucket)
        return {"name": f"luci.{split[0]}.{split[1]}", "project_id": split[0]}

    def search(self, query: MultiDict[str, str], caller: str) -> dict[str, Any]:
        """``GET search``, newest first. A reply without ``next_cursor`` is the last page."""
        limit = _number(query.get("max_builds", str(_DEFAULT_PAGE)), "max_builds")
        cursor = _decode_cursor(query["start_cursor"]) if query.get("start_cursor") else 0
        buckets = {self._readable(bucket, caller) for bucket in query.getlist("bucket")}
        found = (
            build
            for build in self._service.store.newest_first(after=cursor)
            if (build.spec.builder.bucket_name in buckets if buckets else self._may_read(build, caller))
            and self._matches(build, query)
        )
        size = max(1, min(limit, _MAX_PAGE))
        page = list(islice(found, size))
        reply: dict[str, Any] = {"builds": [self._render(build) for build in page]} if page else {}
        return {**reply, "next_cursor": _encode_cursor(page[-1].id)} if len(page) == size else reply

    def _readable(self, bucket: str, caller: str) -> str:
        split = parse_v1_bucket(bucket)
        if split is None or not self._service.registry.may_read("/".join(split), caller):
            raise _no_access(caller, bucket)
        return "/".join(split)

    def _matches(self, build: Build, query: MultiDict[str, str]) -> bool:
        if query.get("status") and not self._has_status(build, query["status"]):
            return False
        shown = self._render(build)
        names = ("result", "failure_reason", "cancelation_reason", "created_by")
        if any(query.get(name) and shown.get(name) != query[name] for name in names):
            return False
        low = _number(query.get("creation_ts_low", "0"), "creation_ts_low")
        high = _number(query.get("creation_ts_high", str(_INT64_MAX)), "creation_ts_high")
        if build.spec.experimental and query.get("include_experimental", "").lower() not in {"true", "1"}:
            return False
        tags = {f"{key}:{value}" for key, value in build.spec.tags}
        return tags.issuperset(query.getlist("tag")) and low <= build.create_time // 1000 < high

    def _has_status(self, build: Build, status: str) -> bool:
        return not build.ended if status == "INCOMPLETE" else self._render(build)["status"] == status

    def _spec(self, request: PutRequest, builder: BuilderId, caller: str) -> BuildSpec:
        config = self._service.registry.find(builder)
        if config is None:
            raise Refused(
                "BUILDER_NOT_FOUND", f'builder "{builder.builder}" not found in bucket "{builder.bucket_name}"'
            )
        try:
            properties = merge_properties(config, request.properties)
        except OverrideError as error:
            raise Refused("INVALID_INPUT", f'property "{error}" cannot be overridden') from error
        return BuildSpec(
            era="v1",
            builder=builder,
            created_by=caller,
            config=config,
            tags=request.tags,
            requested_properties=request.properties,
            properties=properties,
            gitiles_commit=request.gitiles_commit,
            callback=request.callback,
            priority=config.priority,
            critical=config.critical,
            experiments=config.experiments,
            scheduling_timeout=config.scheduling_timeout,
            execution_timeout=config.execution_timeout,
            grace_period=config.grace_period,
            cipd_version=config.cipd_version,
            v1_parameters=request.parameters,
            canary=request.canary,
            experimental=request.experimental,
        )

    def _find(self, build_id: str, caller: str) -> Build:
        build = self._service.store.get(_number(build_id, "id"))
        if build is None or not self._may_read(build, caller):
            raise Refused("BUILD_NOT_FOUND", "Requested build was not found.")
        return build

    def _may_read(self, build: Build, caller: str) -> bool:
        return self._service.registry.may_read(build.spec.builder.bucket_name, caller)

    def _render(self, build: Build) -> dict[str, Any]:
        return build_to_v1(build, self._service.hostname, self._service.clock.now())

    def _reply(self, build: Build) -> dict[str, Any]:
        return {"build": self._render(build)}


def error_body(error: Refused) -> dict[str, Any]:
    """Return the error object of a reply with HTTP status 200."""
    return {"error": {"message": error.message, "reason": error.reason}}


def _cancel_message(body: object) -> str:
    """Return the summary in the ``result_details_json`` of a cancellation, or an empty string."""
    text = body.get("result_details_json") if isinstance(body, Mapping) else None
    if not text:
        return ""
    try:
        details = json.loads(text)
    except (RecursionError, TypeError, ValueError) as error:
        raise Refused("INVALID_INPUT", f"Could not parse result_details_json: {error}") from error
    message = details.get("error") if isinstance(details, Mapping) else None
    return str(message.get("message", "")) if isinstance(message, Mapping) else ""


def _number(text: str, name: str) -> int:
    if not text.isdecimal() or int(text) > _INT64_MAX:
        raise BadRequest(f"Invalid value for field {name}: {text}")
    return int(text)


def _encode_cursor(build_id: int) -> str:
    return base64.urlsafe_b64encode(f"id>{build_id}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        return int(text.removeprefix("id>"))
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise Refused("INVALID_INPUT", "invalid start_cursor") from error


def _no_access(caller: str, bucket: str) -> ForbiddenV1:
    return ForbiddenV1(f"User {caller} cannot access bucket '{bucket}'")
