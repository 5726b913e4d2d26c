"""Cloud Build in memory, and a scheduler whose job builds with it, for tests of the task kind ``cloud_build``."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from luci_scheduler import entry
from luci_scheduler.bootstrap import make_app
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.ports import Clock, CloudBuildError, Gitiles
from tests.unit.api.support import POLICY
from tests.unit.engine.world import JOB, REPO, World, world_settings

SAMPLES = Path(__file__).parents[3] / "samples" / "cloud-build"
DOWN = CloudBuildError("UNAVAILABLE", "The service is currently unavailable.", transient=True)
DENIED = CloudBuildError("PERMISSION_DENIED", "The caller does not have permission", transient=False)
THROTTLED = CloudBuildError("RESOURCE_EXHAUSTED", "Quota exceeded", transient=True, throttled=True)
MISSING = CloudBuildError("NOT_FOUND", "Requested entity was not found.", transient=False)
STEPS = 'location: "us-central1" steps { name: "bash" script: "make test" }'
TRIGGER = 'location: "us-central1" trigger: "widget-ci"'

_PATH = re.compile(r"/v1/projects/([^/]+)/locations/([^/]+)/(builds|triggers)(?:/([^/:]+))?(?::(\w+))?")


def sample(name: str) -> Any:
    """Return a sample, parsed."""
    return json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def config(block: str = STEPS, repo: str = REPO) -> str:
    """Return a config with a job that the commits of one repository trigger."""
    return f"""
trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{repo}" refs: "refs/heads/main" }} triggers: "job" }}
job {{ id: "job" cloud_build {{ {block} }} }}
"""


class FakeCloudBuild:
    """``ports.CloudBuild`` with builds in memory. A list shows a build after ``lag`` seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.builds: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.paths: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.limits: list[float] = []
        self.faults: dict[str, list[CloudBuildError | None]] = {}
        """Call → the failures of its next calls, before they have an effect."""
        self.lost: list[str] = []
        """The calls whose next answer is lost, after their effect."""
        self.answers: dict[str, list[dict[str, Any]]] = {}
        """Call → answers that replace those of the service."""
        self.lag = 0
        self.on_create: Callable[[], None] | None = None

    def call(
        self,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        seconds: float,
        until: Instant | None = None,
    ) -> dict[str, Any]:
        """Answer a call of the API."""
        match = _PATH.fullmatch(path)
        assert match, path
        action = match[5] or {"GET": "get" if match[4] else "list", "POST": "create"}[http_method]
        self.calls.append(action)
        self.paths.append(path)
        self.queries.append(dict(query))
        left = seconds if until is None else min(seconds, (until - self._clock.now()) / SECOND)
        self.limits.append(left)
        if (faults := self.faults.get(action)) and (fault := faults.pop(0)) is not None:
            raise fault
        answer = self._answer(action, match, dict(body or {}), dict(query))
        if action in self.lost:
            self.lost.remove(action)
            raise CloudBuildError("DEADLINE_EXCEEDED", "no complete answer in time", transient=True)
        canned = self.answers.get(action)
        return canned.pop(0) if canned else answer

    def _answer(
        self, action: str, path: re.Match[str], body: dict[str, Any], query: Mapping[str, str]
    ) -> dict[str, Any]:
        match action:
            case "create" | "run":
                values = body["source"]["substitutions"] if action == "run" else body["substitutions"]
                build = self.make(path[1], path[2], values, body.get("tags", []))
                if self.on_create:
                    self.on_create()
                return {"name": "operations/build/x", "metadata": {"build": dict(build)}}
            case "list":
                return {"builds": self._listed(path[2], query)} if self._listed(path[2], query) else {}
            case "cancel":
                return self._cancel(path[4])
        if path[4] not in self.builds:
            raise MISSING
        return dict(self.builds[path[4]])

    def make(self, project: str, location: str, substitutions: Any, tags: Sequence[str] = ()) -> dict[str, Any]:
        """Add a build."""
        number = len(self.builds) + 1
        build_id = f"00000000-0000-4000-8000-{number:012d}"
        self.builds[build_id] = {
            "id": build_id,
            "projectId": project,
            "location": location,
            "status": "QUEUED",
            "createTime": format_rfc3339(self._clock.now()),
            "shown": self._clock.now() + self.lag * SECOND,
            "logUrl": f"https://console.cloud.google.com/cloud-build/builds;region={location}/{build_id}?project=1",
            "substitutions": dict(substitutions),
            "tags": list(tags),
        }
        return self.builds[build_id]

    def _listed(self, location: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        wanted = query["filter"].removeprefix('tags="').removesuffix('"') if "filter" in query else None
        return [
            dict(build)
            for build in reversed(self.builds.values())
            if build["location"] == location
            and build["shown"] <= self._clock.now()
            and (wanted is None or wanted in build["tags"])
        ]

    def _cancel(self, build_id: str) -> dict[str, Any]:
        if build_id not in self.builds:
            raise MISSING
        build = self.builds[build_id]
        if build["status"] not in ("PENDING", "QUEUED", "WORKING"):
            raise CloudBuildError("FAILED_PRECONDITION", "Cannot cancel a build that is over.", transient=False)
        build["status"] = "CANCELLED"
        return dict(build)

    @property
    def statuses(self) -> list[str]:
        """The statuses of all builds, in the order of their creation."""
        return [str(build["status"]) for build in self.builds.values()]

    def ids(self) -> list[str]:
        """Return the IDs of all builds, in the order of their creation."""
        return list(self.builds)

    def finish(self, status: str = "SUCCESS", place: int = -1, **members: Any) -> None:
        """Let a build end, the newest one by default, and send no message."""
        build = self.builds[self.ids()[place]]
        build.update(status=status, finishTime=format_rfc3339(self._clock.now()), **members)


class CloudWorld(World):
    """A whole scheduler in memory whose job builds with Cloud Build."""

    def __init__(
        self,
        block: str = STEPS,
        *,
        repo: str = REPO,
        gitiles: Gitiles | None = None,
        topic: Any = None,
        **settings: Any,
    ) -> None:
        super().__init__(config(block, repo), gitiles, topic)
        self.cloud = FakeCloudBuild(self.clock)
        self.ports = replace(self.ports, cloud_build=self.cloud)
        given = {
            "access": json.dumps(POLICY),
            "cloud_build": True,
            "cloud_build_check_interval_seconds": 300,
            "app_id": "app",
            **settings,
        }
        self.app = make_app(world_settings(**given), self.ports)
        self.runtime = self.app.runtime

    @property
    def invocation(self) -> Invocation:
        """The newest invocation of the job."""
        return self.invocations()[0]

    def announce(self, build: Mapping[str, Any], message: str = "m") -> int:
        """Deliver a message of ``cloud-builds`` about a build; return the answer's code."""
        return self.push(json.dumps(build).encode(), message)

    def announce_build(self, place: int = -1, message: str = "m") -> int:
        """Deliver a message about a build as it is now."""
        return self.announce(self.cloud.builds[self.cloud.ids()[place]], message)

    def push(self, data: bytes, message: str = "m") -> int:
        """Let a second pass and deliver a message; return the answer's code."""
        self.clock.advance(SECOND)
        pushed = {
            "data": base64.b64encode(data).decode(),
            "messageId": message,
            "publishTime": format_rfc3339(self.clock.now()),
        }
        event: Any = type("Event", (dict,), {"data": {"message": pushed}})({"id": message, "time": ""})
        return entry.cloud_build(self.app, event)[1]

    def lines(self) -> list[str]:
        """Return the lines of the newest invocation's log, without their stamps."""
        return [line.partition("] ")[2] if line.startswith("[") else line for line in self.log(JOB).splitlines()]
