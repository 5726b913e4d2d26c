"""One local cloud for all tests of the whole system, its network under observation; each test has a project of its own."""

from collections.abc import Iterator

import pytest

from emulator.buildbucket.notifications import NotificationFault
from emulator.buildbucket.plans import End, Manual, Script, Start
from emulator.local_cloud import LocalCloud
from emulator.storm.cli import SHORT_DEADLINES
from emulator.storm.network import Network, pass_on
from luci_scheduler.core.instants import MILLISECOND
from tests.e2e.points import POINTS
from tests.e2e.support import config, wait

PROJECTS = {"burst": 1, "flood": 1, "many": 12, "page": 1, "bad": 1}
STAGED = ["once", "thrice", *(f"crash{number}" for number in range(len(POINTS)))]
"""Projects whose builds start and end when the test says so; of their notifications only the last one is sent."""


@pytest.fixture(scope="session")
def whole_network() -> Iterator[Network]:
    """The network of the local cloud."""
    with Network() as network:
        yield network


@pytest.fixture(scope="session")
def cloud(whole_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """The local cloud: nothing is written by itself, and what a crash interrupts is taken up again within seconds."""
    folder = tmp_path_factory.mktemp("configs")
    projects = {**PROJECTS, **dict.fromkeys(STAGED, 1)}
    for project, jobs in projects.items():
        (folder / project).mkdir()
        (folder / project / "luci-scheduler.cfg").write_text(config(project, jobs), encoding="utf-8")
    plan = Script((Start(50 * MILLISECOND), End(200 * MILLISECOND)))
    settings = {
        **SHORT_DEADLINES,
        "SCHEDULER_REQUEST_DEADLINE_SECONDS": "2",
        "SCHEDULER_CLAIM_LEASE_SECONDS": "3",
        "SCHEDULER_CONFIG_REVISION": "tests",
    }
    with LocalCloud(
        folder,
        check_interval_seconds=2,
        plan=plan,
        settings=settings,
        sweep_seconds=2,
        sync_seconds=0,
        wires=whole_network,
    ) as started:
        for project in STAGED:
            started.buildbucket.plans.set(f"{project}/*", Manual())
            for event in ("created", "started"):
                started.buildbucket.notifier.add_fault(NotificationFault("drop", event, f"{project}/*", None))
        wait(lambda: all(started.page(f"jobs/{project}/job0") for project in projects))
        yield started


@pytest.fixture
def network(whole_network: Network) -> Iterator[Network]:
    """The network, left alone again after the test."""
    yield whole_network
    whole_network.interfere = pass_on
