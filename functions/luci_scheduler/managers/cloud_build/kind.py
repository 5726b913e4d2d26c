"""The ``cloud_build`` task kind: a job that builds with Google Cloud Build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.task_kind import Fact, TaskCheck, TaskKind
from luci_scheduler.managers.task_manager import TaskManager

__all__ = ["CloudBuildKind"]

_RUN_TIME = 180 * SECOND
"""How long Cloud Build may resolve the source of a trigger before it answers: its own limit of the request."""

_IDENTITY = ("build_id", "project", "location")


class CloudBuildKind(TaskKind):
    """Builds with Cloud Build: runs an existing trigger, or inline steps. It has several stages, like Buildbucket."""

    name: ClassVar[str] = "cloud_build"
    schema: ClassVar[str] = (
        "1 project string, 2 location string, 3 trigger string, 4 steps CloudBuildStep*, 5 source CloudBuildSource, "
        "6 substitutions string*, 7 tags string*, 8 service_account string, 9 timeout_sec int32, "
        "10 queue_ttl_sec int32, 11 machine_type string, 12 pool string, 13 logs_bucket string, 14 images string*, "
        "15 env string*, 16 secrets CloudBuildSecret*"
    )
    messages: ClassVar[Mapping[str, str]] = {
        "CloudBuildStep": (
            "1 name string, 2 args string*, 3 entrypoint string, 4 script string, 5 env string*, 6 dir string, "
            "7 id string, 8 wait_for string*, 9 timeout_sec int32, 10 secret_env string*, 11 allow_failure bool"
        ),
        "CloudBuildSource": (
            "1 repo string, 2 connected_repository string, 3 git_repository_link string, 4 dir string, "
            "5 revision string, 6 none bool"
        ),
        "CloudBuildSecret": "1 env string, 2 version string",
    }
    job_field: ClassVar[int] = 1000
    is_multistage: ClassVar[bool] = True
    retry_pause: ClassVar[int] = MINUTE
    noun: ClassVar[str] = "build"

    def manager(self, environment: Environment) -> TaskManager:
        """Return the manager of builds."""
        from luci_scheduler.managers.cloud_build.manager import CloudBuildManager  # noqa: PLC0415 - see `TaskKind.manager`

        return CloudBuildManager(environment)

    def check(self, task: Any, check: TaskCheck) -> None:
        """Validate the whole block."""
        from luci_scheduler.managers.cloud_build.checks import check_task  # noqa: PLC0415 - only syncs need the rules

        check_task(task, check)

    def launch_time(self, task: TaskDefinition) -> int:
        """Return how long the request to run a trigger may take; a request with steps is quick."""
        return _RUN_TIME if task.fields.get("trigger") else 0

    def identity(self, task_data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the build's ID and place. The other task data change while the build runs."""
        return {name: task_data.get(name) for name in _IDENTITY}

    def facts(self, invocation: Invocation) -> Sequence[Fact]:
        """Return the rows with the build's ID and link, its status, and the reason of its failure."""
        data = {name: str(value) for name, value in invocation.task_data.items()}
        status = ", ".join(data[name] for name in ("status", "waits") if data.get(name))
        return (
            Fact("Build", data.get("build_id", ""), invocation.view_url),
            Fact("Build status", status),
            Fact("Failure", data.get("reason", "")),
        )
