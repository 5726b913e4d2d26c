"""A task manager that a test controls, in the place of the noop manager. By default it finishes at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Status, Timer
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.deferral import trigger_work
from luci_scheduler.managers.controller import Controller
from luci_scheduler.ports import QueueTask
from tests.unit.engine.world import World

NOOP = "noop { sleep_ms: 1 }"


class StubManager:
    """Emits the test's triggers, and is idle if the test sets that. It can stay RUNNING until a test ends it."""

    def __init__(self) -> None:
        self.emits: list[Trigger] = []
        self.is_idle = False
        self.asked: list[str] = []
        self.runs_on = False
        self.on_launch: Callable[[], None] = lambda: None

    def idle(self, controller: Controller) -> bool:
        controller.call_once("look", lambda: self.asked.append("looked"))
        return self.is_idle

    def launch(self, controller: Controller) -> None:
        controller.call_once("look", lambda: self.asked.append("looked"))
        self.on_launch()
        for trigger in self.emits:
            controller.emit_trigger(trigger)
        controller.set_status(Status.RUNNING if self.runs_on else Status.SUCCEEDED)

    def handle_notification(self, controller: Controller) -> None:
        raise AssertionError("there are none")

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        raise AssertionError("there are none")

    def abort(self, controller: Controller) -> None:
        pass


def stub_world(text: str) -> tuple[World, StubManager]:
    """Return a world whose noop jobs are handled by a stub."""
    manager = StubManager()
    world = World("")
    managers = {**world.runtime.managers, "noop": manager}
    world.runtime = replace(world.runtime, managers=managers, launch_time=lambda _: 0)
    world.app = replace(world.app, runtime=world.runtime)
    world.sync(text)
    return world, manager


def made(identifier: str, created: int = 0) -> Trigger:
    """Return a trigger to emit."""
    return Trigger(identifier, Instant(created), "noop", {"data": identifier})


def trigger_task(job_id: JobId, triggers: Sequence[Trigger], delivery: str, now: Instant) -> QueueTask:
    """Return a task that delivers triggers to a job, as earlier versions enqueued it and deferred tasks store it."""
    return QueueTask("trigger", dict(trigger_work(job_id, triggers, delivery, now, now).payload), now)
