"""Plans: what is to become of a build, chosen by builder or by the request itself."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from emulator.buildbucket.builds import ENDED, BuildSpec, Outcome
from emulator.buildbucket.wire_time import parse_duration
from luci_scheduler.core.instants import SECOND

__all__ = [
    "PLAN_PROPERTY",
    "Announce",
    "Command",
    "End",
    "Manual",
    "Plan",
    "Plans",
    "Script",
    "Start",
    "plan_from_json",
]

PLAN_PROPERTY = "$local_cloud/plan"
# The agent looks every 30 s whether it should stop.
CANCEL_NOTICE = 30 * SECOND
_SUCCESS = Outcome("SUCCESS")


class PlanError(ValueError):
    """The JSON is not a plan, or not a part of one; the text says why."""


@dataclass(frozen=True, slots=True)
class Announce:
    """How a change is announced: ``copies`` messages (0: lost), ``delay`` nanoseconds late, with ``token`` instead of the right one."""

    copies: int = 1
    delay: int = 0
    token: bytes | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """A bot takes the build ``after`` nanoseconds."""

    after: int
    announce: Announce = Announce()


@dataclass(frozen=True, slots=True)
class End:
    """The build ends ``after`` nanoseconds; ``reported_ago`` is how far its end time lies before that moment."""

    after: int
    outcome: Outcome = _SUCCESS
    reported_ago: int = 0
    announce: Announce = Announce()


@dataclass(frozen=True, slots=True)
class Script:
    """Steps one after another, each counted from the one before (the first from the creation).

    Without an `End` the build waits or runs until its timeout. ``cancel_after`` is how long the agent takes to notice that it should
    stop (None: never, the service ends the build by force after 30 s and the grace period).
    """

    steps: tuple[Start | End, ...] = (Start(SECOND), End(2 * SECOND))
    created: Announce = Announce()
    cancel_after: int | None = CANCEL_NOTICE


@dataclass(frozen=True, slots=True)
class Command:
    """Run a local program as the build: exit status 0 is SUCCESS, 1 FAILURE, anything else INFRA_FAILURE.

    It gets ``BUILD_ID``, ``BUILDER``, ``REVISION`` and so on in its environment (see `commands.environment`) and ``env`` on top.
    """

    argv: tuple[str, ...]
    start_after: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    created: Announce = Announce()


@dataclass(frozen=True, slots=True)
class Manual:
    """Nothing happens by itself, not even a timeout."""

    created: Announce = Announce()


Plan: TypeAlias = Script | Command | Manual


class Plans:
    """Which plan a build gets: its own property, else the first rule whose pattern fits its builder, else the default.

    Safe to use from several threads.
    """

    def __init__(self, default: Plan) -> None:
        self.default = default
        self._rules: list[tuple[str, Plan]] = []
        self._lock = threading.Lock()

    def set(self, pattern: str, plan: Plan) -> None:
        """Give builders like ``pattern`` (``project/bucket/builder`` with ``*`` and ``?``) a plan; the latest call goes first."""
        with self._lock:
            self._rules = [(pattern, plan), *((old, kept) for old, kept in self._rules if old != pattern)]

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._rules = []

    def choose(self, spec: BuildSpec) -> Plan:
        """Return the plan of a new build. A plan in the request that cannot be read is an infra failure at once.

        Where everything is manual, requests have no say.
        """
        wish = spec.requested_properties.get(PLAN_PROPERTY)
        if wish is not None and not isinstance(self.default, Manual):
            try:
                plan = plan_from_json(wish)
            except ValueError as error:
                return Script((End(0, Outcome("INFRA_FAILURE", summary=f"bad {PLAN_PROPERTY}: {error}")),))
            if isinstance(plan, Script):
                return plan
            return Script((End(0, Outcome("INFRA_FAILURE", summary=f"{PLAN_PROPERTY} may only hold steps")),))
        with self._lock:
            rules = self._rules
        return next((plan for pattern, plan in rules if fnmatch.fnmatchcase(str(spec.builder), pattern)), self.default)


def plan_from_json(value: object) -> Plan:
    """Read a plan from JSON; PlanError if it is none.

    ``{"steps": [{"start": {}, "after": "1s"}, {"end": {"status": "FAILURE"}, "after": "2s"}], "created": {"copies": 0},
    "cancel_after": "5s"}`` or ``{"manual": true}``. A `Command` has no such form: whoever reaches a port must not run programs.
    """
    if not isinstance(value, Mapping):
        raise PlanError(f"a plan is an object, not {value!r}")
    created = announce_from_json(value.get("created"))
    if value.get("manual"):
        return Manual(created)
    steps = value.get("steps")
    if not isinstance(steps, list):
        raise PlanError("a plan needs steps or manual")
    notice = value.get("cancel_after", "30s")
    return Script(tuple(_step(step) for step in steps), created, None if notice is None else _duration(notice))


def outcome_from_json(value: Mapping[str, Any]) -> Outcome:
    """Read how a build ends: ``status``, ``timeout``, ``resource_exhaustion``, ``summary``, ``output_properties``."""
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
    """Read how a change is announced: ``copies``, ``delay``, ``token``; null is once, at once, with the right token."""
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
