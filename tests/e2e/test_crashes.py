"""Functions are killed at every step of a build; and every message and task comes three times. One build, one effect."""

import json
import re
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from emulator.local_cloud import LocalCloud
from emulator.storm.ledger import take_stock
from emulator.storm.network import Network, Tripwire, pass_on, thrice
from emulator.storm.relays import Answer, Call, CutError, Interfere
from tests.e2e.points import POINTS, TIMER, Point
from tests.e2e.stages import Job
from tests.e2e.support import job_id, triggers

T = TypeVar("T")

pytestmark = [pytest.mark.emulators, pytest.mark.timeout(180)]

USUAL = 5
"""So many of the points are part of every run of the tests; ``make crash`` takes all."""
VICTIMS = ("on_gitiles_commit", "on_build_completion", "on_task")


def _cases() -> list[Any]:
    rare = pytest.mark.crash
    return [
        pytest.param(number, point, id=str(point), marks=() if number < USUAL else rare)
        for number, point in enumerate(POINTS)
    ]


@pytest.mark.parametrize(("number", "point"), _cases())
def test_functions_are_killed_at_any_step(cloud: LocalCloud, network: Network, number: int, point: Point) -> None:
    """Whatever step the processes die at, the builds are completed, each once."""

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
    ledger = take_stock(cloud, {job.id: triggers(name, (1, 2))})
    assert ledger.holds, ledger
    assert (ledger.invocations, ledger.builds) == (2, 2)


class OneCheck:
    """Lets one status check of a job through in the stage that is for it, and no other: how many come is a matter of speed."""

    def __init__(self, name: str, deliver: Interfere) -> None:
        self._job = job_id(name)
        self._deliver = deliver
        self._open = threading.Event()
        self._one_by_one = threading.Lock()

    def enter(self, stage: str) -> None:
        """Begin a stage."""
        if stage == "check":
            self._open.set()

    def __call__(self, call: Call, send: Callable[[], T], /) -> T:
        """Interfere."""
        if (call.wire, call.method) != TIMER or json.loads(call.body)["job"] != self._job:
            return self._deliver(call, send)
        with self._one_by_one:
            if not self._open.is_set():
                raise CutError
            answer = self._deliver(call, send)
            if isinstance(answer, Answer) and answer.status == 200:
                self._open.clear()
            return answer


def _pages(cloud: LocalCloud, network: Network, name: str, deliver: Interfere) -> list[dict[str, Any]]:
    """Run a job with everything delivered in some way; return its pages without what differs from run to run."""
    gate = OneCheck(name, deliver)
    network.interfere = gate
    job = Job(cloud, network, name)
    job.run(gate.enter)
    assert take_stock(cloud, {job.id: triggers(name, (1, 2))}).holds
    assert len(job.builds()) == len(job.pages()) == 2
    return [_normal(page, name) for page in job.pages()]


def test_every_delivery_three_times_in_parallel(cloud: LocalCloud, network: Network) -> None:
    """Messages and tasks that come three times at once leave the very pages that single ones leave."""
    single = _pages(cloud, network, "once", pass_on)
    network.deliveries.clear()
    triple = _pages(cloud, network, "thrice", thrice)
    assert network.deliveries
    assert all(times % 3 == 0 for times in network.deliveries.values())
    for page, expected in zip(triple, single, strict=True):
        assert page["debug_log"].splitlines() == expected["debug_log"].splitlines()
        assert page == expected


_VARYING: list[tuple[str, Callable[[re.Match[str]], str] | str]] = [
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>"),
    (r"\[\d\d:\d\d:\d\d\.\d{3}\]", "[<time>]"),
    (r"finished in \S+", "finished in <time>"),
    (r"\b\d{19}\b", "<id>"),
]


def _normal(value: Any, job: str) -> Any:
    """Return a page with times, 64-bit IDs and the job's name made the same."""
    if isinstance(value, dict):
        # The log is compared line by line; how many bytes it has depends on digits and on the job's name.
        return {name: _normal(item, job) for name, item in value.items() if name != "bytes_of_log"}
    if isinstance(value, list):
        return [_normal(item, job) for item in value]
    if not isinstance(value, str):
        return value
    for pattern, text in _VARYING:
        value = re.sub(pattern, text, value)
    return re.sub(rf"\b{job}\b", "<job>", value)
