"""A Buildbucket as awkward as its contract allows.

It forgets requests, shows builds late in searches, and has a quota.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.clock import SteppedClock
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.ports import BuildbucketError


@dataclass
class ModelBuild:
    """A build in the model."""

    id: str
    request_id: str
    request: Mapping[str, Any]
    created: Instant
    status: str = "SCHEDULED"


@dataclass
class Model:
    """``ports.Buildbucket`` of both protocols; every duration in nanoseconds.

    ``remembers`` is how long a request ID is known, ``lag`` how late a new build appears in searches, ``quota`` how
    many calls a second are answered (0: all). ``call_time`` passes with every call.
    """

    clock: SteppedClock
    remembers: int = MINUTE
    lag: int = 0
    quota: int = 0
    retry_after: int = 0
    call_time: int = 0
    shows_tags: bool = False
    builds: dict[str, ModelBuild] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    throttled: int = 0
    before: Callable[[str], None] = lambda _: None
    """Called before each call, with its method; may raise."""
    after: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _, answer: answer
    """Called with each answer; may raise, or return another one."""
    _second: tuple[int, int] = (0, 0)

    def v2(self, _server: str, method: str, request: Any, *, until: Instant | None = None) -> dict[str, Any]:
        """Answer a call of v2."""
        self._begin(method)
        return self.after(method, getattr(self, f"_{method}")(request))

    def v1(
        self,
        _server: str,
        http_method: str,
        path: str,
        body: Any = None,
        query: Any = (),
        *,
        until: Instant | None = None,
    ) -> dict[str, Any]:
        """Answer a call of v1."""
        method = {"PUT": "ScheduleBuild", "POST": "CancelBuild"}.get(
            http_method, "SearchBuilds" if path == "search" else "GetBuild"
        )
        self._begin(method)
        if method == "ScheduleBuild":
            return self.after(method, {"build": self._v1(self._made(body["client_operation_id"], body))})
        if method == "SearchBuilds":
            wanted = {value for name, value in query if name == "tag"}
            found = [build for build in self._seen() if wanted <= set(build.request["tags"])]
            return self.after(method, {"builds": [self._v1(build) for build in found]})
        build = self.builds[path.split("/")[1]]
        if method == "CancelBuild":
            self._cancel(build)
        return self.after(method, {"build": self._v1(build)})

    @property
    def live(self) -> list[str]:
        """Return the IDs of builds that have neither ended nor been canceled."""
        return [
            build.id for build in self.builds.values() if build.status == "SCHEDULED" and build.id not in self.canceled
        ]

    def _begin(self, method: str) -> None:
        self.calls.append(method)
        self.clock.advance(self.call_time)
        self.before(method)
        second, used = self._second
        now = self.clock.now() // SECOND
        self._second = (now, 1 if now != second else used + 1)
        if self.quota and self._second[1] > self.quota:
            self.throttled += 1
            raise BuildbucketError(
                "RESOURCE_EXHAUSTED", "quota", transient=True, throttled=True, retry_after=self.retry_after
            )

    def _made(self, request_id: str, request: Mapping[str, Any]) -> ModelBuild:
        now = self.clock.now()
        for build in self.builds.values():
            if build.request_id == request_id and now - build.created < self.remembers:
                return build
        build = ModelBuild(str(9000 - len(self.builds)), request_id, request, now)
        self.builds[build.id] = build
        return build

    def _seen(self) -> list[ModelBuild]:
        now = self.clock.now()
        return [build for build in reversed(self.builds.values()) if now - build.created >= self.lag]

    def _cancel(self, build: ModelBuild) -> None:
        if build.id not in self.canceled:
            self.canceled.append(build.id)

    def _v1(self, build: ModelBuild) -> dict[str, Any]:
        tags = sorted(build.request["tags"])
        return {"id": build.id, "status": build.status, "bucket": build.request["bucket"], "tags": tags}

    def _v2(self, build: ModelBuild) -> dict[str, Any]:
        answer = {"id": build.id, "builder": dict(build.request["builder"]), "status": build.status}
        return answer | ({"tags": list(build.request["tags"])} if self.shows_tags else {})

    def _ScheduleBuild(self, request: Any) -> dict[str, Any]:  # noqa: N802 - the method's name
        return self._v2(self._made(request["requestId"], request))

    def _SearchBuilds(self, request: Any) -> dict[str, Any]:  # noqa: N802
        predicate = request["predicate"]

        def matches(build: ModelBuild) -> bool:
            tags = build.request["tags"]
            return build.request["builder"] == predicate["builder"] and all(tag in tags for tag in predicate["tags"])

        found = [self._v2(build) for build in self._seen() if matches(build)]
        return {"builds": found} if found else {}

    def _GetBuild(self, request: Any) -> dict[str, Any]:  # noqa: N802
        return self._v2(self.builds[request["id"]])

    def _CancelBuild(self, request: Any) -> dict[str, Any]:  # noqa: N802
        self._cancel(self.builds[request["id"]])
        return self._v2(self.builds[request["id"]])
