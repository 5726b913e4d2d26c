"""The ``url_fetch`` task kind: a job that fetches a URL."""

from __future__ import annotations

from typing import Any, ClassVar

from luci_scheduler.core.go_text import quote
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.task_kind import TaskCheck, TaskKind
from luci_scheduler.managers.task_manager import TaskManager
from luci_scheduler.managers.urls import url_problem

__all__ = ["UrlFetchKind", "fetch_time"]

_DEFAULT_TIMEOUT = 60 * SECOND  # the original's
_MAX_TIMEOUT = 8 * MINUTE  # the original's
_TIMEOUT_SECONDS = (1, 480)  # the bounds in a config, which are the original's


class UrlFetchKind(TaskKind):
    """Fetches a URL once; it has a single stage."""

    name: ClassVar[str] = "url_fetch"
    schema: ClassVar[str] = "1 method string, 2 url string, 3 timeout_sec int32"
    job_field: ClassVar[int] = 101

    def manager(self, environment: Environment) -> TaskManager:
        """Return the manager that fetches."""
        from luci_scheduler.managers.url_fetch.manager import UrlFetchManager  # noqa: PLC0415 - see `TaskKind.manager`

        return UrlFetchManager(environment)

    def check(self, task: Any, check: TaskCheck) -> None:
        """Validate method, URL and timeout."""
        least, most = _TIMEOUT_SECONDS
        if task.method not in ("", "GET"):
            check.error(f"unsupported HTTP method: {quote(task.method)}", "method")
        if problem := url_problem(task.url, "url"):
            check.error(problem, "url")
        if task.timeout_sec and task.timeout_sec < least:
            check.error(f"minimum allowed 'timeout_sec' is {least} sec, got {task.timeout_sec}", "timeout_sec")
        if task.timeout_sec > most:
            check.error(f"maximum allowed 'timeout_sec' is {most} sec, got {task.timeout_sec}", "timeout_sec")

    def launch_time(self, task: TaskDefinition) -> int:
        """Return the fetch's timeout, in nanoseconds."""
        return fetch_time(task)


def fetch_time(task: TaskDefinition) -> int:
    """Return the timeout of a task's fetch, in nanoseconds."""
    seconds = int(task.fields.get("timeout_sec", 0))
    return min(seconds * SECOND or _DEFAULT_TIMEOUT, _MAX_TIMEOUT)
