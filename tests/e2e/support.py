"""What the tests of the whole system share."""

import time
from collections.abc import Callable, Collection
from typing import Any

from emulator.local_cloud import BUILDBUCKET_HOST, LocalCloud
from emulator.storm.ledger import Ledger, is_quiet, job_config, take_stock, trigger_id

MAIN = "refs/heads/main"


def wait(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Ask until there is an answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"nothing after {seconds} s")


def repo(project: str) -> str:
    """Return the repository that the jobs of a project watch."""
    return f"https://r.googlesource.com/{project}"


def config(project: str, jobs: int) -> str:
    """Return the config of a project whose jobs ``job0``, ``job1``... all watch its repository."""
    return job_config(BUILDBUCKET_HOST, repo(project), MAIN, [f"job{number}" for number in range(jobs)])


def publish(cloud: LocalCloud, project: str, *numbers: int) -> None:
    """Publish commits; a number is a revision."""
    for number in numbers:
        cloud.publish_commit(repo(project), MAIN, f"{number:040x}")


def triggers(project: str, numbers: Collection[int]) -> set[str]:
    """Return the IDs of the triggers that commits become."""
    return {trigger_id(repo(project), MAIN, f"{number:040x}") for number in numbers}


def settled(cloud: LocalCloud, project: str, numbers: Collection[int], job: str = "job0") -> Ledger | None:
    """Return the ledger of a job once all the commits are in invocations and all of these have ended."""
    name = f"{project}/{job}"
    if not is_quiet(cloud, [name]):
        return None
    ledger = take_stock(cloud, {name: triggers(project, numbers)})
    return None if ledger.lost or ledger.unfinished else ledger
