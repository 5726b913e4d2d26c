"""A Buildbucket server of a world, in both protocols, with builds that take their time.

The protocol v2 remembers a request ID for a minute, per caller and not per builder, as the service promises. The cache
of v1 remembers it about as long, and may lose it. A canceled build that has started runs on for some seconds.

In favor of clients of v1, because none could work without it, the cache loses no ID of a build that a lagging search
did not show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.storm.choices import Choices
from emulator.storm.faults import Fault, Kind
from emulator.storm.history import Build, History, Request
from emulator.storm.kernel import Kernel
from emulator.storm.wire import HttpRequest, Reply
from luci_scheduler.core.instants import MINUTE, SECOND, Instant

__all__ = ["BuildServer", "Notice"]

_KNOWN = 60 * SECOND
"""How long a request ID is known (https://cloud.google.com/apis/design/design_patterns#request_duplication, and the
comment of ``ScheduleBuildRequest.request_id``)."""
_LONGEST = 8 * MINUTE
_CANCELING = 30
"""The longest time that a started build needs to stop, in seconds."""
_CODES = {
    "UNAVAILABLE": (14, 503),
    "RESOURCE_EXHAUSTED": (8, 429),
    "PERMISSION_DENIED": (7, 403),
    "NOT_FOUND": (5, 404),
}
_V1_METHODS = {"PUT": "put", "GET": "get", "POST": "cancel"}


@dataclass(frozen=True, slots=True)
class Notice:
    """A message about a build for its topic."""

    topic: str
    attributes: Mapping[str, str]
    data: bytes


@dataclass(slots=True)
class _Job:
    """A build with what the server alone knows."""

    build: Build
    tags: Sequence[tuple[str, str]]
    place: Mapping[str, str]
    """The builder, as the request names it."""
    topic: str
    token: str
    """As the request carries it: base64 in v2."""
    is_v1: bool
    statuses: list[tuple[Instant, str]] = field(default_factory=list)
    is_hidden: bool = False
    """Whether the last search did not show it."""

    def status_at(self, instant: int) -> str:
        """Return the status at an instant, the first one before its creation."""
        seen = [status for at, status in self.statuses if at <= instant]
        return seen[-1] if seen else self.statuses[0][1]


class BuildServer:
    """One server.

    Args:
        host: its name in configs.
        kernel: the clock.
        choices: decide how long a build takes and how it ends.
        history: gets builds and requests.
        changed: called after each change of a build.
        publish: sends a notification.
    """

    part = "builds"

    def __init__(
        self,
        host: str,
        kernel: Kernel,
        choices: Choices,
        history: History,
        changed: Callable[[Build], None],
        publish: Callable[[Notice], None],
    ) -> None:
        self._host = host
        self._kernel = kernel
        self._choices = choices
        self._history = history
        self._changed = changed
        self._publish = publish
        self._jobs: dict[str, _Job] = {}
        self._known: dict[str, tuple[Instant, _Job]] = {}

    def method(self, request: HttpRequest) -> str:
        """Return the name of the called method."""
        if request.path.startswith("/prpc/"):
            return f"buildbucket.{request.path.rpartition('/')[2]}"
        is_search = request.path.endswith("/search")
        return f"buildbucket.v1.{'search' if is_search else _V1_METHODS[request.method]}"

    def refusal(self, request: HttpRequest, fault: Fault | None) -> Reply | None:
        """Return the answer of a server that refuses."""
        match fault.kind if fault else None:
            case None | Kind.BUILD_UNAVAILABLE:
                return _refused(request, "UNAVAILABLE")
            case Kind.BUILD_QUOTA if fault:
                return _refused(request, "RESOURCE_EXHAUSTED", pause=fault.amount)
            case Kind.BUILD_DENIED:
                return _refused(request, "PERMISSION_DENIED")
        return None

    def answer(self, request: HttpRequest, *, as_of: int, fault: Fault | None) -> Reply:
        """Carry a request out."""
        name = self.method(request).removeprefix("buildbucket.")
        self._history.counts[name] += 1
        forgets = fault is not None and fault.kind is Kind.BUILD_ID_FORGOTTEN
        match name:
            case "ScheduleBuild":
                return self._scheduled(json.loads(request.body))
            case "SearchBuilds":
                return self._searched(json.loads(request.body), as_of)
            case "GetBuild":
                return self._got(str(json.loads(request.body)["id"]), as_of)
            case "CancelBuild":
                return self._canceled(str(json.loads(request.body)["id"]))
            case "v1.put":
                return self._put(json.loads(request.body), forgets=forgets)
            case "v1.search":
                return self._v1_searched(request.query, as_of)
            case "v1.get":
                return self._v1_got(request.path.rpartition("/")[2], as_of)
            case _:
                return self._v1_canceled(request.path.split("/")[-2])

    def _scheduled(self, body: dict[str, Any]) -> Reply:
        known = self._recall(body["requestId"])
        if known is not None:
            return self._v2(known)
        tags = [(tag["key"], tag.get("value", "")) for tag in body.get("tags", ())]
        notify = body.get("notify") or {}
        job = self._create(
            body["requestId"], tags, body["builder"], notify.get("pubsubTopic", ""), notify.get("userData", ""),
            is_v1=False,
        )  # fmt: skip
        self._note("ScheduleBuild", body)
        return self._v2(job)

    def _put(self, body: dict[str, Any], *, forgets: bool) -> Reply:
        known = self._recall(body["client_operation_id"], forgets=forgets)
        if known is not None:
            return self._v1(known)
        tags = [(key, value) for key, _, value in (tag.partition(":") for tag in body["tags"])]
        builder = json.loads(body["parameters_json"])["builder_name"]
        place, callback = {"bucket": body["bucket"], "builder": builder}, body.get("pubsub_callback") or {}
        job = self._create(
            body["client_operation_id"], tags, place, callback.get("topic", ""), callback.get("auth_token", ""),
            is_v1=True,
        )  # fmt: skip
        self._note("v1.put", body)
        return self._v1(job)

    def _note(self, method: str, body: Mapping[str, Any]) -> None:
        self._history.requests.append(Request(self._kernel.now(), self._host, method, json.dumps(body)))

    def _recall(self, request_id: str, *, forgets: bool = False) -> _Job | None:
        at, job = self._known.get(request_id, (Instant(0), None))
        if job is None or self._kernel.now() - at >= _KNOWN or (forgets and not job.is_hidden):
            return None
        return job

    def _create(
        self,
        request_id: str,
        tags: Sequence[tuple[str, str]],
        place: Mapping[str, str],
        topic: str,
        token: str,
        *,
        is_v1: bool,
    ) -> _Job:
        now, named = self._kernel.now(), dict(tags)
        draw = self._choices.draw("platform/build")
        starts = Instant(now + draw.between(0, 20) * SECOND + draw.below(SECOND))
        ends = Instant(starts + 20 * SECOND + draw.below(_LONGEST // SECOND) * SECOND)
        outcome = ("SUCCESS", "SUCCESS", "SUCCESS", "FAILURE", "INFRA_FAILURE")[draw.second % 5]
        build = Build(
            id=str(9_000_000_000 - len(self._history.builds)),
            server=self._host,
            builder=place["builder"],
            job_id=named.get("scheduler_job_id", ""),
            invocation_id=int(named.get("scheduler_invocation_id", 0)),
            request_id=request_id,
            created=now,
            ends=ends,
            outcome=outcome,
        )
        job = _Job(build, tags, place, topic, token, is_v1, [(now, "SCHEDULED")])
        self._jobs[build.id] = job
        self._known[request_id] = now, job
        self._history.builds.append(build)
        self._kernel.at(starts, lambda: self._start(job))
        self._kernel.at(ends, lambda: self._end(job, outcome))
        self._changed(build)
        return job

    def _start(self, job: _Job) -> None:
        if job.build.is_live:
            job.build.started = self._kernel.now()
            self._become(job, "STARTED")

    def _end(self, job: _Job, status: str) -> None:
        if job.build.is_live:
            job.build.ended = self._kernel.now()
            self._become(job, status)

    def _become(self, job: _Job, status: str) -> None:
        job.build.status = status
        job.statuses.append((self._kernel.now(), status))
        self._changed(job.build)
        if job.topic:
            self._publish(_v1_notice(job) if job.is_v1 else _v2_notice(job))

    def _cancel(self, job: _Job) -> None:
        if job.build.started is None:
            self._end(job, "CANCELED")
            return
        seconds = self._choices.draw("platform/cancel").below(_CANCELING)
        self._kernel.at(self._kernel.now() + seconds * SECOND, lambda: self._end(job, "CANCELED"))

    def _searched(self, body: Mapping[str, Any], as_of: int) -> Reply:
        predicate = body["predicate"]
        wanted = [(tag["key"], tag["value"]) for tag in predicate["tags"]]
        found = self._found(wanted, predicate["builder"], as_of)
        return _success({"builds": [_v2_build(job, job.status_at(as_of)) for job in found[: body["pageSize"]]]})

    def _found(self, wanted: Sequence[tuple[str, str]], place: Mapping[str, str], as_of: int) -> list[_Job]:
        """Return builds, the newest first."""
        found = [
            job
            for job in reversed(self._jobs.values())
            if place.items() <= job.place.items() and set(wanted) <= set(job.tags)
        ]
        for job in found:
            job.is_hidden = job.build.created > as_of
        return [job for job in found if job.build.created <= as_of]

    def _got(self, build_id: str, as_of: int) -> Reply:
        job = self._jobs.get(build_id)
        return _v2_error("NOT_FOUND") if job is None else _success(_v2_build(job, job.status_at(as_of)))

    def _canceled(self, build_id: str) -> Reply:
        job = self._jobs.get(build_id)
        if job is None:
            return _v2_error("NOT_FOUND")
        self._cancel(job)
        return self._v2(job)

    def _v2(self, job: _Job) -> Reply:
        return _success(_v2_build(job, job.build.status))

    def _v1_searched(self, query: Sequence[tuple[str, str]], as_of: int) -> Reply:
        tags = [value.partition(":") for key, value in query if key == "tag"]
        bucket = dict(query)["bucket"]
        found = self._found([(key, value) for key, _, value in tags], {"bucket": bucket}, as_of)
        return Reply.of({"builds": [_v1_build(job, job.status_at(as_of)) for job in found]})

    def _v1_got(self, build_id: str, as_of: int) -> Reply:
        job = self._jobs.get(build_id)
        if job is None:
            return Reply.of({"error": {"reason": "BUILD_NOT_FOUND", "message": "no such build"}})
        return Reply.of({"build": _v1_build(job, job.status_at(as_of))})

    def _v1_canceled(self, build_id: str) -> Reply:
        job = self._jobs.get(build_id)
        if job is None:
            return Reply.of({"error": {"reason": "BUILD_NOT_FOUND", "message": "no such build"}})
        if not job.build.is_live and job.build.status != "CANCELED":
            return Reply.of({"error": {"reason": "BUILD_IS_COMPLETED", "message": "it has ended"}})
        self._end(job, "CANCELED")  # in v1, a canceled build is completed at once
        return self._v1(job)

    def _v1(self, job: _Job) -> Reply:
        return Reply.of({"build": _v1_build(job, job.build.status)})


def _success(document: Mapping[str, Any]) -> Reply:
    return Reply.of(document, X_Prpc_Grpc_Code="0")


def _v2_error(name: str, **headers: str) -> Reply:
    code, status = _CODES[name]
    return Reply(
        status, name.lower().encode(), {"X-Prpc-Grpc-Code": str(code), "Content-Type": "text/plain", **headers}
    )


def _refused(request: HttpRequest, name: str, pause: int = 0) -> Reply:
    headers = {"Retry-After": str(pause)} if pause else {}
    if request.path.startswith("/prpc/"):
        return _v2_error(name, **headers)
    status = _CODES[name][1]
    body = {"error": {"code": status, "message": name.lower()}}
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})


def _v2_build(job: _Job, status: str) -> dict[str, Any]:
    document = {"id": job.build.id, "builder": dict(job.place), "status": status, "createdBy": "user:scheduler@p"}
    return document if status in ("SCHEDULED", "STARTED") else {**document, "summaryMarkdown": f"It is {status}"}


def _v1_build(job: _Job, status: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": job.build.id,
        "bucket": job.place["bucket"],
        "status": status if status in ("SCHEDULED", "STARTED") else "COMPLETED",
        "tags": [f"{key}:{value}" for key, value in job.tags],
        "url": f"https://ci.chromium.org/b/{job.build.id}",
    }
    match status:
        case "SUCCESS":
            document["result"] = "SUCCESS"
        case "FAILURE" | "INFRA_FAILURE":
            document |= {
                "result": "FAILURE",
                "failure_reason": "BUILD_FAILURE" if status == "FAILURE" else "INFRA_FAILURE",
            }
        case "CANCELED":
            document |= {"result": "CANCELED", "cancelation_reason": "CANCELED_EXPLICITLY"}
    return document


def _v1_notice(job: _Job) -> Notice:
    body = {"build": _v1_build(job, job.build.status), "hostname": job.build.server, "user_data": ""}
    attributes = {"build_id": job.build.id, "auth_token": job.token}
    return Notice(job.topic, attributes, json.dumps(body).encode())


def _v2_notice(job: _Job) -> Notice:
    body = {"buildPubsub": {"build": _v2_build(job, job.build.status)}, "userData": job.token}
    return Notice(job.topic, {}, json.dumps(body).encode())
