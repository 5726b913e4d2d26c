"""Plans: the future of a build, chosen by its job, its trigger or its substitutions."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from emulator.building.wire_time import parse_duration
from emulator.building.workplace import Workplace
from emulator.cloud_build.builds import FINAL, WAITING, Build
from luci_scheduler.core.instants import SECOND

__all__ = [
    "FAILURES",
    "Change",
    "Plan",
    "PlanRule",
    "Plans",
    "RunSteps",
    "Script",
    "change_from_json",
    "plan_from_json",
    "rule_from_json",
]

FAILURES: Mapping[str, str] = {
    "PUSH_FAILED": "Failed to push the final image",
    "PUSH_IMAGE_NOT_FOUND": "The image to push does not exist",
    "PUSH_NOT_AUTHORIZED": "Unauthorized push of the final image",
    "LOGGING_FAILURE": "Backend logging failure",
    "USER_BUILD_STEP": "Build step failure",
    "FETCH_SOURCE_FAILED": "Failed to fetch the source",
}
"""Type of a failure → its usual text."""
_STATUSES = FINAL | WAITING | {"WORKING"}
_MEMBERS = frozenset({"status", "after", "detail", "failure", "any_status"})


@dataclass(frozen=True, slots=True)
class Change:
    """A build gets a status ``after`` nanoseconds, counted from the change before or from the creation.

    Attributes:
        detail: the ``statusDetail``.
        failure: the type of the ``failureInfo``, a key of `FAILURES`; empty for none.
    """

    status: str
    after: int
    detail: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """A plan of consecutive changes; without a final status the build ends by its time limit or a cancellation."""

    changes: tuple[Change, ...] = (Change("WORKING", SECOND // 5), Change("SUCCESS", 2 * SECOND))


@dataclass(frozen=True, slots=True)
class RunSteps:
    """A plan that runs the steps of the build as local processes, in real time.

    Attributes:
        workspace: returns the workplace of a build, in whose folder the steps run. It may raise `LocalCloudError`.
        command: a line for the shell that runs in the place of the steps, with the environment of this process; empty
            for none.
    """

    workspace: Callable[[Build], Workplace]
    command: str = ""


Plan: TypeAlias = Script | RunSteps


@dataclass(frozen=True, slots=True)
class PlanRule:
    """A plan for the builds that match each of the patterns, in which ``*`` and ``?`` stand for other characters."""

    plan: Plan
    job: str = "*"
    """The scheduler's job, ``project/name``."""
    trigger: str = "*"
    """The name of the trigger; empty for builds without one."""
    substitutions: Mapping[str, str] = field(default_factory=dict)
    """Key → pattern of its value; a missing key has an empty value."""

    def matches(self, build: Build, trigger: str) -> bool:
        """Return whether the rule is for a build, which the named trigger made."""
        return (
            fnmatch.fnmatchcase(build.job, self.job)
            and fnmatch.fnmatchcase(trigger, self.trigger)
            and all(
                fnmatch.fnmatchcase(build.substitutions.get(key, ""), pattern)
                for key, pattern in self.substitutions.items()
            )
        )


class Plans:
    """Chooses the plan of a build: that of the first matching rule, or of the trigger, or the default. Thread-safe.

    While `override` is set, all new builds have that plan.
    """

    def __init__(self, default: Plan) -> None:
        self.default = default
        self.override: Plan | None = None
        self._rules: list[PlanRule] = []
        self._lock = threading.Lock()

    def add(self, rule: PlanRule) -> None:
        """Add a rule; the latest one wins."""
        with self._lock:
            self._rules.insert(0, rule)

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._rules.clear()

    def choose(self, build: Build, trigger: str, own: Plan | None) -> Plan:
        """Return the plan of a new build.

        Args:
            build: the build.
            trigger: the name of the trigger that made it; empty for none.
            own: the plan of that trigger.
        """
        if self.override is not None:
            return self.override
        with self._lock:
            found = next((rule.plan for rule in self._rules if rule.matches(build, trigger)), None)
        return found or own or self.default


def rule_from_json(value: Mapping[str, Any]) -> PlanRule:
    """Parse a rule: ``{"plan": [...], "job": "*", "trigger": "*", "substitutions": {"_MODE": "slow"}}``.

    Raises:
        ValueError: the JSON is not a rule.
    """
    substitutions = value.get("substitutions", {})
    if not isinstance(substitutions, Mapping) or value.keys() - {"plan", "job", "trigger", "substitutions"}:
        raise ValueError(f"a rule has plan, job, trigger and substitutions, not {value!r}")
    patterns = {str(key): str(pattern) for key, pattern in substitutions.items()}
    plan = plan_from_json(value["plan"])
    return PlanRule(plan, str(value.get("job", "*")), str(value.get("trigger", "*")), patterns)


def plan_from_json(value: object) -> Script:
    """Parse a plan: ``[{"status": "WORKING", "after": "0.2s"}, {"status": "FAILURE", "failure": "PUSH_FAILED"}]``.

    `RunSteps` has no JSON form, so that a client of the port cannot choose it.

    Raises:
        ValueError: the JSON is not a plan.
    """
    if not isinstance(value, list):
        raise ValueError(f"a plan is a list of changes, not {value!r}")  # noqa: TRY004 - a value from outside
    return Script(tuple(change_from_json(item) for item in value))


def change_from_json(value: object) -> Change:
    """Parse a change: the attributes of `Change`; ``after`` is a duration. With ``any_status`` it may be unknown.

    Raises:
        KeyError, ValueError: the JSON is not a change.
    """
    if not isinstance(value, Mapping) or value.keys() - _MEMBERS:
        raise ValueError(f"a change has status, after, detail, failure and any_status, not {value!r}")
    status, failure = str(value["status"]), str(value.get("failure", ""))
    if status not in _STATUSES and not value.get("any_status"):
        raise ValueError(f"{status!r} is no status: use one of {', '.join(sorted(_STATUSES))}, or set any_status")
    if failure and failure not in FAILURES:
        raise ValueError(f"{failure!r} is no failure: use one of {', '.join(sorted(FAILURES))}")
    after = parse_duration(str(value.get("after", "0s")))
    if after < 0:
        raise ValueError(f"a duration cannot be negative: {value['after']}")
    return Change(status, after, str(value.get("detail", "")), failure)
