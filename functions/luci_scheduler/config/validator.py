"""Validates a project's ``luci-scheduler.cfg``: finds all problems, each with its place, in the original's order."""

from __future__ import annotations

import re
from typing import Any

from luci_scheduler.config.acl_rules import check_acl_sets, check_acls, warn_of_acls
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.folder import FILE
from luci_scheduler.config.parsing import MAX_DEFINITIONS, Parsed, parse
from luci_scheduler.config.places import Place
from luci_scheduler.config.problems import Problem, Report, Severity
from luci_scheduler.config.task_rules import Programs, TaskRules, task_blocks
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import format_duration, quote
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.policy import registry
from luci_scheduler.core.policy.base import Policy
from luci_scheduler.core.schedule import BadScheduleError, Schedule, parse_schedule

__all__ = ["MAX_DEFINITIONS", "MAX_PATTERNS", "MAX_TARGETS", "Validated", "pending_timeout", "validate"]

MAX_TARGETS = 2000
"""The limit of jobs that one trigger starts: more than in any real project, but few enough for one delivery."""

MAX_PATTERNS = 1000
"""The maximum number of different patterns of one file: each may take some 60 ms to compile."""

_ID = re.compile(r"[0-9A-Za-z_\-. )(]{1,100}")
_ID_IN_WORDS = r"^[0-9A-Za-z_\-\. \)\(]{1,100}$"
_REALM = re.compile(r"[a-z0-9_.\-/]{1,400}")
_SPECIAL_REALMS = {Era.V1: ("@root", "@legacy"), Era.V2: ("@root", "@legacy", "@project")}
_DEFAULT_REALM = "@legacy"
_MAX_SCHEDULE = 1000  # characters; a cron expression that lists every value of every field has some 900

_DEFAULT_RULES = ConfigRules()
_EPOCH = Instant(0)

_MAX_DURATION = (1 << 63) - 1  # nanoseconds


@frozen
class Validated:
    """The result of a validation."""

    message: Any
    """The parsed file, a ``ProjectConfig`` message; None if the file does not parse."""
    problems: tuple[Problem, ...]
    """Errors and warnings, in the order of the checks."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep the config from becoming active."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that do not prevent the use of the config."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.WARNING)


def validate(
    content: str | bytes,
    *,
    project: str = "",
    file: str = FILE,
    era: Era = Era.V2,
    strict: bool = False,
    rules: ConfigRules = _DEFAULT_RULES,
    now: Instant = _EPOCH,
) -> Validated:
    """Validate a config. This raises nothing, for any bytes.

    Args:
        content: the file; bytes must be UTF-8.
        project: the project of the config; bucket names may omit it.
        file: the name of the file in problems.
        era: V2 means today's rules; V1, those of February 2021, with access rules in the config.
        strict: whether to refuse bucket names ``luci.<project>.<bucket>``, as LUCI does today, instead of a warning.
        rules: the rules of the installation.
        now: a schedule that never fires after this instant causes a warning.
    """
    report = Report(file)
    parsed = parse(content, report)
    if parsed is not None:
        _Validation(report, parsed, project, era, rules, now, strict=strict).run()
    return Validated(parsed.message if parsed else None, tuple(report.problems))


class _Validation:
    def __init__(
        self, report: Report, parsed: Parsed, project: str, era: Era, rules: ConfigRules, now: Instant, *, strict: bool
    ) -> None:
        message = parsed.message
        self._report = report
        self._message = message
        self._places = parsed.places
        self._project = project
        self._era = era
        self._rules = rules
        self._now = now
        self._strict = strict
        self._programs = Programs(report)
        self._active = 0
        self._without_ticks: dict[str, bool] = {}
        self._seen: set[str] = set()
        self._known = {item.id for item in [*message.job, *message.trigger]}
        self._acl_sets: dict[str, list[Any]] = {}

    def run(self) -> None:
        sizes = (
            (len(self._message.job) + len(self._message.trigger), MAX_DEFINITIONS, "jobs and triggers"),
            (len(_patterns(self._message)), MAX_PATTERNS, "different patterns"),
        )
        for count, most, noun in sizes:
            if count > most:
                self._report.error(Place(), f"the file has {count} {noun}, at most {most} are allowed")
                return
        if self._era is Era.V1:
            self._acl_sets = check_acl_sets(self._message, self._places, self._report)
        for kind in ("job", "trigger"):
            for index, item in enumerate(getattr(self._message, kind)):
                with self._report.at(kind, item.id or "(empty)"):
                    self._definition(item, self._places.at(kind, index=index))
        if self._era is Era.V2:
            warn_of_acls(self._message, self._places, self._report)

    def _definition(self, item: Any, place: Place) -> None:
        report = self._report
        if item.id and item.id in self._seen:
            report.error(place.at("id"), f"duplicate id {quote(item.id)}")
        self._seen.add(item.id)
        if self._era is Era.V2:
            self._realm(item, place)
        self._id(item, place)
        if self._era is Era.V1:
            self._realm(item, place)
        self._schedule(item, place)
        self._targets(item, place)
        with report.at("triggering_policy"):
            self._policy(item.triggering_policy, place.at("triggering_policy"))
            if not item.disabled:
                self._invocations(item.triggering_policy, place.at("triggering_policy"))
        realm_id = f"{self._project}:{item.realm or _DEFAULT_REALM}"
        rules = TaskRules(report, self._era, realm_id, self._programs, self._rules.hosts, strict=self._strict)
        rules.check(item, place)
        if self._era is Era.V1:
            check_acls(item, self._acl_sets, place, report)

    def _id(self, item: Any, place: Place) -> None:
        if not item.id:
            self._report.error(place, "missing 'id' field'")
        elif not _ID.fullmatch(item.id):
            pattern = f" (it must match {_ID_IN_WORDS})" if self._era is Era.V2 else ""
            self._report.error(place.at("id"), f"{quote(item.id)} is not valid value for 'id' field{pattern}")

    def _realm(self, item: Any, place: Place) -> None:
        special = _SPECIAL_REALMS[self._era]
        if item.realm and item.realm not in special and not _REALM.fullmatch(item.realm):
            known = f"a realm name ({_REALM.pattern}) nor {' or '.join(special)}"
            self._report.error(place.at("realm"), f"bad 'realm' field - {quote(item.realm)} is neither {known}")

    def _schedule(self, item: Any, place: Place) -> None:
        if not item.schedule:
            return
        if len(item.schedule) > _MAX_SCHEDULE:
            message = f"'schedule' has {len(item.schedule)} characters, at most {_MAX_SCHEDULE} are allowed"
            self._report.error(place.at("schedule"), message)
            return
        try:
            schedule = parse_schedule(item.schedule)
        except BadScheduleError as error:
            message = f"{item.schedule} is not valid value for 'schedule' field - {error}"
            self._report.error(place.at("schedule"), message)
            return
        if self._never_fires(schedule):
            message = f"the schedule {quote(item.schedule)} never fires: no date matches it"
            self._report.warning(place.at("schedule"), message)

    def _never_fires(self, schedule: Schedule) -> bool:
        """Whether a schedule has no further tick.

        The search covers all years up to 2099, so it runs once for each text.
        """
        if schedule.text not in self._without_ticks:
            self._without_ticks[schedule.text] = schedule.next(self._now, None) is None
        return self._without_ticks[schedule.text]

    def _targets(self, item: Any, place: Place) -> None:
        targets = item.triggers if "triggers" in item.DESCRIPTOR.fields_by_name else ()
        if len(targets) > MAX_TARGETS:
            message = f"{len(targets)} jobs in 'triggers' field, at most {MAX_TARGETS} are allowed"
            self._report.error(place.at("triggers", index=MAX_TARGETS), message)
            return
        for index, name in enumerate(targets):
            if name not in self._known:
                message = f"referencing unknown job {quote(name)} in 'triggers' field"
                report = self._report.warning if self._rules.lenient_triggers else self._report.error
                report(place.at("triggers", index=index), message)

    def _invocations(self, policy: Any, place: Place) -> None:
        """Report the first definition that takes the file above the limit of active invocations."""
        most, before = self._rules.max_active_invocations, self._active
        self._active += max(1, policy.max_concurrent_invocations)  # absent is 1
        if before <= most < self._active:
            message = (
                f"with this definition the jobs and triggers of the file may have {self._active} invocations "
                f"at a time, at most {most} are allowed: lower max_concurrent_invocations"
            )
            self._report.error(place.at("max_concurrent_invocations"), message)

    def _policy(self, message: Any, place: Place) -> None:
        report, policy = self._report, self._policy_class(message.kind)
        if policy is None:
            report.error(place.at("kind"), f"unrecognized policy kind {message.kind}")
        for name in ("max_concurrent_invocations", "max_batch_size"):
            number = getattr(message, name)
            if number < 0:
                report.error(place.at(name), f"{name} should be positive, got {number}")
        self._pending_timeout(message, place.at("pending_timeout"))
        for field, text in policy.problems(message) if policy else ():
            report.error(place.at(field), text)

    def _policy_class(self, number: int) -> type[Policy] | None:
        """Return the policy of a number in the schema; None if the era has no such policy. 0 means the default."""
        known = {0: registry.POLICIES[0]} | {policy.number: policy for policy in registry.POLICIES}
        policy = known.get(number)
        return policy if policy and self._era in policy.eras else None

    def _pending_timeout(self, message: Any, place: Place) -> None:
        timeout = pending_timeout(message)
        if timeout < 0:
            self._report.error(place, f"pending_timeout should be positive, got {format_duration(timeout)}")
            return
        values = message.DESCRIPTOR.enum_types_by_name["Kind"].values_by_number
        kind = values[message.kind].name if message.kind in values else str(message.kind)
        if timeout and "pending_timeout" not in registry.policy_class(kind).fields:
            users = " or ".join(policy.kind for policy in registry.POLICIES if "pending_timeout" in policy.fields)
            text = f"pending_timeout is non-zero with non-{users} policy, but {quote(kind)} ignores it"
            self._report.error(place, text)


def _patterns(message: Any) -> set[str]:
    blocks = [block for item in [*message.job, *message.trigger] for block in task_blocks(item)]
    return {pattern for kind, task in blocks for pattern in kind.patterns(task)}


def pending_timeout(policy: Any) -> int:
    """Return a policy's ``pending_timeout`` in nanoseconds, capped to the range of 64 bits."""
    total: int = policy.pending_timeout.seconds * SECOND + policy.pending_timeout.nanos
    return max(-_MAX_DURATION - 1, min(_MAX_DURATION, total))
