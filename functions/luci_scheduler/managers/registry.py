"""The task kinds: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from luci_scheduler.core.era import Era
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.managers import noop, url_fetch
from luci_scheduler.managers.buildbucket.manager import BuildbucketManager
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.gitiles.manager import GitilesManager
from luci_scheduler.managers.task_manager import TaskManager

__all__ = ["launch_time", "make_era_of", "make_managers"]


def make_managers(environment: Environment) -> Mapping[str, TaskManager]:
    """Return the manager of each task kind."""
    return {
        "buildbucket": BuildbucketManager(environment),
        "gitiles": GitilesManager(environment),
        "noop": noop.NoopManager(),
        "url_fetch": url_fetch.UrlFetchManager(environment),
    }


_LAUNCH_TIMES: Mapping[str, Callable[[TaskDefinition], int]] = {
    "noop": noop.launch_time,
    "url_fetch": url_fetch.launch_time,
}


def launch_time(task: TaskDefinition) -> int:
    """Return how long launching a task may block on the task itself, in nanoseconds; 0 where a launch is a few requests."""
    measure = _LAUNCH_TIMES.get(task.kind)
    return measure(task) if measure else 0


def make_era_of(environment: Environment) -> Callable[[TaskDefinition], Era]:
    """Return the function that tells a task's era: a Buildbucket task's server decides, a setting for gitiles tasks.

    Everything else is of today.
    """

    def era_of(task: TaskDefinition) -> Era:
        if task.kind == "gitiles":
            return environment.polling.era
        server = environment.servers.get(task.fields.get("server", ""))
        return server.protocol if server else Era.V2

    return era_of
