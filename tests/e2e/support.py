"""Helpers for tests of the whole system: one project, in which each job watches a separate repository."""

from collections.abc import Collection, Mapping
from pathlib import Path

from emulator.chaos.report import Report, is_quiet, job_config, take_stock, trigger_id
from emulator.local_cloud import LocalCloud
from emulator.settings import BUILDBUCKET_HOST
from luci_scheduler.core.identifiers import JobId

MAIN = "refs/heads/main"
GITILES_HOST = "r.googlesource.com"
PROJECT = "e2e"
MANY = 12
"""Jobs that watch the repository ``many``: ``many0``, ``many1``..."""


def jobs_beside(name: str) -> list[str]:
    """Return the jobs that watch a repository to which two releases react."""
    return [f"{name}{number}" for number in range(4)]


def job_id(name: str) -> JobId:
    """Return the full name of a job."""
    return JobId(f"{PROJECT}/{name}")


def repo(name: str) -> str:
    """Return the repository that the job of that name watches."""
    return f"https://{GITILES_HOST}/{name}"


def write_config(folder: Path, watched: Mapping[str, Collection[str]]) -> None:
    """Write the project's config into a folder of configs: the jobs that watch each repository, by short names."""
    config = folder / PROJECT / "luci-scheduler.cfg"
    config.parent.mkdir()
    repos = {repo(name): jobs for name, jobs in watched.items()}
    config.write_text(job_config(BUILDBUCKET_HOST, MAIN, repos), encoding="utf-8")


def publish(cloud: LocalCloud, name: str, number: int) -> str:
    """Publish a commit to a repository, with the number as its revision; return the message's ID."""
    return cloud.publish_commit(repo(name), MAIN, f"{number:040x}")


def triggers(name: str, numbers: Collection[int]) -> set[str]:
    """Return the IDs of the triggers for commits to a repository."""
    return {trigger_id(repo(name), MAIN, f"{number:040x}") for number in numbers}


def settled(cloud: LocalCloud, job: str, numbers: Collection[int], repository: str = "") -> Report | None:
    """Return the report of a job when all commits are in ended invocations; None before."""
    if not is_quiet(cloud, [job_id(job)]):
        return None
    report = take_stock(cloud, {job_id(job): triggers(repository or job, numbers)})
    return None if report.lost or report.unfinished else report
