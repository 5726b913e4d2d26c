"""The deliveries of a scenario, from an invocation's record and debug log. Pure.

The log shows the time and the answers of each delivery; the record has the triggers, the abort, and exact times.
Repeated messages and lost races leave no trace, and would change nothing in a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from luci_scheduler.api.export_builds import Builds, tail
from luci_scheduler.api.export_log import (
    ABORTS,
    CLEANUPS,
    Cursor,
    NotReplayableError,
    begins_with,
    segments,
    stamp_of,
)
from luci_scheduler.api.export_step import Pace, Step
from luci_scheduler.core import log_lines
from luci_scheduler.core.cleanup import BUILD_LIFE
from luci_scheduler.core.commit_event import gitiles_trigger
from luci_scheduler.core.debug_log import LogEntry
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.instants import DAY, MILLISECOND, Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.runtime import Limits
from luci_scheduler.managers.registry import launch_time

__all__ = ["Deliveries", "Launch"]

_MESSAGE = "export-1"
"""The ID of the first message, where it comes again."""

Launch = Callable[[Step, Cursor], None]
"""Adds the launch of a task that ends with it, from the line after the first."""


def _commit_of(invocation: Invocation) -> Trigger | None:
    """Return the only trigger if a commit event says all about it, or None."""
    if len(invocation.incoming_triggers) != 1 or not invocation.incoming_triggers[0].is_commit:
        return None
    trigger = invocation.incoming_triggers[0]
    repo, ref, revision = (str(trigger.payload.get(name, "")) for name in ("repo", "ref", "revision"))
    own = replace(gitiles_trigger(repo, ref, revision, trigger.created), url=trigger.url)  # the link follows from them
    return trigger if trigger == own else None


class Deliveries:
    """Builds the deliveries of one invocation. Call `all` once."""

    def __init__(
        self, invocation: Invocation, builds: Builds | None, launch: Launch | None, *, dies_in: str, is_inline: bool
    ) -> None:
        """Make a builder.

        Args:
            invocation: the record.
            builds: the part for Buildbucket jobs; None for other kinds.
            launch: the part for jobs that end with their launch; None for Buildbucket jobs.
            dies_in: the operation in which an attempt without an outcome dies.
            is_inline: whether the delivery that makes the invocation also makes its first launch attempt.
        """
        self._invocation = invocation
        self._builds = builds
        self._launch = launch
        self._dies_in = dies_in
        self._pace = Pace(invocation.started)
        self._found: list[dict[str, Any]] = []
        self._attempt = 0
        self._claimed_until = 0
        self._is_running = False
        self._is_marked = not invocation.abort_requested_by
        self._last_line = invocation.started
        self._is_inline = is_inline
        self.commit = None if builds is None else _commit_of(invocation)
        """The trigger that arrives as a commit event; None if the triggers arrive as such."""
        self.assumptions: list[str] = []
        """Sentences about members of the scenario that neither the record nor the log determines."""

    def all(self, entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
        """Return the deliveries that a log shows.

        Raises:
            NotReplayableError: the log lacks something that a replay needs.
        """
        for segment in segments(entries, self._invocation, is_inline=self._is_inline):
            self._mark_before(segment[0])
            self._segment(segment)
            self._last_line = segment[-1].at
        if not self._is_marked:
            self._mark(self._invocation.abort_requested_at or self._pace.now)
        return self._found

    def _segment(self, segment: Sequence[LogEntry]) -> None:
        first = segment[0]
        if log_lines.QUEUED.begins(first.text):
            self._creation(segment)
        elif log_lines.NOTIFIED.begins(first.text) or log_lines.HANDLING_TIMER.begins(first.text):
            self._check(segment)
        elif begins_with([first], *ABORTS):
            self._abort(segment)
        elif begins_with([first], *CLEANUPS):
            self._cleanup(first)
        else:
            self._next_attempt(segment)

    def _creation(self, segment: Sequence[LogEntry]) -> None:
        step = Step(self._pace)
        arrival = {**self._trigger(), "at": format_rfc3339(self._invocation.started)}
        started = begins_with(segment, log_lines.STARTING)
        step.spend("read")
        step.spend("read", segment[0].at)
        step.spend("commit", started.at if started else None)
        self._found.append(arrival)
        if started is not None:
            self._attempts(step, segment[segment.index(started) :], arrival)
        elif self._is_inline:
            self._dies(arrival, f"commit[{step.count('commit')}]")
        arrival.update(step.members())

    def _trigger(self) -> dict[str, Any]:
        commit = self.commit
        if commit is not None:
            event = {name: str(commit.payload[name]) for name in ("repo", "ref", "revision")}
            return {"commit": event, "published": format_rfc3339(commit.created)}
        triggers = [_shown(trigger) for trigger in self._invocation.incoming_triggers]
        if not triggers:
            raise NotReplayableError("it has no trigger")
        if len(triggers) > 1:
            self.assumptions.append(
                f"The {len(triggers)} triggers arrive together when the invocation starts. "
                "The record does not say how long each of them waited."
            )
        return {"triggers": {"job": split_job_id(self._invocation.job_id)[1], "list": triggers}}

    def _next_attempt(self, segment: Sequence[LogEntry]) -> None:
        step = Step(self._pace)
        # A stamp has milliseconds. No attempt begins before the claim of an earlier one has ended.
        claimed = min(self._claimed_until, segment[0].at + MILLISECOND - 1)
        delivery = {"task": "launch", "arrival": step.arrive(max(segment[0].at, claimed))}
        self._found.append(delivery)
        self._attempts(step, segment, delivery)
        delivery.update(step.members())

    def _attempts(self, step: Step, segment: Sequence[LogEntry], delivery: dict[str, Any]) -> None:
        """Add a launch attempt, from its first line on."""
        self._attempt += 1
        is_redecided = self._mark_during(segment, step)
        self._claimed_until = 0
        if len(segment) == 1 and not log_lines.TOO_MANY_ATTEMPTS.begins(segment[0].text):
            self._claimed_until = self._pace.now + _LIMITS.claim_lease + launch_time(self._invocation.task)
            self._dies(delivery, self._dies_in.format(step.count("commit") + 1))
            return
        step.spend("commit", segment[1].at if len(segment) > 1 else None)
        cursor = Cursor(segment[1:])
        if self._launch is not None:
            self._launch(step, cursor)
            return
        builds = self._builds
        assert builds is not None  # noqa: S101 - one of the two is given
        if log_lines.TOO_MANY_ATTEMPTS.begins(segment[0].text):
            builds.too_many(step, cursor)
            return
        builds.launch(step, cursor, self._attempt, is_redecided=is_redecided)
        self._is_running = begins_with(segment, log_lines.SCHEDULING_TIMER) is not None

    def _dies(self, delivery: dict[str, Any], operation: str) -> None:
        """Let the function die: the invocation stays as it is until its task comes again."""
        delivery["dies"] = operation
        if "commit" in delivery:
            delivery["message"] = _MESSAGE
        if operation.startswith("gitiles"):
            delivery["gitiles"] = []
        what = f"Launch attempt {self._attempt}: its outcome" if self._attempt else "The launch"
        self.assumptions.append(f"{what} is not recorded. The function dies before {operation} of the delivery.")
        if self._attempt:
            self._found.extend(self._again(delivery))

    def _again(self, delivery: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the delivery that comes again after a death, and enqueues the next launch attempt."""
        if "task" in delivery:
            return [{"task": "launch", "arrival": format_rfc3339(self._pace.now)}]
        if "commit" in delivery:
            same = {name: value for name, value in delivery.items() if name != "dies"}
            return [{**same, "at": format_rfc3339(self._pace.now)}]
        return [{"task": "deferred", "arrival": format_rfc3339(self._pace.now)}]

    def _check(self, segment: Sequence[LogEntry]) -> None:
        step, builds = Step(self._pace), self._builds
        if builds is None:
            raise NotReplayableError(f"a job of its kind has no status checks: {segment[0].text[:100]!r}")
        at, cursor = step.arrive(segment[0].at), Cursor(segment)
        builds.check(step, cursor)
        if log_lines.NOTIFIED.begins(segment[0].text):
            build = {"id": str(self._invocation.task_data.get("build_id", ""))}
            self._found.append({"notification": {"build": build}, "at": at, **step.members()})
        else:
            self._found.append({"task": "timer", "arrival": at, **step.members()})

    def _abort(self, segment: Sequence[LogEntry]) -> None:
        at, requested = segment[0].at, self._invocation.abort_requested_at
        if requested is None:
            self.assumptions.append("The abort was requested when it happened. The record does not say when.")
        is_at_once = not self._is_marked and self._may_abort_at_once(at)
        if not self._is_marked and not is_at_once:
            self._mark(requested or at)
        self._is_marked = True
        step = Step(self._pace)
        arrival = step.arrive(requested if is_at_once and requested is not None else at)
        if self._builds is not None:
            self._builds.abort(step, Cursor(segment), is_known=self._is_running, has_asked=self._attempt > 0)
        else:
            tail(step, Cursor(segment), self._invocation.finished)
        request = {**self._request(), "at": arrival} if is_at_once else {"task": "abort", "arrival": arrival}
        self._found.append({**request, **step.members()})

    def _may_abort_at_once(self, at: Instant) -> bool:
        """Whether the request itself may have aborted the invocation at an instant, and not a later delivery."""
        requested = self._invocation.abort_requested_at
        is_able = self._is_running or self._builds is None
        return is_able and (requested is None or at - stamp_of(requested) < _AT_ONCE)

    def _request(self) -> dict[str, Any]:
        reason = self._invocation.abort_reason
        return {"abort": {"by": self._invocation.abort_requested_by, **({"reason": reason} if reason else {})}}

    def _mark(self, at: int) -> None:
        """Add a request for an abort that cannot be carried out at once."""
        step = Step(self._pace)
        delivery = {**self._request(), "at": step.arrive(at)}
        if self._is_running:
            step.call({"lost": True})
        self._is_marked = True
        self._found.append({**delivery, **step.members()})

    def _mark_before(self, first: LogEntry) -> None:
        """Add the request for an abort if it came before a delivery that carries it out or ignores it."""
        requested = self._invocation.abort_requested_at
        if self._is_marked or requested is None or begins_with([first], *ABORTS):
            return
        if stamp_of(requested) < first.at and not log_lines.QUEUED.begins(first.text):
            self._mark(requested)

    def _mark_during(self, segment: Sequence[LogEntry], step: Step) -> bool:
        """Add the request for an abort if it came during a launch attempt; return whether it decided twice."""
        requested = self._invocation.abort_requested_at
        if self._is_marked or requested is None or self._builds is None or len(segment) == 1:
            return False
        if stamp_of(requested) > segment[1].at:
            return False
        is_before = self._attempt == 1 and bool(begins_with(segment[1:2], log_lines.LAUNCH_SKIPPED))
        operation = "commit[0]" if is_before else "call[0]"
        self._is_marked = True
        at = max(min(requested, self._pace.now if is_before else segment[1].at), self._pace.now)
        self._found.append({**self._request(), "at": format_rfc3339(Instant(at)), "during": operation})
        if is_before:
            step.spend("commit")  # the claim meets the request, and is made again
        return not is_before

    def _cleanup(self, entry: LogEntry) -> None:
        if self._builds is None:
            raise NotReplayableError("a job of its kind has no builds to cancel")
        step, at = Step(self._pace), entry.at
        if log_lines.CLEANUP_GAVE_UP.begins(entry.text):
            # The stamp has no date, and tries end when no build can live any more.
            least = (self._invocation.finished or at) + BUILD_LIFE
            at = Instant(at + max(0, -(-(least - at) // DAY)) * DAY)
        arrival = step.arrive(at)
        self._builds.cleanup(step, entry, self._last_line)
        self.assumptions.append("Only the last try to cancel the build is known. Earlier tries leave no line.")
        self._found.append({"task": "cleanup", "arrival": arrival, **step.members()})


_LIMITS = Limits()
_AT_ONCE = 1_000_000_000
"""Nanoseconds: no outside call lies between a request for an abort and the line about it, if it is carried out."""


def _shown(trigger: Trigger) -> dict[str, Any]:
    """Return a trigger as a scenario has it."""
    members: dict[str, Any] = {
        "kind": str(trigger.kind),
        "payload": dict(trigger.payload),
        "title": trigger.title,
        "url": trigger.url,
        "order": trigger.order_in_batch,
        "by": trigger.emitted_by_user,
        "job": trigger.job_id,
        "invocation": str(trigger.invocation_id) if trigger.invocation_id else "",
    }
    given = {name: value for name, value in members.items() if value}
    return {"id": trigger.id, "created": format_rfc3339(trigger.created), **given}
