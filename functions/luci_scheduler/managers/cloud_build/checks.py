"""The rules of a ``cloud_build`` block in a config. The rules of its steps are in `step_checks`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from luci_scheduler.core.go_text import quote
from luci_scheduler.managers.cloud_build.commit import repository_problem
from luci_scheduler.managers.cloud_build.step_checks import (
    check_env,
    check_seconds,
    check_steps,
    folder_problem,
)
from luci_scheduler.managers.cloud_build.substitutions import MAX_KEY_BYTES, MAX_VALUE_BYTES, RESERVED
from luci_scheduler.managers.cloud_build.tags import TAG
from luci_scheduler.managers.task_kind import TaskCheck

__all__ = ["check_task"]

_FORMS = {
    "project": (
        re.compile(r"(?:[a-z0-9.-]+\.[a-z]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"),
        "'project' is not a project ID: {value}",
    ),
    "location": (re.compile(r"global|[a-z]+-[a-z]+[0-9]+"), "'location' is neither global nor a region: {value}"),
    "trigger": (
        # A UUID also has the form of a name.
        re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?"),
        "'trigger' is neither a trigger's ID nor a name: {value}",
    ),
    "service_account": (
        re.compile(r"[^@/\s]+@[A-Za-z0-9.-]+\.gserviceaccount\.com|projects/[^/\s]+/serviceAccounts/[^/\s]+"),
        "'service_account' is not a service account: {value}",
    ),
    "machine_type": (
        re.compile("E2_STANDARD_2|E2_MEDIUM|E2_HIGHCPU_8|E2_HIGHCPU_32"),
        "unknown 'machine_type': {value}",
    ),
    "pool": (
        re.compile(r"projects/[^/\s]+/locations/[^/\s]+/workerPools/[^/\s]+"),
        "'pool' must be projects/*/locations/*/workerPools/*",
    ),
    "logs_bucket": (re.compile(r"gs://\S+"), "'logs_bucket' must begin with gs://"),
}
"""Field → the form of its value, and the error about any other value."""

_TRIGGERS_OWN = (
    "tags", "service_account", "timeout_sec", "queue_ttl_sec", "machine_type", "pool", "logs_bucket", "images", "env",
    "secrets",
)  # fmt: skip
"""The fields that the config of a trigger sets."""
_SOURCES = ("repo", "connected_repository", "git_repository_link", "none")
_TRIGGERS_SOURCE = (*_SOURCES, "dir")
_LINKS = {"connected_repository": "repositories", "git_repository_link": "gitRepositoryLinks"}
"""Field of a source → the collection that its value names a member of."""

_KEY = re.compile("_[A-Z0-9_]+")
_MAX_TAGS = 60  # of the 64 that Cloud Build accepts: the scheduler adds four
_RESERVED_TAGS = ("scheduler-", "commit-")
_VERSION = re.compile(r"projects/[^/\s]+/secrets/[^/\s]+/versions/[^/\s]+")


def check_task(task: Any, check: TaskCheck) -> None:
    """Validate a block: either a trigger or steps, and the fields that go with it."""
    for name, (form, message) in _FORMS.items():
        value = getattr(task, name)
        if value and not form.fullmatch(value):
            check.error(message.format(value=quote(value)), name)
    _check_mode(task, check)
    for name in ("timeout_sec", "queue_ttl_sec"):
        check_seconds(name, getattr(task, name), check)
    if task.pool and task.machine_type:
        message = "a pool has machines of its own: 'machine_type' does not go with 'pool'"
        check.error(message, "machine_type")
    _check_source(task, check)
    _check_substitutions(task.substitutions, check)
    _check_tags(task.tags, check)
    check_env(task.env, check)
    check.few("images", task.images)
    _check_secrets(task, check)
    check_steps(task, check)


def _check_mode(task: Any, check: TaskCheck) -> None:
    if task.trigger and task.steps:
        check.error("'trigger' and 'steps' exclude each other", "trigger")
    elif task.trigger:
        _check_run(task, check)
    elif not task.steps:
        check.error("one of 'trigger' and 'steps' is required")


def _check_run(task: Any, check: TaskCheck) -> None:
    """Refuse the fields that a request to run a trigger cannot set."""

    def message(name: str) -> str:
        return f"field '{name}' is the trigger's own to set, it cannot be given with 'trigger'"

    for name in _TRIGGERS_OWN:
        if getattr(task, name):
            check.error(message(name), name)
    with check.message("source") as source:
        for name in _TRIGGERS_SOURCE:
            if getattr(task.source, name):
                source.error(message(name), name)


def _check_source(task: Any, check: TaskCheck) -> None:
    with check.message("source") as source:
        given = [name for name in _SOURCES if getattr(task.source, name)]
        if len(given) > 1:
            message = "only one of 'repo', 'connected_repository', 'git_repository_link' and 'none' may be set"
            source.error(message, given[1])
        if problem := repository_problem(task.source.repo) or check.hosts.problem(task.source.repo):
            source.error(problem, "repo")
        if problem := folder_problem(task.source.dir):
            source.error(problem, "dir")
        for name, collection in _LINKS.items():
            if problem := _link_problem(name, collection, getattr(task.source, name), task.location):
                source.error(problem, name)


def _link_problem(name: str, collection: str, value: str, location: str) -> str:
    """Return why a text names no connected repository of the build's location; empty if it does, or is empty."""
    if not value:
        return ""
    found = re.fullmatch(rf"projects/[^/\s]+/locations/([^/\s]+)/connections/[^/\s]+/{collection}/[^/\s]+", value)
    if found is None:
        return f"'{name}' must be projects/*/locations/*/connections/*/{collection}/*"
    if "global" in (found[1], location):
        return "a connected repository needs a region, not global"
    # Without a location, that of the installation counts, which a config does not show.
    differs = location and location != found[1]
    return f"the repository is in {quote(found[1])}, the build in {quote(location)}" if differs else ""


def _check_substitutions(items: Sequence[str], check: TaskCheck) -> None:
    if not check.few("substitutions", items):
        return
    seen: set[str] = set()
    for index, item in enumerate(items):
        key, colon, value = item.partition(":")
        if not colon:
            check.error(f"bad substitution, not a '_KEY:value' pair: {quote(item)}", "substitutions", index)
            continue
        for problem in _substitution_problems(key, value, seen):
            check.error(problem, "substitutions", index)
        seen.add(key)


def _substitution_problems(key: str, value: str, seen: set[str]) -> Iterator[str]:
    shown, size = quote(key), len(value.encode())
    if not _KEY.fullmatch(key):
        yield f"substitution key {shown} must match {_KEY.pattern}"
    elif key.startswith(RESERVED):
        yield f"substitution {shown} is reserved"
    if len(key) > MAX_KEY_BYTES:
        yield f"substitution key {shown} has {len(key)} bytes, at most {MAX_KEY_BYTES} are allowed"
    if size > MAX_VALUE_BYTES:
        yield f"substitution {shown} has {size} bytes, at most {MAX_VALUE_BYTES} are allowed"
    if key in seen:
        yield f"substitution {shown} is given twice"


def _check_tags(tags: Sequence[str], check: TaskCheck) -> None:
    if not check.few("tags", tags, _MAX_TAGS):
        return
    for index, tag in enumerate(tags):
        if not TAG.fullmatch(tag):
            check.error(f"tag {quote(tag)} must match {TAG.pattern}", "tags", index)
        elif tag.startswith(_RESERVED_TAGS):
            check.error(f"tag {quote(tag)} is reserved", "tags", index)


def _check_secrets(task: Any, check: TaskCheck) -> None:
    used = {name for step in task.steps for name in step.secret_env}
    for index, secret in enumerate(task.secrets):
        with check.message("secrets", index) as inside:
            if not secret.env:
                inside.error("field 'env' is required", "env")
            elif secret.env not in used:
                inside.error(f"secret {quote(secret.env)} is used by no step", "env")
            if not _VERSION.fullmatch(secret.version):
                inside.error(f"'version' is not a secret's version: {quote(secret.version)}", "version")
