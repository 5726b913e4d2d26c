"""The request that an invocation becomes: to run a trigger, or to create a build of inline steps. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import BRANCHES, TAGS, is_hash
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.managers.cloud_build.commit import (
    Commit,
    Log,
    commit_of,
    ref_name,
    repo_name,
)
from luci_scheduler.managers.cloud_build.source import builds_commit, source_of
from luci_scheduler.managers.cloud_build.substitutions import substitutions
from luci_scheduler.managers.cloud_build.tags import invocation_tag, named_tag
from luci_scheduler.managers.environment import CloudBuildDefaults

__all__ = ["BuildRequest", "Place", "account_of", "identity_of", "is_run", "make_request", "place_of"]

_SHORT_HASH = 7
_ACCOUNT = re.compile(r"[^@/]+@(?P<project>.+)\.iam\.gserviceaccount\.com")


@frozen
class BuildRequest:
    """Everything that the request for the build of an invocation is made from."""

    task: Mapping[str, Any]
    """The fields of the task definition, as a job stores them."""
    job_id: JobId
    invocation_id: InvocationId
    app_id: str
    properties: Mapping[str, Any]
    defaults: CloudBuildDefaults


@frozen
class Place:
    """A location of a project: builds and triggers belong to one."""

    project: str
    location: str

    @property
    def builds(self) -> str:
        """The path of its builds in the API."""
        return f"{self._path}/builds"

    def build(self, build_id: str) -> str:
        """Return the path of a build, whose ID the caller has checked."""
        return f"{self.builds}/{build_id}"

    def run(self, trigger: str) -> str:
        """Return the path that runs a trigger."""
        return f"{self.trigger(trigger)}:run"

    def trigger(self, trigger: str) -> str:
        """Return the path of a trigger, by its ID or name."""
        return f"{self._path}/triggers/{quote(trigger, safe='')}"

    @property
    def _path(self) -> str:
        return f"/v1/projects/{quote(self.project, safe=':')}/locations/{quote(self.location, safe='')}"


def is_run(task: Mapping[str, Any]) -> bool:
    """Whether a task runs an existing trigger. Otherwise it has inline steps."""
    return bool(task.get("trigger"))


def place_of(task: Mapping[str, Any], defaults: CloudBuildDefaults) -> Place:
    """Return where a task builds."""
    return Place(task.get("project") or defaults.project, task.get("location") or defaults.location)


def identity_of(request: BuildRequest) -> dict[str, str]:
    """Return the substitutions that identify the builds of an invocation. All builds of an invocation carry them."""
    return {
        "_SCHEDULER_APP": request.app_id,
        "_SCHEDULER_INVOCATION": str(request.invocation_id),
        "_SCHEDULER_JOB": request.job_id,
    }


def make_request(request: BuildRequest, log: Log) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of the request for a build, which is a POST.

    ``log`` gets the lines about what the request leaves out.

    Raises:
        PermanentError: the invocation and the definition do not make a request. Its text is for people.
    """
    place = place_of(request.task, request.defaults)
    commit = commit_of(request.properties, log)
    if is_run(request.task):
        trigger = request.task["trigger"]
        return place.run(trigger), {
            "projectId": place.project,
            "triggerId": trigger,
            "source": _run_source(request, commit, log),
        }
    return place.builds, _build(request, place, commit, log)


def _run_source(request: BuildRequest, commit: Commit | None, log: Log) -> dict[str, Any]:
    own = {**identity_of(request), **(ref_name(commit.ref) if commit else {})}
    values = substitutions(request.task.get("substitutions", ()), request.properties, own, log)
    revision = commit.revision if commit else request.task.get("source", {}).get("revision", "")
    return {**_run_revision(revision), "substitutions": values}


def _run_revision(revision: str) -> dict[str, str]:
    if not revision:
        return {}
    if is_hash(revision):
        return {"commitSha": revision}
    if revision.startswith(TAGS):
        return {"tagName": revision.removeprefix(TAGS)}
    return {"branchName": revision.removeprefix(BRANCHES)}


def _build(request: BuildRequest, place: Place, commit: Commit | None, log: Log) -> dict[str, Any]:
    """Return a ``Build``; its members are in the order in which the log shows them."""
    task = request.task
    fields = task.get("source", {})
    source = source_of(fields, commit, log)
    own = {**identity_of(request), **(_built_in(commit, fields) if commit and builds_commit(fields, commit) else {})}
    account = task.get("service_account") or request.defaults.account
    message = {
        "source": source,
        "steps": [_step(step) for step in task.get("steps", ())],
        "images": task.get("images"),
        "timeout": _seconds(task.get("timeout_sec")),
        "queueTtl": _seconds(task.get("queue_ttl_sec")),
        "logsBucket": task.get("logs_bucket"),
        "availableSecrets": _secrets(task),
        "serviceAccount": account_of(account, place.project) if account else None,
        "options": _options(task),
        "substitutions": substitutions(task.get("substitutions", ()), request.properties, own, log),
        "tags": _tags(request, commit),
    }
    return {name: value for name, value in message.items() if value}


def _built_in(commit: Commit, source: Mapping[str, Any]) -> dict[str, str]:
    """Return the substitutions that a trigger would set, so that steps from a ``cloudbuild.yaml`` work unchanged."""
    name = repo_name(commit.repository or source.get("repo", ""))
    return {
        "COMMIT_SHA": commit.revision,
        "REVISION_ID": commit.revision,
        "SHORT_SHA": commit.revision[:_SHORT_HASH],
        **ref_name(commit.ref),
        **({"REPO_NAME": name} if name else {}),
    }


_STEP = (
    ("name", "name"),
    ("id", "id"),
    ("entrypoint", "entrypoint"),
    ("args", "args"),
    ("script", "script"),
    ("env", "env"),
    ("dir", "dir"),
    ("wait_for", "waitFor"),
    ("secret_env", "secretEnv"),
    ("allow_failure", "allowFailure"),
)
"""Each field of a step with its member in a request, in the order in which the log shows them."""


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    members = {member: step[field] for field, member in _STEP if field in step}
    timeout = _seconds(step.get("timeout_sec"))
    return {**members, "timeout": timeout} if timeout else members


def _seconds(number: int | None) -> str:
    return f"{number}s" if number else ""


def _secrets(task: Mapping[str, Any]) -> dict[str, Any]:
    secrets = [{"versionName": item["version"], "env": item["env"]} for item in task.get("secrets", ())]
    return {"secretManager": secrets} if secrets else {}


def account_of(account: str, project: str) -> str:
    """Return the full name of a service account; an e-mail that names no project belongs to ``project``."""
    if "/" in account:
        return account
    found = _ACCOUNT.fullmatch(account)
    if found is None:
        return f"projects/{project}/serviceAccounts/{account}"
    # The e-mail names the project ``example.com:name`` as ``name.example.com``.
    name, _, domain = found["project"].partition(".")
    return f"projects/{f'{domain}:{name}' if domain else name}/serviceAccounts/{account}"


def _options(task: Mapping[str, Any]) -> dict[str, Any]:
    more = {
        "machineType": task.get("machine_type"),
        "pool": {"name": task["pool"]} if task.get("pool") else None,
        "env": task.get("env"),
    }
    return {
        # Cloud Build requires this of a build with its own account.
        "logging": "GCS_ONLY" if task.get("logs_bucket") else "CLOUD_LOGGING_ONLY",
        # Without it, each substitution must be used by a step.
        "substitutionOption": "ALLOW_LOOSE",
        # Steps read names of refs from the environment, where a shell does not interpret them.
        "automapSubstitutions": True,
        **{name: value for name, value in more.items() if value},
    }


def _tags(request: BuildRequest, commit: Commit | None) -> list[str]:
    return [
        invocation_tag(request.invocation_id),
        named_tag("scheduler-job-", request.job_id),
        named_tag("scheduler-app-", request.app_id),
        *([f"commit-{commit.revision}"] if commit else ()),
        *request.task.get("tags", ()),
    ]
