"""The builds of the Buildbucket server and their changes, without protocols and side effects."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.identifiers import BuilderId, Era, build_id_at
from emulator.clock import Clock

__all__ = ["ENDED", "Build", "BuildSpec", "BuildStore", "Callback", "Outcome"]

ENDED = frozenset({"SUCCESS", "FAILURE", "INFRA_FAILURE", "CANCELED"})


@dataclass(frozen=True, slots=True)
class Callback:
    """The topic and the token of a build's notifications.

    ``auth_token`` is the token of the v1 API (a message attribute), ``user_data`` that of the v2 API (in the body),
    with the bytes of the request.
    """

    topic: str
    user_data: bytes = b""
    auth_token: str = ""


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """The request of a build. Durations are nanoseconds; ``tags`` are sorted pairs without duplicates."""

    era: Era
    builder: BuilderId
    created_by: str
    config: BuilderConfig
    tags: tuple[tuple[str, str], ...] = ()
    requested_properties: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    gitiles_commit: Mapping[str, Any] | None = None
    gerrit_changes: tuple[Mapping[str, Any], ...] = ()
    callback: Callback | None = None
    priority: int = 30
    critical: str = ""
    experiments: tuple[str, ...] = ()
    scheduling_timeout: int = 0
    execution_timeout: int = 0
    grace_period: int = 0
    cipd_version: str = ""
    v1_parameters: Mapping[str, Any] = field(default_factory=dict)
    canary: bool = False
    experimental: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a build ended; ``status`` is one of `ENDED`."""

    status: str
    timeout: bool = False
    resource_exhaustion: bool = False
    summary: str = ""
    output_properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Build:
    """A build at one moment; each change creates a new value. Times are instants, None until they happen."""

    id: int
    spec: BuildSpec
    number: int | None
    create_time: int
    update_time: int
    status_changed_time: int
    task_id: str
    status: str = "SCHEDULED"
    start_time: int | None = None
    end_time: int | None = None
    cancel_time: int | None = None
    canceled_by: str = ""
    cancellation_markdown: str = ""
    outcome: Outcome | None = None

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self.status in ENDED


class BuildStore:
    """All builds, in memory.

    Methods are atomic. A change returns the new build, or None if the build has ended already.
    """

    def __init__(self, clock: Clock, entropy: random.Random, take_number: Callable[[BuilderId], int | None]) -> None:
        self._clock = clock
        self._entropy = entropy
        self._take_number = take_number
        self._builds: dict[int, Build] = {}
        self._by_number: dict[tuple[BuilderId, int], int] = {}
        self._remembered: dict[str, tuple[int, int]] = {}
        self._lock = threading.RLock()

    def create(
        self, spec: BuildSpec, *, key: str = "", memory: int | None = None, build_id: int | None = None
    ) -> tuple[Build, bool]:
        """Store a new build, or return the existing build of the same ``key``.

        Args:
            spec: the request.
            key: the deduplication key, which includes the caller's identity; empty means no deduplication.
            memory: how many nanoseconds a key is remembered; None means forever.
            build_id: an ID reserved by `reserve_id`.

        Returns:
            The current build, and whether it is new.
        """
        with self._lock:
            now = self._clock.now()
            if (existing := self.remembered(key, memory)) is not None:
                return existing, False
            identifier = self.reserve_id(spec.era) if build_id is None else build_id
            number = self._take_number(spec.builder)
            build = Build(identifier, spec, number, now, now, now, f"{self._entropy.getrandbits(60):015x}0")
            self._builds[identifier] = build
            if number is not None:
                self._by_number[(spec.builder, number)] = identifier
            self.remember(key, build)
            return build, True

    def reserve_id(self, era: Era) -> int:
        """Return an unused build ID of the current instant."""
        with self._lock:
            while (identifier := build_id_at(self._clock.now(), self._entropy, era)) in self._builds:
                continue
            return identifier

    def remembered(self, key: str, memory: int | None) -> Build | None:
        """Return the current build of ``key`` if it was created less than ``memory`` nanoseconds ago."""
        with self._lock:
            identifier, instant = self._remembered.get(key, (0, 0))
            if not identifier or (memory is not None and self._clock.now() - instant >= memory):
                return None
            return self._builds[identifier]

    def remember(self, key: str, build: Build) -> None:
        """Remember the key of a build, unless it is empty."""
        if key:
            with self._lock:
                self._remembered[key] = (build.id, self._clock.now())

    def forget_keys(self) -> None:
        """Forget all deduplication keys, as the service's cache may do at any time."""
        with self._lock:
            self._remembered.clear()

    def get(self, build_id: int) -> Build | None:
        """Return a build by its ID."""
        with self._lock:
            return self._builds.get(build_id)

    def get_by_number(self, builder: BuilderId, number: int) -> Build | None:
        """Return a build by its builder and number."""
        with self._lock:
            return self._builds.get(self._by_number.get((builder, number), 0))

    def newest_first(self, after: int = 0) -> Iterator[Build]:
        """Iterate over the builds with IDs above ``after``, newest first."""
        with self._lock:
            builds = sorted(self._builds.items())
        return (build for identifier, build in builds if identifier > after)

    def restore(self, build: Build) -> bool:
        """Store a build of an earlier server, and return whether it is new."""
        with self._lock:
            if build.id in self._builds:
                return False
            self._builds[build.id] = build
            if build.number is not None:
                self._by_number[(build.spec.builder, build.number)] = build.id
            return True

    def start(self, build_id: int, at: int) -> Build | None:
        """Start a scheduled build at ``at``."""
        return self._change(
            build_id, lambda build: build.status == "SCHEDULED",
            status="STARTED", start_time=at, status_changed_time=at, update_time=at,
        )  # fmt: skip

    def end(self, build_id: int, at: int, outcome: Outcome, *, reported_ago: int = 0) -> Build | None:
        """End a build; the bot's end time is ``reported_ago`` nanoseconds before the change."""
        if outcome.status not in ENDED:
            raise ValueError(f"{outcome.status!r} is not an end status")
        return self._change(
            build_id, lambda build: not build.ended,
            status=outcome.status, outcome=outcome, end_time=at - reported_ago, status_changed_time=at, update_time=at,
        )  # fmt: skip

    def request_cancel(self, build_id: int, at: int, caller: str, markdown: str) -> Build | None:
        """Record the first request to cancel a build. The status does not change."""
        return self._change(
            build_id, lambda build: not build.ended and build.cancel_time is None,
            cancel_time=at, canceled_by=caller, cancellation_markdown=markdown, update_time=at,
        )  # fmt: skip

    def _change(self, build_id: int, applies: Callable[[Build], bool], **changes: Any) -> Build | None:
        with self._lock:
            build = self._builds.get(build_id)
            if build is None or not applies(build):
                return None
            changed = self._builds[build_id] = replace(build, **changes)
            return changed
