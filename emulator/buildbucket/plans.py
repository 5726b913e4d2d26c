"""Plans: the future of a build, chosen by its builder or by its request."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from emulator.buildbucket.builds import ENDED, Build, BuildSpec, Outcome
from emulator.building.wire_time import parse_duration
from emulator.building.workplace import Workplace
from luci_scheduler.core.instants import SECOND

__all__ = [
    "PLAN_PROPERTY",
    "Announce",
    "Command",
    "End",
    "Manual",
    "Plan",
    "PlanSource",
    "Plans",
    "Script",
    "Start",
    "plan_from_json",
]

PLAN_PROPERTY = "$local_cloud/plan"
# The agent checks every 30 s whether it should stop.
CANCEL_NOTICE = 30 * SECOND
_SUCCESS = Outcome("SUCCESS")


class PlanError(ValueError):
    """The JSON is not a plan or a part of a plan; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Announce:
    """How a change is announced.

    Attributes:
        copies: the number of messages; 0 loses the announcement.
        delay: by how many nanoseconds the messages are late.
        token: replaces the right token, if set.
    """

    copies: int = 1
    delay: int = 0
    token: bytes | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """A step: a bot starts the build ``after`` nanoseconds."""

    after: int
    announce: Announce = Announce()


@dataclass(frozen=True, slots=True)
class End:
    """A step: the build ends ``after`` nanoseconds. Its end time is ``reported_ago`` nanoseconds before that moment."""

    after: int
    outcome: Outcome = _SUCCESS
    reported_ago: int = 0
    announce: Announce = Announce()


@dataclass(frozen=True, slots=True)
class Script:
    """A plan of consecutive steps. Each step's time counts from the previous step, the first one's from the creation.

    Without an `End` the build waits or runs until its timeout. ``cancel_after`` is the time that the agent needs to
    notice a cancellation. With None it never does, and the service ends the build after 30 s and the grace period.
    """

    steps: tuple[Start | End, ...] = (Start(SECOND), End(2 * SECOND))
    created: Announce = Announce()
    cancel_after: int | None = CANCEL_NOTICE


@dataclass(frozen=True, slots=True)
class Command:
    """A plan that runs a local program, in real time. Exit status 0 is SUCCESS, and any other FAILURE.

    A program that a signal or the time limit ends, or that cannot start, is INFRA_FAILURE.

    Attributes:
        argv: the program and its arguments.
        start_after: by how many nanoseconds it starts after the build's creation.
        env: variables that precede those of `variables.variables`.
        cwd: its folder if there is no ``workspace``; that of this process if None.
        created: how the build's creation is announced.
        workspace: returns the workplace of a build, which then runs in an own folder that is removed afterwards. It may
            raise `LocalCloudError`.
        timeout: its time limit in nanoseconds of real time; the build's execution timeout if None.
    """

    argv: tuple[str, ...]
    start_after: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    created: Announce = Announce()
    workspace: Callable[[Build], Workplace] | None = None
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class Manual:
    """A plan under which the build never changes by itself, not even by a timeout."""

    created: Announce = Announce()


Plan: TypeAlias = Script | Command | Manual

PlanSource: TypeAlias = Callable[[BuildSpec], Plan | None]
"""Returns the plan of a build; None if it has none."""


class Plans:
    """Chooses the plan of a build. Thread-safe.

    The request's own plan takes precedence, then the first rule whose pattern matches the builder, then the source,
    then the default.
    While `override` is set, all new builds have that plan.
    """

    def __init__(self, default: Plan, source: PlanSource = lambda _: None) -> None:
        self.default = default
        self.override: Plan | None = None
        self._source = source
        self._rules: list[tuple[str, Plan]] = []
        self._lock = threading.Lock()

    def set(self, pattern: str, plan: Plan) -> None:
        """Set the plan of builders that match ``pattern`` (``project/bucket/builder`` with ``*`` and ``?``).

        The latest rule wins.
        """
        with self._lock:
            self._rules = [(pattern, plan), *((old, kept) for old, kept in self._rules if old != pattern)]

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._rules = []

    def choose(self, spec: BuildSpec) -> Plan:
        """Return the plan of a new build.

        An invalid plan in the request fails the build at once. If the default plan is manual, requests cannot choose a
        plan.
        """
        if self.override is not None:
            return self.override
        requested = spec.requested_properties.get(PLAN_PROPERTY)
        if requested is not None and not isinstance(self.default, Manual):
            try:
                plan = plan_from_json(requested)
            except ValueError as error:
                return Script((End(0, Outcome("INFRA_FAILURE", summary=f"bad {PLAN_PROPERTY}: {error}")),))
            if isinstance(plan, Script):
                return plan
            return Script((End(0, Outcome("INFRA_FAILURE", summary=f"{PLAN_PROPERTY} may only hold steps")),))
        with self._lock:
            rules = self._rules
        matching = (plan for pattern, plan in rules if fnmatch.fnmatchcase(str(spec.builder), pattern))
        return next(matching, None) or self._source(spec) or self.default


def plan_from_json(value: object) -> Plan:
    """Parse a plan from JSON.

    The forms are ``{"steps": [{"start": {}, "after": "1s"}, {"end": {"status": "FAILURE"}, "after": "2s"}], "created":
    {"copies": 0}, "cancel_after": "5s"}`` and ``{"manual": true}``. A `Command` has no JSON form, so that a client of
    the port cannot run programs.

    Raises:
        PlanError: the JSON is not a plan.
    """
    if not isinstance(value, Mapping):
        raise PlanError(f"a plan is an object, not {value!r}")
    if not value.keys().isdisjoint({"command", "argv"}):
        raise PlanError(
            "a command cannot be set over HTTP, so that a program that reaches this port cannot run others: "
            "start the local cloud with --build COMMAND or --builders FILE"
        )
    created = announce_from_json(value.get("created"))
    if value.get("manual"):
        return Manual(created)
    steps = value.get("steps")
    if not isinstance(steps, list):
        raise PlanError("a plan needs steps or manual")
    notice = value.get("cancel_after", "30s")
    return Script(tuple(_step(step) for step in steps), created, None if notice is None else _duration(notice))


def outcome_from_json(value: Mapping[str, Any]) -> Outcome:
    """Parse an outcome: ``status``, ``timeout``, ``resource_exhaustion``, ``summary``, ``output_properties``."""
    status = value.get("status", "SUCCESS")
    if status not in ENDED:
        raise PlanError(f"{status!r} is not an end status")
    return Outcome(
        status,
        timeout=bool(value.get("timeout")),
        resource_exhaustion=bool(value.get("resource_exhaustion")),
        summary=str(value.get("summary", "")),
        output_properties=dict(value.get("output_properties", {})),
    )


def _step(value: object) -> Start | End:
    if not isinstance(value, Mapping) or ("start" in value) == ("end" in value):
        raise PlanError(f"a step has either start or end, not {value!r}")
    after, announce = _duration(value.get("after", "0s")), announce_from_json(value.get("announce"))
    if "start" in value:
        return Start(after, announce)
    return End(after, outcome_from_json(value["end"] or {}), _duration(value.get("reported_ago", "0s")), announce)


def announce_from_json(value: object) -> Announce:
    """Parse an announcement: ``copies``, ``delay``, ``token``; null means one message, now, with the right token."""
    if value is None:
        return Announce()
    if not isinstance(value, Mapping):
        raise PlanError(f"an announcement is an object, not {value!r}")
    copies, token = value.get("copies", 1), value.get("token")
    if not isinstance(copies, int) or copies < 0:
        raise PlanError(f"copies is a number from 0 on, not {copies!r}")
    return Announce(copies, _duration(value.get("delay", "0s")), None if token is None else str(token).encode())


def _duration(value: object) -> int:
    duration = parse_duration(str(value))
    if duration < 0:
        raise PlanError(f"a duration cannot be negative: {value}")
    return duration
