"""A rollout: functions of two releases share one database through a burst of commits, and nothing is lost.

The last release's own code runs beside today's. Then today's runs beside a next release, whose documents have members
that today's functions do not know, or a schema that they do not read.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator.chaos.network import Network
from emulator.chaos.report import Report
from emulator.local_cloud import LocalCloud
from emulator.supervisor import FUNCTIONS
from tests.e2e.side_by_side import MEMBER, NEXT, bodies_of_next, burst, other_release, unpack_last_release

pytestmark = [pytest.mark.emulators, pytest.mark.timeout(300)]

COMMITS = pytest.mark.parametrize("commits", [20, pytest.param(300, marks=pytest.mark.crash)])


@pytest.fixture
def client(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the local cloud's database."""
    from google.cloud import firestore

    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", cloud.firestore_address)
    client = firestore.Client(project=cloud.project)
    yield client
    client.close()


def _check(reports: list[Report]) -> None:
    for report in reports:
        assert report.holds, report
        assert report.invocations == report.builds


@COMMITS
def test_the_last_release_beside_this_one(cloud: LocalCloud, network: Network, tmp_path: Path, commits: int) -> None:
    """Each commit is in one invocation of each job with one build, whichever release gets which delivery."""
    with other_release(cloud, unpack_last_release(tmp_path)) as last:
        reports, split = burst(cloud, network, last, "last", commits)
    _check(reports)
    assert min(codes.count(200) for codes in split.answers.values()) >= commits // 4


@COMMITS
def test_this_release_beside_the_next_one(cloud: LocalCloud, network: Network, client: Any, commits: int) -> None:
    """Besides, the documents keep every member that only the next release knows."""
    with other_release(cloud, NEXT) as following:
        reports, split = burst(cloud, network, following, "following", commits)
    _check(reports)
    assert min(codes.count(200) for codes in split.answers.values()) >= commits // 4
    bodies = dict(bodies_of_next(client))
    assert [path for path, body in bodies.items() if MEMBER not in body] == []
    inner = [
        (path, part, body[part])
        for path, body in bodies.items()
        for part in ("cron", "definition", "trigger")
        if part in body
    ]
    assert [(path, part) for path, part, value in inner if MEMBER not in value] == []
    assert {path.split("/")[-2] for path in bodies} == {"jobs", "triggers", "invocations"}


@pytest.mark.crash
def test_a_next_release_with_another_schema(cloud: LocalCloud, network: Network) -> None:
    """This release leaves the next one's documents alone and asks for another delivery, which the next one takes."""
    with other_release(cloud, NEXT, FUNCTIONS, NEXT_SCHEMA="2") as following:
        reports, split = burst(replace(cloud, console_url=following.console_url), network, following, "raised", 300)
    _check(reports)
    assert 500 in split.answers[False]
