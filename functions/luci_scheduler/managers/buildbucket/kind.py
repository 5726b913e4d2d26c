"""The ``buildbucket`` task kind: a job that runs builds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.kv_lists import check_kv_list, unpack_kv_list
from luci_scheduler.managers.buildbucket.builder_id import builder_id, canonical_bucket, server_of
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.task_kind import Fact, TaskCheck, TaskKind
from luci_scheduler.managers.task_manager import TaskManager

__all__ = ["BuildbucketKind"]

_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(:[0-9]{1,5})?")
_RESERVED_TAGS = {
    Era.V1: ("scheduler_invocation_id", "scheduler_job_id", "user_agent", "builder"),
    Era.V2: ("scheduler_invocation_id", "scheduler_job_id", "user_agent"),
}


class BuildbucketKind(TaskKind):
    """Runs a build on a Buildbucket server. It has several stages: a launch schedules the build, which then runs."""

    name: ClassVar[str] = "buildbucket"
    schema: ClassVar[str] = "1 server string, 2 bucket string, 3 builder string, 4 properties string*, 5 tags string*"
    job_field: ClassVar[int] = 103
    is_multistage: ClassVar[bool] = True
    noun: ClassVar[str] = "build"

    def manager(self, environment: Environment) -> TaskManager:
        """Return the manager of builds."""
        from luci_scheduler.managers.buildbucket.manager import BuildbucketManager  # noqa: PLC0415 - see `TaskKind.manager`

        return BuildbucketManager(environment)

    def era(self, task: TaskDefinition, environment: Environment) -> Era:
        """Return the era of the protocol that the task's server speaks."""
        server = server_of(environment.servers, task.fields.get("server", ""))
        return server.protocol if server else Era.V2

    def facts(self, invocation: Invocation) -> Sequence[Fact]:
        """Return the row with the number of the build and the link to it."""
        return (Fact("Build", str(invocation.task_data.get("build_id", "")), invocation.view_url),)

    def check(self, task: Any, check: TaskCheck) -> None:
        """Validate server, bucket, builder, properties and tags."""
        if problem := _server_problem(task.server):
            check.error(problem, "server")
        _check_bucket(task, check)
        if not task.builder:
            check.error("'builder' field is required", "builder")
        _check_key_values("property", "properties", task.properties, check)
        if _check_key_values("tag", "tags", task.tags, check):
            for index, (key, _) in enumerate(unpack_kv_list(task.tags)):
                if key in _RESERVED_TAGS[check.era]:
                    check.error(f"tag {quote(key)} is reserved", "tags", index)


def _server_problem(server: str) -> str:
    if not server:
        return "field 'server' is required"
    if "//" in server:
        return f"field 'server' should be just a host, not a URL: {quote(server)}"
    return "" if _HOST.fullmatch(server) else f"field 'server' is not a valid hostname {quote(server)}"


def _check_bucket(task: Any, check: TaskCheck) -> None:
    if check.era is Era.V1:
        if not task.bucket:
            check.error("'bucket' field is required", "bucket")
        return
    bucket = task.bucket if check.strict else canonical_bucket(task.bucket)
    try:
        builder_id(check.realm_id, bucket, task.builder)
    except PermanentError as error:
        check.error(str(error), "bucket")
    if bucket != task.bucket:
        message = f"the bucket name {quote(task.bucket)} has the form of Buildbucket v1; it is read as {quote(bucket)}"
        check.warning(message, "bucket")


def _check_key_values(noun: str, field: str, items: Sequence[str], check: TaskCheck) -> bool:
    """Check a list of ``key:value`` items. Return whether its items can be read."""
    with check.within(field):
        try:
            check_kv_list(noun, items)
        except PermanentError as error:
            first = next(index for index, item in enumerate(items) if ":" not in item)
            check.error(str(error), field, first)
            return False
    return check.few(field, items)
