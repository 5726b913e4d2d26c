"""The projects and service accounts that a definition may name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.go_text import quote
from luci_scheduler.managers.cloud_build.request import place_of
from luci_scheduler.managers.environment import CloudBuildDefaults

__all__ = ["check_permitted"]

_REMEDY = "add it to SCHEDULER_CLOUD_BUILD_PROJECTS"


def check_permitted(task: Mapping[str, Any], defaults: CloudBuildDefaults) -> None:
    """Check that the installation permits the project and the service account of a task.

    A build has the rights of its account, and the authors of configs choose the account. The installation's list bounds
    that choice.

    Raises:
        PermanentError: it does not. The text names the setting to change.
    """
    project, account = place_of(task, defaults).project, task.get("service_account", "")
    is_default = project == defaults.project
    if not is_default and project not in defaults.projects:
        raise PermanentError(f"project {quote(project)} may not be built in by this installation: {_REMEDY}")
    permitted = {_email(item) for item in defaults.projects.get(project, ())}
    if is_default and defaults.account:
        permitted.add(_email(defaults.account))
    if account and _email(account) not in permitted:
        raise PermanentError(f"service account {quote(account)} may not be used by this installation: {_REMEDY}")


def _email(account: str) -> str:
    """Return the e-mail of a service account, which alone identifies it."""
    return account.rpartition("/")[2]
