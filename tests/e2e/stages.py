"""A build in stages: two commits for one job, the second of which waits for the end of the first one's build."""

from collections.abc import Callable
from typing import Any

from emulator.buildbucket.builds import Build, Outcome
from emulator.local_cloud import LocalCloud
from emulator.storm.network import Network
from tests.e2e.support import job_id, publish, wait

STAGES = ("launch", "queue", "check", "completion", "end")


class Job:
    """A staged job, driven through `STAGES`."""

    def __init__(self, cloud: LocalCloud, network: Network, name: str) -> None:
        self._cloud = cloud
        self._network = network
        self._name = name
        self.id = job_id(name)

    def run(self, enter: Callable[[str], None]) -> None:
        """Go through all stages, calling ``enter`` before each; the job has two invocations then, both over."""
        enter("launch")
        taken = len(self._network.taken("on_gitiles_commit"))
        publish(self._cloud, self._name, 1)
        first = wait(lambda: self._invocation(0, lambda item: item["status"] == "RUNNING"))
        wait(lambda: len(self._network.taken("on_gitiles_commit")) == taken + 1)
        enter("queue")
        publish(self._cloud, self._name, 2)
        wait(lambda: len(self._network.taken("on_gitiles_commit")) == taken + 2)
        enter("check")
        checks = first["debug_log"].count("Handling timer")
        wait(lambda: self._invocation(0, lambda item: item["debug_log"].count("Handling timer") > checks))
        enter("completion")
        self._end_build(0)
        wait(lambda: self._invocation(0, lambda item: item["final"]))
        wait(lambda: self._invocation(1, lambda item: item["status"] == "RUNNING"))
        enter("end")
        self._end_build(1)
        wait(lambda: self._invocation(1, lambda item: item["final"]))

    def pages(self) -> list[dict[str, Any]]:
        """Return the pages of the invocations, the oldest first."""
        return self._cloud.invocations(self.id)[::-1]

    def builds(self) -> list[Build]:
        """Return Buildbucket's builds, the oldest first."""
        mine = [build for build in self._cloud.buildbucket.builds.newest_first() if _job_of(build) == self.id]
        return mine[::-1]

    def _invocation(self, number: int, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        pages = self.pages()
        return pages[number] if len(pages) > number and holds(pages[number]) else None

    def _end_build(self, number: int) -> None:
        build = self.builds()[number]
        self._cloud.buildbucket.start_build(build.id)
        self._cloud.buildbucket.end_build(build.id, Outcome("SUCCESS"))


def _job_of(build: Build) -> str:
    return dict(build.spec.tags)["scheduler_job_id"]
