"""Functions are killed at every step of a build: every commit is built, once."""

from typing import Any

import pytest

from emulator.chaos.network import Network, Tripwire
from emulator.chaos.report import take_stock
from emulator.local_cloud import LocalCloud
from tests.e2e.points import POINTS, Point
from tests.e2e.stages import Job
from tests.e2e.support import triggers

pytestmark = [pytest.mark.emulators, pytest.mark.timeout(180)]

USUAL = 5
"""The number of points in every test run; ``make crash`` uses all points."""
VICTIMS = ("on_gitiles_commit", "on_build_completion", "on_task")


def _cases() -> list[Any]:
    rare = pytest.mark.crash
    return [
        pytest.param(number, point, id=str(point), marks=() if number < USUAL else rare)
        for number, point in enumerate(POINTS)
    ]


@pytest.mark.parametrize(("number", "point"), _cases())
def test_functions_are_killed_at_any_step(cloud: LocalCloud, network: Network, number: int, point: Point) -> None:
    """If the processes die at any step, each build still completes once."""

    def kill() -> None:
        for name in VICTIMS:
            cloud.kill(name)

    wire = Tripwire(*point.call, point.when, kill, point.number)

    def enter(stage: str) -> None:
        if stage == point.stage:
            network.interfere = wire

    for victim in VICTIMS:
        cloud.functions[victim].wait_until_ready()
    name = f"crash{number}"
    job = Job(cloud, network, name)
    job.run(enter)
    assert wire.tripped.is_set()
    report = take_stock(cloud, {job.id: triggers(name, (1, 2))})
    assert report.holds, report
    assert (report.invocations, report.builds) == (2, 2)
