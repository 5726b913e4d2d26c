"""The changes of builds over time: plans, steps, time limits, cancellations and approvals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from emulator.building.program_pool import ProgramPool
from emulator.building.timeline import Timeline
from emulator.building.wire_time import format_timestamp
from emulator.clock import Clock
from emulator.cloud_build.builds import FINAL, WAITING, Build, BuildStore
from emulator.cloud_build.endings import end_members
from emulator.cloud_build.errors import CallError
from emulator.cloud_build.notifications import Notifier
from emulator.cloud_build.plans import Change, Plan, RunSteps, Script
from emulator.cloud_build.steps import StepsEnd, run_steps
from luci_scheduler.core.instants import SECOND

__all__ = ["LifeCycle"]

_GRACE = 10 * SECOND
_APPROVER = "approver@example.com"
_TIMED_OUT = "build exceeded its timeout"


class LifeCycle:
    """Changes builds. The API, the control endpoint and tests use the same methods.

    Each change is announced once. An ended build no longer changes.

    Attributes:
        on_change: gets each build that has started or ended, before the functions can learn of it.
    """

    def __init__(
        self, clock: Clock, timeline: Timeline, store: BuildStore, notifier: Notifier, pool: ProgramPool[str]
    ) -> None:
        self._clock = clock
        self._timeline = timeline
        self._store = store
        self._notifier = notifier
        self._pool = pool
        self._plans: dict[str, Plan] = {}
        self.on_change: Callable[[Build], None] = lambda _: None

    def created(self, build: Build, plan: Plan) -> None:
        """Announce a new build, and begin its plan unless it waits for approval."""
        self._plans[build.id] = plan
        self._notifier.announce(build)
        if build.status != "PENDING":
            self._begin(build, build.created)

    def decide(self, build_id: str, *, approved: bool, comment: str = "") -> Build | None:
        """Approve or reject a build that waits for approval; None if none waits."""
        now = self._clock.now()
        result = {
            "approverAccount": _APPROVER,
            "approvalTime": format_timestamp(now),
            "decision": "APPROVED" if approved else "REJECTED",
        }

        def changes(build: Build) -> Mapping[str, Any]:
            whole = {**result, "comment": comment} if comment else result
            approval = {**build.body["approval"], "state": result["decision"], "result": whole}
            ended = {} if approved else {"finishTime": format_timestamp(now)}
            return {"status": "QUEUED" if approved else "CANCELLED", "approval": approval, **ended}

        build = self._store.change(build_id, _waits, changes)
        if build is not None:
            self._announce(build)
            if approved:
                self._begin(build, now)
        return build

    def cancel(self, build: Build) -> Build:
        """Cancel a build; it has ended when this returns.

        Raises:
            CallError: FAILED_PRECONDITION, the build has ended already.
        """

        def changes(build: Build) -> Mapping[str, Any]:
            approval = {"approval": {**build.body["approval"], "state": "CANCELLED"}} if _waits(build) else {}
            return {**end_members(build, Change("CANCELLED", 0), self._clock.now()), **approval}

        canceled = self._store.change(build.id, lambda build: not build.ended, changes)
        if canceled is None:
            raise CallError("FAILED_PRECONDITION", "Cannot cancel a build that is not in progress.")
        self._pool.terminate(build.id)
        self._timeline.at(self._clock.now() + _GRACE, lambda _at: self._pool.kill(build.id))
        self._announce(canceled)
        return canceled

    def change(
        self, build_id: str, change: Change, at: int | None = None, more: Mapping[str, Any] | None = None
    ) -> Build | None:
        """Give a build a status; None if the build is unknown or has ended.

        Args:
            build_id: the build.
            change: the status; its delay does not count.
            at: the instant; now if None.
            more: further members that the build gets.
        """
        instant = self._clock.now() if at is None else at
        build = self._store.change(
            build_id,
            lambda build: not build.ended,
            lambda build: {**self._members(build, change, instant), **(more or {})},
        )
        if build is not None:
            self._announce(build)
            # Steps take real time, which their programs measure. All other builds run on the server's clock.
            if build.status == "WORKING" and not self.runs_steps(build_id):
                self._limit(build, instant + build.duration("timeout"), Change("TIMEOUT", 0, _TIMED_OUT))
        return build

    def runs_steps(self, build_id: str) -> bool:
        """Return whether a build of this server runs its steps."""
        return isinstance(self._plans.get(build_id), RunSteps)

    def stop(self) -> None:
        """Kill the running steps."""
        self._pool.stop()

    def _begin(self, build: Build, since: int) -> None:
        self._limit(build, since + build.duration("queueTtl"), Change("EXPIRED", 0, "build expired in queue"))
        plan = self._plans[build.id]
        if isinstance(plan, Script):
            self._arm(build.id, plan.changes, since)
        else:
            self._timeline.at(since, lambda _at: self._run(build, plan))

    def _arm(self, build_id: str, changes: tuple[Change, ...], since: int) -> None:
        if changes:
            self._timeline.at(since + changes[0].after, lambda at: self._step(build_id, changes, at))

    def _step(self, build_id: str, changes: tuple[Change, ...], at: int) -> None:
        self.change(build_id, changes[0], at)
        self._arm(build_id, changes[1:], at)

    def _limit(self, build: Build, at: int, change: Change) -> None:
        """End a build at a time limit: that of the queue, if it waits then, or that of its run."""
        statuses = WAITING if change.status == "EXPIRED" else {"WORKING"}

        def end(due: int) -> None:
            found = self._store.get(build.id)
            if found is not None and found.status in statuses:
                self.change(build.id, change, due)
                self._pool.kill(build.id)

        self._timeline.at(at, end)

    def _run(self, build: Build, plan: RunSteps) -> None:
        limit = build.duration("timeout") / SECOND
        self._pool.submit(
            build.id,
            (limit, _GRACE / SECOND),
            lambda: self.change(build.id, Change("WORKING", 0)) is not None,
            partial(run_steps, build, plan, self._clock.now),
            partial(self._ran, build.id),
        )

    def _ran(self, build_id: str, end: StepsEnd) -> None:
        """Record the end of a build's steps; a build that was canceled meanwhile gets only their statuses."""
        steps = {"steps": list(end.steps)} if end.steps else {}
        if self.change(build_id, end.change, more=steps) is None:
            canceled = {"steps": [_canceled(step) for step in end.steps]} if end.steps else {}
            self._store.change(build_id, lambda _: True, lambda _: canceled)

    def _members(self, build: Build, change: Change, instant: int) -> Mapping[str, Any]:
        if change.status == "WORKING":
            return {"status": "WORKING", "startTime": format_timestamp(instant)}
        if change.status in FINAL:
            return end_members(build, change, instant)
        return {"status": change.status}

    def _announce(self, build: Build) -> None:
        if build.status not in WAITING:
            self.on_change(build)
        self._notifier.announce(build)


def _waits(build: Build) -> bool:
    """Return whether a build waits for approval."""
    return build.status == "PENDING" and "approval" in build.body


def _canceled(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step of a canceled build: the step that the cancellation has ended did not fail."""
    return {**step, "status": "CANCELLED"} if step.get("status") == "FAILURE" and "exitCode" not in step else dict(step)
