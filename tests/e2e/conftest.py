"""One local cloud for all tests of the whole system, its network under observation; each test has its own job."""

from collections.abc import Iterator

import pytest

from emulator.buildbucket.plans import End, Script, Start
from emulator.chaos.cli import SHORT_DEADLINES
from emulator.chaos.network import Network, pass_on
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.start import start_local_cloud
from luci_scheduler.core.instants import MILLISECOND
from tests.e2e.points import POINTS
from tests.e2e.stages import prepare
from tests.e2e.support import MANY, jobs_beside, write_config

STAGED = [f"crash{number}" for number in range(len(POINTS))]


@pytest.fixture(scope="session")
def whole_network() -> Iterator[Network]:
    """The network of the local cloud."""
    with Network() as network:
        yield network


@pytest.fixture(scope="session")
def cloud(whole_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """The local cloud: nothing is written without a cause, and interrupted work resumes within seconds of a crash."""
    configs = tmp_path_factory.mktemp("configs")
    watched = {name: [name] for name in ("burst", "flood", "page", "bad", *STAGED)}
    several = {name: jobs_beside(name) for name in ("last", "following", "raised")}
    write_config(configs, {**watched, **several, "many": [f"many{number}" for number in range(MANY)]})
    plan = Script((Start(50 * MILLISECOND), End(200 * MILLISECOND)))
    settings = {
        **SHORT_DEADLINES,
        "SCHEDULER_REQUEST_DEADLINE_SECONDS": "2",
        "SCHEDULER_CLAIM_LEASE_SECONDS": "3",
    }
    options = Options(
        configs,
        check_interval_seconds=2,
        plan=plan,
        settings=settings,
        sweep_seconds=2,
        sync_seconds=0,
        interceptors=whole_network,
    )
    with start_local_cloud(options) as started:
        # Leases are scaled down, the minute for which Buildbucket knows a request is not: without it they are on their
        # own.
        started.buildbucket.request_id_memory = 0
        prepare(started, STAGED)
        yield started


@pytest.fixture
def network(whole_network: Network) -> Iterator[Network]:
    """The network, whose interference ends with the test."""
    yield whole_network
    whole_network.interfere = pass_on
