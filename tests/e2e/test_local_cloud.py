"""The whole system on the official emulators, the functions as processes of the functions framework."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from emulator.chaos.network import Network
from emulator.local_cloud import LocalCloud
from emulator.supervisor import FUNCTIONS
from tests.e2e.support import MANY, job_id, publish, settled
from tests.waiting import until

pytestmark = [pytest.mark.emulators, pytest.mark.timeout(180)]


def _publish_many(cloud: LocalCloud, project: str, numbers: range) -> set[str]:
    """Publish commits as fast as possible; return the IDs of the acknowledged messages."""
    with ThreadPoolExecutor(16) as pool:
        return set(pool.map(lambda number: publish(cloud, project, number), numbers))


def test_sixty_commits_within_a_second(cloud: LocalCloud, network: Network) -> None:
    """Each commit is in exactly one invocation with one successful build, and no message has six deliveries."""
    commits = range(1, 61)
    messages = _publish_many(cloud, "burst", commits)
    report = until(lambda: settled(cloud, "burst", commits))
    assert report.holds, report
    assert report.invocations == report.builds
    assert max(network.deliveries[message] for message in messages) <= 5


def test_three_hundred_commits_and_all_functions_killed(cloud: LocalCloud, network: Network) -> None:
    """Every acknowledged commit is built once, although every process dies a second after the first.

    This includes messages that are redelivered because a process died before it could acknowledge them.
    """
    commits = range(1, 301)
    starts = {name: function.starts for name, function in cloud.functions.items()}
    killer = threading.Timer(1.0, lambda: [cloud.kill(name) for name in FUNCTIONS])
    killer.start()
    messages = _publish_many(cloud, "flood", commits)
    killer.join()
    until(lambda: all(function.starts > starts[name] for name, function in cloud.functions.items()))
    for function in cloud.functions.values():
        function.wait_until_ready()
    until(lambda: messages <= network.taken("on_gitiles_commit"), seconds=120)
    report = until(lambda: settled(cloud, "flood", commits), seconds=120)
    assert report.holds, report
    assert report.invocations == report.builds


def test_one_commit_for_many_jobs(cloud: LocalCloud) -> None:
    """Every watching job gets its build."""
    publish(cloud, "many", 1)
    for number in range(MANY):
        report = until(lambda number=number: settled(cloud, f"many{number}", [1], "many"))
        assert report.holds, report
        assert (report.invocations, report.builds) == (1, 1)


def test_a_page_exists_for_people_and_programs(cloud: LocalCloud) -> None:
    """The page exists for people and programs; a missing page is a 404."""
    publish(cloud, "page", 1)
    assert until(lambda: settled(cloud, "page", [1])).holds
    (item,) = cloud.invocations(job_id("page"))
    with requests.Session() as session:
        session.trust_env = False
        page = session.get(f"{cloud.console_url}/jobs/{job_id('page')}/{item['invocation_id']}", timeout=30)
        assert page.status_code == 200
        assert "Invocation finished in" in page.text
        assert "default-src &#39;none&#39;" not in page.text
        assert "'none'" in page.headers["Content-Security-Policy"]
        for path, code in [("jobs/e2e/page/16", 404), ("jobs/e2e/page/x", 400), ("jobs/no/job", 404), ("x", 404)]:
            assert session.get(f"{cloud.console_url}/{path}", timeout=30).status_code == code
