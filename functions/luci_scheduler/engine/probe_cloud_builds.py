"""Checks of Cloud Build that request no build: whether its API answers our account where jobs build.

Cloud Build has no dry run. So these checks prove the rights to list builds and to read triggers, and not the right to
create builds, nor that to act as the builds' account.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.job import Job
from luci_scheduler.managers.cloud_build.kind import CloudBuildKind
from luci_scheduler.managers.cloud_build.permission import check_permitted
from luci_scheduler.managers.cloud_build.request import is_run, place_of
from luci_scheduler.managers.environment import CloudBuildDefaults, Environment

__all__ = ["CloudCheck", "cloud_checks"]

_MAX_CHECKS = 40  # each costs a call
_NO_SERVICE = "this installation has no Cloud Build jobs: set SCHEDULER_CLOUD_BUILD to true"


@frozen
class CloudCheck:
    """A check of the place, the account and the trigger that jobs name."""

    task: Mapping[str, Any]
    """The fields of the definition of a job that names them."""
    defaults: CloudBuildDefaults

    @property
    def subject(self) -> str:
        """The part that is checked, for people: ``builds in <project>, <location> as <account>`` or a trigger there."""
        place = place_of(self.task, self.defaults)
        where = f"{place.project}, {place.location}"
        if is_run(self.task):
            return f"trigger {self.task['trigger']} in {where}"
        account = self.task.get("service_account") or self.defaults.account
        return f"builds in {where}{f' as {account}' if account else ''}"

    def send(self, environment: Environment, seconds: float) -> None:
        """Read the trigger, or list one build.

        Raises:
            PermanentError: the installation's settings do not permit such jobs.
            CloudBuildError: Cloud Build refuses the account, has no such trigger or location, or does not answer.
        """
        if environment.cloud_build is None:
            raise PermanentError(_NO_SERVICE)
        check_permitted(self.task, self.defaults)
        place = place_of(self.task, self.defaults)
        if is_run(self.task):
            environment.cloud_build.call("GET", place.trigger(self.task["trigger"]), seconds=seconds)
        else:
            environment.cloud_build.call("GET", place.builds, query=[("pageSize", "1")], seconds=seconds)


def cloud_checks(jobs: Iterable[Job], defaults: CloudBuildDefaults) -> list[CloudCheck]:
    """Return a check for each place, account and trigger that enabled jobs name, in the order of the jobs."""
    found: dict[str, CloudCheck] = {}
    for job in jobs:
        task = job.definition.task
        if job.enabled and task.kind == CloudBuildKind.name:
            item = CloudCheck(task.fields, defaults)
            found.setdefault(item.subject, item)
    return list(found.values())[:_MAX_CHECKS]
