"""The ``gitiles`` task kind: a job that polls a repository and triggers other jobs for its commits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from luci_scheduler.core.era import Era
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.task_kind import PolledRepo, TaskCheck, TaskKind
from luci_scheduler.managers.task_manager import TaskManager

__all__ = ["PATH_REGEXPS", "GitilesKind"]

PATH_REGEXPS = ("path_regexps", "path_regexps_exclude")
"""The fields with regular expressions of paths."""


class GitilesKind(TaskKind):
    """Polls the refs of a Gitiles repository. It has a single stage: each invocation is one poll."""

    name: ClassVar[str] = "gitiles"
    schema: ClassVar[str] = "1 repo string, 2 refs string*, 3 path_regexps string*, 4 path_regexps_exclude string*"
    trigger_field: ClassVar[int] = 101

    def manager(self, environment: Environment) -> TaskManager:
        """Return the manager that polls."""
        from luci_scheduler.managers.gitiles.manager import GitilesManager  # noqa: PLC0415 - see `TaskKind.manager`

        return GitilesManager(environment)

    def era(self, task: TaskDefinition, environment: Environment) -> Era:  # noqa: ARG002 - one setting for all polls
        """Return the era from the installation's settings: polls speak to no Buildbucket server."""
        return environment.polling.era

    def polled_repo(self, task: TaskDefinition) -> PolledRepo:
        """Return the repository that the task polls."""
        fields = task.fields
        include, exclude = (tuple(fields.get(name, ())) for name in PATH_REGEXPS)
        return PolledRepo(str(fields.get("repo", "")), tuple(fields.get("refs", ())), include, exclude)

    def patterns(self, task: Any) -> Iterable[str]:
        """Return the regular expressions among the refs, and all path patterns."""
        from luci_scheduler.managers.gitiles.check import patterns_of  # noqa: PLC0415 - only syncs check configs

        return patterns_of(task)

    def check(self, task: Any, check: TaskCheck) -> None:
        """Validate the repository, the refs and the path filters."""
        from luci_scheduler.managers.gitiles.check import check_task  # noqa: PLC0415 - only syncs check configs

        check_task(task, check)
