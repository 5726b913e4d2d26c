"""The moments of a build at which functions are killed."""

import random
from dataclasses import dataclass

from emulator.settings import PUBLISHER
from luci_scheduler.core.topic_names import topic_names

SEED = 7

COMMIT = ("on_gitiles_commit", "gitiles-commit")
NOTIFICATION = ("on_build_completion", topic_names("p", "buildbucket", PUBLISHER).topic.rpartition("/")[2])
TIMER = ("on_task", "timer")
SCHEDULE, GET = ("buildbucket", "ScheduleBuild"), ("buildbucket", "GetBuild")
ENQUEUE = ("cloud_tasks", "CreateTask")
WRITE = ("firestore", "Commit")

STEPS = {
    "launch": (COMMIT, WRITE, WRITE, SCHEDULE, ENQUEUE, WRITE),  # invocation created, claimed; running
    "queue": (COMMIT, WRITE),  # trigger waits
    "check": (TIMER, GET, ENQUEUE, WRITE),
    "completion": (NOTIFICATION, GET, WRITE, WRITE, SCHEDULE, ENQUEUE, WRITE),  # ended; successor created, claimed
    "end": (NOTIFICATION, GET, WRITE),
}
"""Every call that changes something or wakes another part, in each stage of a build."""


@dataclass(frozen=True)
class Point:
    """A moment: ``when`` the ``number``-th call of its kind within its stage is made, or has completed."""

    stage: str
    call: tuple[str, str]
    number: int
    when: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.when} {self.call[1].partition('.')[0]} {self.number}"


def _points() -> list[Point]:
    """Return a point at every step. The seed draws the order, and the side of the call."""
    entropy = random.Random(SEED)  # noqa: S311 - to be drawn again
    points = [
        Point(stage, call, calls[: place + 1].count(call), entropy.choice(("before", "after")))
        for stage, calls in STEPS.items()
        for place, call in enumerate(calls)
    ]
    entropy.shuffle(points)
    return points


POINTS = _points()
