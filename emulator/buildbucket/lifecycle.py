"""The changes of builds over time: plans, timeouts and cancellations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from emulator.buildbucket.builds import Build, BuildStore, Outcome
from emulator.buildbucket.commands import Commands
from emulator.buildbucket.notifications import Notifier
from emulator.buildbucket.plans import Announce, Command, End, Manual, Plan, Plans, Script, Start
from emulator.building.timeline import Timeline
from emulator.clock import Clock
from luci_scheduler.core.instants import HOUR, SECOND

__all__ = ["LifeCycle"]

# The service ends a build of this age.
BUILD_LIFETIME = 5 * 24 * HOUR
# The service ends a canceled build after this and the grace period if the agent did not notice the cancellation.
CANCEL_NOTICE_LIMIT = 30 * SECOND
_EXPIRED = Outcome("INFRA_FAILURE", timeout=True, resource_exhaustion=True)
_TIMED_OUT = Outcome("INFRA_FAILURE", timeout=True)


class LifeCycle:
    """Changes builds. The APIs of the server and the tests use the same methods.

    Each change is announced once. An ended build no longer changes.

    Attributes:
        on_change: gets each build that has started or ended, before the functions can learn of it.
    """

    def __init__(
        self,
        clock: Clock,
        timeline: Timeline,
        store: BuildStore,
        notifier: Notifier,
        plans: Plans,
        commands: Commands,
    ) -> None:
        self._clock = clock
        self._timeline = timeline
        self._store = store
        self._notifier = notifier
        self._plans = plans
        self._commands = commands
        self.on_change: Callable[[Build], None] = lambda _: None
        self._chosen: dict[int, Plan] = {}

    def created(self, build: Build) -> None:
        """Announce a new build, and schedule its plan and its timeouts."""
        plan = self._plans.choose(build.spec)
        self._chosen[build.id] = plan
        self._notifier.announce(build, "created", plan.created)
        if isinstance(plan, Manual):
            return
        self._later(build.create_time + build.spec.scheduling_timeout, lambda at: self._expire(build.id, at))
        self._later(build.create_time + BUILD_LIFETIME, lambda at: self._force(build.id, at, _TIMED_OUT))
        if isinstance(plan, Command):
            self._later(build.create_time + plan.start_after, lambda _at: self._run(build.id, plan))
        else:
            self._arm(build.id, plan.steps, build.create_time)

    def start(self, build_id: int, *, at: int | None = None, announce: Announce | None = None) -> Build | None:
        """Start a scheduled build, by default now; None if the build is not scheduled."""
        instant = self._clock.now() if at is None else at
        build = self._store.start(build_id, instant)
        if build is not None:
            self.on_change(build)
            self._notifier.announce(build, "started", announce or Announce())
            if isinstance(self._chosen.get(build_id), Script):
                self._later(instant + build.spec.execution_timeout, lambda due: self._force(build_id, due, _TIMED_OUT))
        return build

    def end(
        self,
        build_id: int,
        outcome: Outcome,
        *,
        at: int | None = None,
        announce: Announce | None = None,
        reported_ago: int = 0,
    ) -> Build | None:
        """End a build, by default now; None if the build is unknown or has ended already."""
        instant = self._clock.now() if at is None else at
        build = self._store.end(build_id, instant, outcome, reported_ago=reported_ago)
        if build is not None:
            self.on_change(build)
            self._notifier.announce(build, "ended", announce or Announce())
        return build

    def cancel_at_once(self, build: Build, caller: str, summary: str) -> Build:
        """Cancel a build like the v1 API: the build has ended when this returns. An ended build does not change."""
        self._store.request_cancel(build.id, self._clock.now(), caller, "")
        ended = self.end(build.id, Outcome("CANCELED", summary=summary))
        self._commands.terminate(build.id)
        if ended is not None and not isinstance(self._chosen.get(build.id), Manual):
            self._later(self._clock.now() + build.spec.grace_period, lambda _at: self._commands.kill(build.id))
        return ended or self._now(build)

    def cancel_soon(self, build: Build, caller: str, markdown: str) -> Build:
        """Cancel a build like the v2 API.

        The request is recorded, and the build ends within about a minute or finishes first.
        """
        now = self._clock.now()
        canceling = self._store.request_cancel(build.id, now, caller, markdown)
        if canceling is None:
            return self._now(build)
        plan = self._chosen.get(build.id)
        if isinstance(plan, Manual):
            return canceling
        if isinstance(plan, Command):
            if canceling.status == "SCHEDULED" and (ended := self.end(build.id, Outcome("CANCELED"))):
                return ended
            self._commands.terminate(build.id)
        elif isinstance(plan, Script) and plan.cancel_after is not None and canceling.status == "STARTED":
            self._later(now + plan.cancel_after, lambda at: self._force(build.id, at, Outcome("CANCELED")))
        limit = now + CANCEL_NOTICE_LIMIT + build.spec.grace_period
        self._later(limit, lambda at: self._force(build.id, at, Outcome("CANCELED")))
        return canceling

    def runs_command(self, build_id: int) -> bool:
        """Return whether a build of this server runs a program."""
        return isinstance(self._chosen.get(build_id), Command)

    def stop(self) -> None:
        """Kill the running programs."""
        self._commands.stop()

    def _now(self, build: Build) -> Build:
        return self._store.get(build.id) or build

    def _later(self, at: int, action: Callable[[int], None]) -> None:
        self._timeline.at(at, action)

    def _arm(self, build_id: int, steps: tuple[Start | End, ...], since: int) -> None:
        if steps:
            self._later(since + steps[0].after, lambda at: self._step(build_id, steps, at))

    def _step(self, build_id: int, steps: tuple[Start | End, ...], at: int) -> None:
        step = steps[0]
        if isinstance(step, Start):
            self.start(build_id, at=at, announce=step.announce)
        else:
            self.end(build_id, step.outcome, at=at, announce=step.announce, reported_ago=step.reported_ago)
        self._arm(build_id, steps[1:], at)

    def _expire(self, build_id: int, at: int) -> None:
        build = self._store.get(build_id)
        if build is not None and build.status == "SCHEDULED":
            self.end(build_id, _EXPIRED, at=at)

    def _force(self, build_id: int, at: int, outcome: Outcome) -> None:
        self.end(build_id, outcome, at=at)
        self._commands.kill(build_id)

    def _run(self, build_id: int, command: Command) -> None:
        build = self._store.get(build_id)
        if build is not None and build.status == "SCHEDULED":
            self._commands.submit(
                build, command, lambda: self.start(build_id) is not None, partial(self._exited, build_id)
            )

    def _exited(self, build_id: int, outcome: Outcome) -> None:
        build = self._store.get(build_id)
        canceled = build is not None and build.cancel_time is not None
        self.end(build_id, replace(outcome, status="CANCELED", timeout=False) if canceled else outcome)
