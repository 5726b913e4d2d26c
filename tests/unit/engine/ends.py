"""Ways to end the invocation of a world's job."""

from __future__ import annotations

from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.ports import BuildbucketError
from tests.unit.engine.world import JOB, World

__all__ = ["DOWN", "WHO", "abort", "abort_later", "check", "notify"]

WHO = "user:a@example.com"
DOWN = BuildbucketError("UNAVAILABLE", "down", transient=True)


def notify(world: World) -> None:
    """End the build, and deliver its notification."""
    world.finish()
    world.notify("done")


def check(world: World) -> None:
    """End the build without a notification; the status check of the next minute finds it."""
    world.finish()
    world.tick(60)


def abort(world: World) -> None:
    """Abort the newest invocation."""
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, WHO, "k")


def abort_later(world: World) -> None:
    """Abort the newest invocation while Buildbucket fails one call; the abort's task performs it."""
    world.buildbucket.faults = [DOWN]
    abort(world)
    assert not world.invocations()[0].status.is_final
    (task,) = (task for task in world.queue.tasks if task.kind == "abort")
    world.queue.remove(task)
    world.run_task(task)
