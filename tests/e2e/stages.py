"""A build in stages: two commits for one job, where the second commit waits for the end of the first commit's build."""

from collections.abc import Callable, Collection
from typing import Any

from emulator.buildbucket.builds import Build, Outcome
from emulator.buildbucket.notifications import NotificationFault
from emulator.buildbucket.plans import Manual
from emulator.chaos.network import Network
from emulator.local_cloud import LocalCloud
from tests.e2e.support import PROJECT, job_id, publish
from tests.waiting import until

STAGES = ("launch", "queue", "check", "completion", "end")


def prepare(cloud: LocalCloud, names: Collection[str]) -> None:
    """Let the test start and end the builds of jobs, with the end as the only notification."""
    for name in names:
        builder = f"{PROJECT}/ci/{name}"
        cloud.buildbucket.plans.set(builder, Manual())
        for event in ("created", "started"):
            cloud.buildbucket.notifier.add_fault(NotificationFault("drop", event, builder, None))


class Job:
    """A staged job, driven through `STAGES`."""

    def __init__(self, cloud: LocalCloud, network: Network, name: str) -> None:
        self._cloud = cloud
        self._network = network
        self._name = name
        self.id = job_id(name)

    def run(self, enter: Callable[[str], None]) -> None:
        """Go through all stages, calling ``enter`` before each. Afterwards the job has two invocations, both ended."""
        enter("launch")
        message = publish(self._cloud, self._name, 1)
        first = until(lambda: self._invocation(0, lambda item: item["status"] == "RUNNING"))
        until(lambda: self._is_taken(message))
        enter("queue")
        message = publish(self._cloud, self._name, 2)
        until(lambda: self._is_taken(message))
        enter("check")
        checks = _checks(first)
        until(lambda: self.checks() > checks)
        enter("completion")
        self._end_build(0)
        until(lambda: self._invocation(0, lambda item: item["final"]))
        until(lambda: self._invocation(1, lambda item: item["status"] == "RUNNING"))
        enter("end")
        self._end_build(1)
        until(lambda: self._invocation(1, lambda item: item["final"]))

    def pages(self) -> list[dict[str, Any]]:
        """Return the pages of the invocations, the oldest first."""
        return self._cloud.invocations(self.id)[::-1]

    def checks(self) -> int:
        """Return how many status checks the first invocation has seen."""
        pages = self.pages()
        return _checks(pages[0]) if pages else 0

    def builds(self) -> list[Build]:
        """Return Buildbucket's builds, the oldest first."""
        mine = [build for build in self._cloud.buildbucket.builds.newest_first() if _job_of(build) == self.id]
        return mine[::-1]

    def _is_taken(self, message: str) -> bool:
        # By its ID: messages of an earlier test whose function was killed may be redelivered at any time.
        return message in self._network.taken("on_gitiles_commit")

    def _invocation(self, number: int, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        pages = self.pages()
        return pages[number] if len(pages) > number and holds(pages[number]) else None

    def _end_build(self, number: int) -> None:
        build = self.builds()[number]
        self._cloud.buildbucket.start_build(build.id)
        self._cloud.buildbucket.end_build(build.id, Outcome("SUCCESS"))


def _checks(page: dict[str, Any]) -> int:
    return str(page["debug_log"]).count("Handling timer")


def _job_of(build: Build) -> str:
    return dict(build.spec.tags)["scheduler_job_id"]
