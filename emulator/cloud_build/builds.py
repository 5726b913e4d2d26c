"""The builds of the Cloud Build server and their changes, without protocols and side effects."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from emulator.building.wire_time import parse_duration, parse_timestamp

__all__ = ["FINAL", "WAITING", "Build", "BuildStore", "Place", "operation", "project_number"]

FINAL = frozenset({"SUCCESS", "FAILURE", "INTERNAL_ERROR", "TIMEOUT", "CANCELLED", "EXPIRED"})
"""The statuses of builds that have ended."""
WAITING = frozenset({"PENDING", "QUEUED"})
"""The statuses of builds that have not started."""
_INVOCATION = "_SCHEDULER_INVOCATION"
_FIRST_NUMBER, _NUMBERS = 10**11, 9 * 10**11


def project_number(project: str) -> int:
    """Return the number of a project: twelve digits that its name decides."""
    digest = hashlib.sha256(project.encode()).digest()
    return _FIRST_NUMBER + int.from_bytes(digest[:8], "big") % _NUMBERS


@dataclass(frozen=True, slots=True)
class Place:
    """A project and a location; builds and triggers of one place are not found in another."""

    project: str
    location: str

    def name(self, kind: str, identifier: str) -> str:
        """Return the full name of a resource, such as a build in ``builds``."""
        return f"projects/{project_number(self.project)}/locations/{self.location}/{kind}/{identifier}"


@dataclass(frozen=True, slots=True)
class Build:
    """A build at one moment; each change creates a new value."""

    place: Place
    number: int
    """1, 2, 3... in the order of creation."""
    created: int
    """The instant of the creation, in nanoseconds."""
    body: Mapping[str, Any]
    """The API's message ``Build`` as JSON."""

    @property
    def id(self) -> str:
        """The UUID."""
        return str(self.body["id"])

    @property
    def status(self) -> str:
        """The status, such as ``WORKING``."""
        return str(self.body["status"])

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self.status in FINAL

    @property
    def substitutions(self) -> Mapping[str, str]:
        """The substitutions by key."""
        found: Mapping[str, str] = self.body.get("substitutions", {})
        return found

    @property
    def tags(self) -> Sequence[str]:
        """The tags."""
        found: Sequence[str] = self.body.get("tags", [])
        return found

    @property
    def steps(self) -> Sequence[Mapping[str, Any]]:
        """The steps of the request."""
        found: Sequence[Mapping[str, Any]] = self.body.get("steps", [])
        return found

    @property
    def invocation(self) -> str:
        """The scheduler's invocation that requested the build; empty for builds of others."""
        return self.substitutions.get(_INVOCATION, "")

    @property
    def job(self) -> str:
        """The scheduler's job, ``project/name``; empty for builds of others."""
        return self.substitutions.get("_SCHEDULER_JOB", "")

    def instant(self, member: str) -> int | None:
        """Return the instant of ``startTime`` or ``finishTime``; None before it."""
        text = self.body.get(member)
        return parse_timestamp(text) if text else None

    def duration(self, member: str) -> int:
        """Return ``timeout`` or ``queueTtl`` in nanoseconds."""
        return parse_duration(str(self.body[member]))


def operation(build: Build) -> dict[str, Any]:
    """Return the long-running operation with which the service answers a creation."""
    encoded = base64.b64encode(build.id.encode()).decode()
    kind = "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata"
    answer: dict[str, Any] = {
        "name": f"operations/build/{build.place.project}/{encoded}",
        "metadata": {"@type": kind, "build": dict(build.body)},
    }
    return {**answer, "done": True} if build.ended else answer


class BuildStore:
    """All builds, in memory. Methods are atomic."""

    def __init__(self) -> None:
        self._builds: dict[str, Build] = {}
        self._lock = threading.RLock()

    def add(self, place: Place, created: int, body: Mapping[str, Any]) -> Build:
        """Store a new build; its body has an ID and a status."""
        with self._lock:
            build = Build(place, len(self._builds) + 1, created, dict(body))
            self._builds[build.id] = build
            return build

    def restore(self, place: Place, created: int, body: Mapping[str, Any]) -> Build | None:
        """Store a build of an earlier server; None if the store has it already."""
        with self._lock:
            return None if body["id"] in self._builds else self.add(place, created, body)

    def get(self, build_id: str) -> Build | None:
        """Return a build by its ID."""
        with self._lock:
            return self._builds.get(build_id)

    def newest_first(self) -> Iterator[Build]:
        """Iterate over all builds, by creation time, newest first."""
        with self._lock:
            builds = list(self._builds.values())
        return iter(sorted(builds, key=lambda build: (build.created, build.number), reverse=True))

    def by_invocation(self) -> Mapping[str, Sequence[Build]]:
        """Return the builds of each invocation, oldest first: the ledger for tests."""
        found: dict[str, list[Build]] = {}
        for build in reversed(list(self.newest_first())):
            if build.invocation:
                found.setdefault(build.invocation, []).append(build)
        return found

    def doubled(self) -> Mapping[str, Sequence[Build]]:
        """Return the invocations of which more than one build reached a final status other than CANCELLED."""
        kept = {
            invocation: [build for build in builds if build.ended and build.status != "CANCELLED"]
            for invocation, builds in self.by_invocation().items()
        }
        return {invocation: builds for invocation, builds in kept.items() if len(builds) > 1}

    def change(
        self, build_id: str, applies: Callable[[Build], bool], changes: Callable[[Build], Mapping[str, Any]]
    ) -> Build | None:
        """Replace members of a build's body; None if the build is unknown or the change does not apply to it."""
        with self._lock:
            build = self._builds.get(build_id)
            if build is None or not applies(build):
                return None
            changed = self._builds[build_id] = replace(build, body={**build.body, **changes(build)})
            return changed
