"""Every message and task is delivered three times at once; the pages equal those of single deliveries."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from emulator.chaos.network import Network, pass_on, thrice
from emulator.chaos.relays import Call, CutError, Interfere
from emulator.chaos.report import take_stock
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.start import start_local_cloud
from tests.e2e.points import TIMER
from tests.e2e.stages import Job, prepare
from tests.e2e.support import job_id, triggers, write_config

T = TypeVar("T")

pytestmark = [pytest.mark.emulators, pytest.mark.timeout(180)]

JOBS = ("once", "thrice")


@pytest.fixture
def network() -> Iterator[Network]:
    """The network of the local cloud."""
    with Network() as network:
        yield network


@pytest.fixture
def cloud(network: Network, tmp_path: Path) -> Iterator[LocalCloud]:
    """A local cloud in which a slow machine has no effect: deadlines are long, and nothing is lost."""
    write_config(tmp_path, {name: [name] for name in JOBS})
    settings = {"SCHEDULER_COMMIT_WAIT_SECONDS": "0"}  # the commits are made up
    options = Options(
        tmp_path, check_interval_seconds=2, settings=settings, sweep_seconds=0, sync_seconds=0, interceptors=network
    )
    with start_local_cloud(options) as started:
        prepare(started, JOBS)
        yield started


class OneCheck:
    """Lets exactly one status check of a job through, in its stage: the number of checks depends on the speed.

    Args:
        name: the job's.
        deliver: sends a call.
        handled: returns how many checks the job's first invocation has seen. The functions' answers do not show that,
            because they also acknowledge stale checks.
    """

    def __init__(self, name: str, deliver: Interfere, handled: Callable[[], int]) -> None:
        self._job = job_id(name)
        self._deliver = deliver
        self._handled = handled
        self._open = threading.Event()
        self._one_by_one = threading.Lock()

    def enter(self, stage: str) -> None:
        """Begin a stage."""
        if stage == "check":
            self._open.set()

    def __call__(self, call: Call, send: Callable[[], T], /) -> T:
        """Interfere."""
        if (call.server, call.method) != TIMER or json.loads(call.body)["job"] != self._job:
            return self._deliver(call, send)
        with self._one_by_one:
            if not self._open.is_set():
                raise CutError
            before = self._handled()
            answer = self._deliver(call, send)
            if self._handled() > before:
                self._open.clear()
            return answer


def _pages(cloud: LocalCloud, network: Network, name: str, deliver: Interfere) -> list[dict[str, Any]]:
    """Run a job with one way of delivery; return its pages without the parts that differ between runs."""
    job = Job(cloud, network, name)
    gate = OneCheck(name, deliver, job.checks)
    network.interfere = gate
    job.run(gate.enter)
    assert take_stock(cloud, {job.id: triggers(name, (1, 2))}).holds
    assert len(job.builds()) == len(job.pages()) == 2
    return [_normal(page, name) for page in job.pages()]


def test_every_delivery_three_times_in_parallel(cloud: LocalCloud, network: Network) -> None:
    """Messages and tasks that are delivered three times at once produce the same pages as single deliveries."""
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
