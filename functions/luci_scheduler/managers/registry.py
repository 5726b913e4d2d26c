"""The task kinds: the only list of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.managers.buildbucket.kind import BuildbucketKind
from luci_scheduler.managers.cloud_build.kind import CloudBuildKind
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.gitiles.kind import GitilesKind
from luci_scheduler.managers.noop import NoopKind
from luci_scheduler.managers.task_kind import TaskKind
from luci_scheduler.managers.task_manager import TaskManager
from luci_scheduler.managers.url_fetch.kind import UrlFetchKind

__all__ = ["KINDS", "is_poll", "kind_of", "launch_time", "make_era_of", "make_managers"]

KINDS: tuple[TaskKind, ...] = (NoopKind(), UrlFetchKind(), GitilesKind(), BuildbucketKind(), CloudBuildKind())
"""Every task kind of this version."""


class _UnknownKind(TaskKind):
    """Replaces a kind that this version does not know: a document of a newer version may name one."""

    name = ""
    schema = ""

    def manager(self, environment: Environment) -> TaskManager:  # noqa: ARG002 - part of the interface
        raise PermanentError("this version does not know the task kind")


_UNKNOWN = _UnknownKind()


def kind_of(task: TaskDefinition) -> TaskKind:
    """Return the kind of a task; for a kind that this version does not know, one with all the defaults."""
    return next((kind for kind in KINDS if kind.name == task.kind), _UNKNOWN)


def is_poll(task: TaskDefinition) -> bool:
    """Return whether a task polls a repository."""
    return kind_of(task).polled_repo(task) is not None


def make_managers(environment: Environment) -> Mapping[str, TaskManager]:
    """Return the manager of each task kind, by the kind's name. Each is made when it is first needed."""
    return _Managers(environment)


class _Managers(Mapping[str, TaskManager]):
    """The managers by kind. A manager's modules are loaded with the first invocation of its kind."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._kinds = {kind.name: kind for kind in KINDS}
        self._made: dict[str, TaskManager] = {}

    def __getitem__(self, name: str) -> TaskManager:
        if name not in self._made:
            self._made.setdefault(name, self._kinds[name].manager(self._environment))
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


def launch_time(task: TaskDefinition) -> int:
    """Return how long a launch may block on the task itself, in nanoseconds; see `TaskKind.launch_time`."""
    return kind_of(task).launch_time(task)


def make_era_of(environment: Environment) -> Callable[[TaskDefinition], Era]:
    """Return the function that decides the era of a task."""
    return lambda task: kind_of(task).era(task, environment)
