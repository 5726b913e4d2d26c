"""The v2 API of Buildbucket: the methods of ``buildbucket.v2.Builds``, as functions from message to message."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emulator.buildbucket.builds import Build, BuildSpec, Callback
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.masks import BuildMask, MaskError
from emulator.buildbucket.protojson import DecodeError, decode_message
from emulator.buildbucket.prpc import INTERNAL, INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED, RpcError
from emulator.buildbucket.service import Forbidden, OverrideError, Service, merge_properties
from emulator.buildbucket.v2_build import build_to_json
from emulator.buildbucket.v2_search import search
from emulator.buildbucket.validation import InvalidError, builder_from_json, check_request_id, check_schedule

__all__ = ["METHODS", "BuildsV2"]

METHODS = ("ScheduleBuild", "GetBuild", "GetBuildStatus", "CancelBuild", "SearchBuilds", "Batch")
_BATCH_KINDS = {
    "getBuild": "GetBuild",
    "searchBuilds": "SearchBuilds",
    "scheduleBuild": "ScheduleBuild",
    "cancelBuild": "CancelBuild",
    "getBuildStatus": "GetBuildStatus",
}
_WRITES = frozenset({"scheduleBuild", "cancelBuild"})
_MAX_WRITES, _MAX_READS = 200, 1000
_MAX_SUMMARY = 4000
# The service stores a properties struct in one datastore entity, which is limited to about 1 MB.
_MAX_PROPERTIES = 1_000_000
_ID_STEP = 16


class BuildsV2:
    """The methods of the service.

    Each takes the JSON of a request and the caller's identity, and returns the JSON of the reply.

    All methods raise `RpcError`. Checks are in the order of the real service.
    """

    def __init__(self, service: Service, app_id: str) -> None:
        self._service = service
        self._app_id = app_id

    def call(self, method: str, request: Any, caller: str) -> dict[str, Any]:
        """Call a method by its name."""
        handlers: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
            "ScheduleBuild": self.schedule_build,
            "GetBuild": self._get_build,
            "GetBuildStatus": self._get_build_status,
            "CancelBuild": self._cancel_build,
            "SearchBuilds": self._search_builds,
            "Batch": self._batch,
        }
        decoded = decode_request(method, request)
        return handlers[method](decoded, caller)

    def check(self, method: str, request: Any) -> None:
        """Check only the format of a request, as `call` does before it reads any build."""
        decoded = decode_request(method, request)
        if method == "ScheduleBuild":
            self._check_schedule(decoded)
        elif method in {"GetBuild", "GetBuildStatus"}:
            _check_key(decoded)
        elif method == "CancelBuild":
            _check_cancel(decoded)

    def schedule_build(self, request: dict[str, Any], caller: str, build_id: int | None = None) -> dict[str, Any]:
        """Create a build, or return the build of the same request ID; ``build_id`` is an ID reserved for a batch."""
        mask = self._check_schedule(request)
        if "templateBuildId" in request:
            request = {**self._template(request["templateBuildId"], caller), **request}
        builder = builder_from_json(request["builder"])
        self._check_permission(builder, caller, "buildbucket.builds.add")
        key = _request_key(caller, request.get("requestId", ""))
        memory = self._service.request_id_memory
        dry_run = request.get("dryRun", False)
        existing = None if dry_run else self._service.store.remembered(key, memory)
        if existing is not None:
            return self._render(existing, mask)
        spec = self._spec(request, builder, caller)
        if dry_run:
            return {"builder": builder.to_json(), "status": "SCHEDULED", "input": {"properties": dict(spec.properties)}}
        build, is_new = self._service.store.create(spec, key=key, memory=memory, build_id=build_id)
        if is_new:
            self._service.life_cycle.created(build)
        return self._render(build, mask)

    def _check_schedule(self, request: Mapping[str, Any]) -> BuildMask:
        try:
            check_schedule(request)
            if "notify" in request:
                self._check_topic(request["notify"]["pubsubTopic"])
            check_request_id(request.get("requestId", ""))
        except InvalidError as error:
            raise _bad_request(str(error)) from error
        return _mask(request)

    def _check_topic(self, topic: str) -> None:
        try:
            usable = self._service.topic_usable(topic)
        except Exception as error:
            raise InvalidError(f"notify: failed to check existence for topic {topic}") from error
        if not usable:
            raise InvalidError(
                f"notify: {self._app_id}@appspot.gserviceaccount.com account doesn't have the "
                f"'pubsub.topics.publish' or 'pubsub.topics.get' permission for {topic}"
            )

    def _spec(self, request: Mapping[str, Any], builder: BuilderId, caller: str) -> BuildSpec:
        config = self._service.registry.find(builder)
        if config is None:
            raise RpcError(NOT_FOUND, f'builder not found: "{builder.builder}"')
        requested = request.get("properties", {})
        if len(str(requested)) > _MAX_PROPERTIES:
            raise RpcError(INTERNAL, "the build is too large to store")
        try:
            properties = merge_properties(config, requested)
        except OverrideError as error:
            reason = f'builder "{builder}": property "{error}": invalid property override'
            raise _bad_request(f"generating build from request: {reason}", prefix="") from error
        experiments = request.get("experiments", {})
        kept = {name for name in config.experiments if experiments.get(name, True)}
        notify = request.get("notify")
        return BuildSpec(
            era="v2",
            builder=builder,
            created_by=caller,
            config=config,
            tags=_tags(request, builder),
            requested_properties=requested,
            properties=properties,
            gitiles_commit=request.get("gitilesCommit"),
            gerrit_changes=tuple(request.get("gerritChanges", ())),
            callback=Callback(notify["pubsubTopic"], notify.get("userData", b"")) if notify else None,
            priority=request.get("priority", config.priority),
            critical=request.get("critical", config.critical),
            experiments=tuple(sorted(kept | {name for name, wanted in experiments.items() if wanted})),
            scheduling_timeout=request.get("schedulingTimeout", config.scheduling_timeout),
            execution_timeout=request.get("executionTimeout", config.execution_timeout),
            grace_period=request.get("gracePeriod", config.grace_period),
            cipd_version=request.get("exe", {}).get("cipdVersion", config.cipd_version),
            experimental=bool(experiments.get("luci.non_production")),
        )

    def _template(self, build_id: int, caller: str) -> dict[str, Any]:
        spec = self._visible(self._service.store.get(build_id), caller).spec
        template: dict[str, Any] = {
            "builder": spec.builder.to_json(),
            "properties": dict(spec.requested_properties),
            "gitilesCommit": spec.gitiles_commit,
            "gerritChanges": list(spec.gerrit_changes),
            "tags": [
                {"key": key, "value": value} for key, value in spec.tags if key not in {"build_address", "gitiles_ref"}
            ],
        }
        return {name: value for name, value in template.items() if value}

    def _get_build(self, request: dict[str, Any], caller: str) -> dict[str, Any]:
        mask = _mask(request)
        return self._render(self._find(request, caller), mask)

    def _get_build_status(self, request: dict[str, Any], caller: str) -> dict[str, Any]:
        build = self._find(request, caller)
        if "id" in request:
            return {"id": str(build.id), "status": build.status}
        return {"builder": build.spec.builder.to_json(), "number": build.number, "status": build.status}

    def _cancel_build(self, request: dict[str, Any], caller: str) -> dict[str, Any]:
        _check_cancel(request)
        mask = _mask(request)
        build = self._visible(self._service.store.get(request["id"]), caller)
        self._check_permission(build.spec.builder, caller, "buildbucket.builds.cancel")
        return self._render(self._service.life_cycle.cancel_soon(build, caller, request["summaryMarkdown"]), mask)

    def _search_builds(self, request: dict[str, Any], caller: str) -> dict[str, Any]:
        try:
            mask = BuildMask.parse(request.get("mask"), request.get("fields", []), prefix="builds.*.")
        except MaskError as error:
            raise _bad_request(f"invalid mask: {error}") from error
        try:
            builds, token = search(self._service.store, self._service.registry, request, caller)
        except InvalidError as error:
            raise _bad_request(str(error)) from error
        reply: dict[str, Any] = {"builds": [self._render(build, mask) for build in builds]} if builds else {}
        return {**reply, "nextPageToken": token} if token else reply

    def _batch(self, request: dict[str, Any], caller: str) -> dict[str, Any]:
        items = [_batch_item(item) for item in request.get("requests", [])]
        _check_batch(items)
        next_id = self._service.store.reserve_id("v2") if any(kind == "scheduleBuild" for kind, _ in items) else 0
        responses = []
        for kind, item in items:
            try:
                if kind == "scheduleBuild":
                    decoded = decode_request("ScheduleBuild", item)
                    responses.append({kind: self.schedule_build(decoded, caller, next_id)})
                    next_id -= _ID_STEP
                else:
                    responses.append({kind: self.call(_BATCH_KINDS[kind], item, caller)})
            except RpcError as error:
                responses.append({"error": {"code": error.code, "message": error.message}})
        return {"responses": responses} if responses else {}

    def _find(self, request: Mapping[str, Any], caller: str) -> Build:
        builder = _check_key(request)
        if builder is None:
            return self._visible(self._service.store.get(request["id"]), caller)
        return self._visible(self._service.store.get_by_number(builder, request["buildNumber"]), caller)

    def _visible(self, build: Build | None, caller: str) -> Build:
        if build is None or not self._service.registry.may_read(build.spec.builder.bucket_name, caller):
            raise _not_found(caller)
        return build

    def _check_permission(self, builder: BuilderId, caller: str, permission: str) -> None:
        try:
            self._service.check_writable(builder.bucket_name, caller)
        except Forbidden as error:
            if not error.visible:
                raise _not_found(caller) from error
            text = f'"{caller}" does not have permission "{permission}" in bucket "{builder.bucket_name}"'
            raise RpcError(PERMISSION_DENIED, text) from error

    def _render(self, build: Build, mask: BuildMask) -> dict[str, Any]:
        return mask.apply(build_to_json(build, self._service.hostname))


def decode_request(method: str, request: Any) -> dict[str, Any]:
    """Decode the request message of a method.

    Raises:
        RpcError: the method is unknown, or the JSON does not match the message.
    """
    if method not in METHODS:
        raise RpcError(UNIMPLEMENTED, f"no method {method}")
    try:
        return decode_message(f"{method}Request", request)
    except DecodeError as error:
        raise RpcError(INVALID_ARGUMENT, f"could not decode body: {error}") from error


def _check_batch(items: Sequence[tuple[str, Any]]) -> None:
    """Check the items of a batch against each other and against the limits."""
    writes = sum(kind in _WRITES for kind, _ in items)
    if writes > _MAX_WRITES:
        raise _bad_request(f"the maximum allowed write request count in Batch is {_MAX_WRITES}.")
    if len(items) - writes > _MAX_READS:
        raise _bad_request(f"the maximum allowed read request count in Batch is {_MAX_READS}.")
    schedules = [item for kind, item in items if kind == "scheduleBuild" and isinstance(item, Mapping)]
    if len({bool(item.get("dryRun")) for item in schedules}) > 1:
        raise _bad_request("all ScheduleBuildRequests should have the same value for dry_run")


def _batch_item(item: Any) -> tuple[str, Any]:
    """Return the kind and the request of a batch item; an unknown kind fails the whole batch."""
    known = [(kind, item[kind]) for kind in _BATCH_KINDS if isinstance(item, Mapping) and kind in item]
    if len(known) != 1:
        raise _bad_request("request includes an unsupported type")
    return known[0]


def _check_key(request: Mapping[str, Any]) -> BuilderId | None:
    """Check the key of a build. Return the builder if the key is a build number, None if it is an ID."""
    by_number = "builder" in request or "buildNumber" in request
    if "id" in request and by_number:
        raise _bad_request("id is mutually exclusive with (builder and build_number)")
    if "id" in request:
        return None
    if not ("builder" in request and "buildNumber" in request):
        raise _bad_request("one of id or (builder and build_number) is required")
    try:
        return builder_from_json(request["builder"])
    except InvalidError as error:
        raise _bad_request(str(error)) from error


def _check_cancel(request: Mapping[str, Any]) -> None:
    if not request.get("id"):
        raise _bad_request("id is required")
    if not request.get("summaryMarkdown"):
        raise _bad_request("summary_markdown is required")
    size = len(request["summaryMarkdown"].encode())
    if size > _MAX_SUMMARY:
        raise _bad_request(f"summary_markdown: too big to accept ({size} > {_MAX_SUMMARY} bytes)")


def _mask(request: Mapping[str, Any]) -> BuildMask:
    try:
        return BuildMask.parse(request.get("mask"), request.get("fields", []))
    except MaskError as error:
        raise _bad_request(f"invalid mask: {error}") from error


def _tags(request: Mapping[str, Any], builder: BuilderId) -> tuple[tuple[str, str], ...]:
    """Return the tags of a request and the tags derived from it, sorted, without duplicates."""
    tags = {(tag["key"], tag.get("value", "")) for tag in request.get("tags", [])}
    tags.add(("builder", builder.builder))
    commit = request.get("gitilesCommit") or {}
    if commit.get("id"):
        tags.add(("buildset", f"commit/gitiles/{commit['host']}/{commit['project']}/+/{commit['id']}"))
    if commit.get("ref"):
        tags.add(("gitiles_ref", commit["ref"]))
    for change in request.get("gerritChanges", []):
        tags.add(("buildset", f"patch/gerrit/{change['host']}/{change['change']}/{change['patchset']}"))
    return tuple(sorted(tags))


def _request_key(caller: str, request_id: str) -> str:
    return hashlib.sha256(f"{caller}:{request_id}".encode()).hexdigest() if request_id else ""


def _bad_request(reason: str, prefix: str = "bad request: ") -> RpcError:
    return RpcError(INVALID_ARGUMENT, f"{prefix}{reason}")


def _not_found(caller: str) -> RpcError:
    return RpcError(NOT_FOUND, f'requested resource not found or "{caller}" does not have permission to view it')
