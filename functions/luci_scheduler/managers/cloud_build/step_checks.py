"""The rules of the inline steps of a ``cloud_build`` block."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from luci_scheduler.core.go_text import quote
from luci_scheduler.managers.task_kind import TaskCheck

__all__ = ["check_env", "check_seconds", "check_steps", "folder_problem"]

_MAX_STEPS = 300  # Cloud Build's limit, from public reports
_MAX_ITEMS = 100  # arguments, and variables, of a step: from Cloud Build's local validator
_MAX_ARG = 10_000  # characters, from Cloud Build's own message
_MAX_SECONDS = 24 * 3600  # from Cloud Build's local validator
_DEFAULT_TIMEOUT = 3600
_AT_ONCE = "-"
"""The entry of ``wait_for`` by which a step waits for no other step."""

_REF_IN_SHELL = re.compile(r"(?<!\$)\$(?:\{(?:_BRANCH|BRANCH_NAME|TAG_NAME)\}|(?:_BRANCH|BRANCH_NAME|TAG_NAME)\b)")
"""A substitution whose value comes from the author of a ref. Cloud Build pastes it into the text of an argument."""


def check_steps(task: Any, check: TaskCheck) -> None:
    """Validate the steps of a block."""
    if not check.few("steps", task.steps, _MAX_STEPS):
        return
    secrets = {secret.env for secret in task.secrets}
    earlier: set[str] = set()
    for index, step in enumerate(task.steps):
        with check.message("steps", index) as inside:
            _check_step(step, inside)
            _check_order(step, earlier, inside)
            _check_secret_env(step, secrets, inside)
            check_seconds("timeout_sec", step.timeout_sec, inside)
            if step.timeout_sec > (task.timeout_sec or _DEFAULT_TIMEOUT):
                inside.error("a step's 'timeout_sec' is above the build's", "timeout_sec")
        earlier |= {step.id} - {""}


def _check_step(step: Any, check: TaskCheck) -> None:
    if not step.name:
        check.error("field 'name' is required", "name")
    if step.script and (step.args or step.entrypoint):
        check.error("'script' excludes 'args' and 'entrypoint'", "script")
    if problem := folder_problem(step.dir):
        check.error(problem, "dir")
    _check_args(step, check)
    check_env(step.env, check)


def _check_args(step: Any, check: TaskCheck) -> None:
    if not check.few("args", step.args, _MAX_ITEMS):
        return
    for index, arg in enumerate(step.args):
        if len(arg) > _MAX_ARG:
            message = f"arg {index + 1} has {len(arg)} characters, at most {_MAX_ARG} are allowed"
            check.error(message, "args", index)
    pasted = [index for index, arg in enumerate(step.args) if _REF_IN_SHELL.search(arg)]
    if pasted and _runs_shell(step):
        message = "the name of a ref goes into a shell command; use 'script' and the variable of that name"
        check.warning(message, "args", pasted[0])


def _runs_shell(step: Any) -> bool:
    image = step.name.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return bool((step.entrypoint or image).endswith("sh"))


def _check_order(step: Any, earlier: set[str], check: TaskCheck) -> None:
    if step.id and step.id in earlier:
        check.error(f"step ID {quote(step.id)} is not unique", "id")
    for index, name in enumerate(step.wait_for):
        if name != _AT_ONCE and name not in earlier:
            check.error(f"waits for {quote(name)}, which no earlier step has", "wait_for", index)


def _check_secret_env(step: Any, secrets: set[str], check: TaskCheck) -> None:
    for index, name in enumerate(step.secret_env):
        if name not in secrets:
            check.error(f"no secret is given for {quote(name)}", "secret_env", index)


def check_env(env: Sequence[str], check: TaskCheck) -> None:
    """Validate the variables of a step or of all steps."""
    if not check.few("env", env, _MAX_ITEMS):
        return
    for index, item in enumerate(env):
        key, equals, _ = item.partition("=")
        if not (key and equals):
            check.error(f"not a KEY=value pair: {quote(item)}", "env", index)


def check_seconds(name: str, seconds: int, check: TaskCheck) -> None:
    """Validate a time limit; 0 means that it is not set."""
    if seconds < 0:
        check.error(f"minimum allowed '{name}' is 1 sec, got {seconds}", name)
    if seconds > _MAX_SECONDS:
        check.error(f"maximum allowed '{name}' is {_MAX_SECONDS} sec, got {seconds}", name)


def folder_problem(folder: str) -> str:
    """Return why a folder is not a folder of the source; empty if it is one, or empty."""
    if folder.startswith("/") or ".." in folder.split("/"):
        return f"'dir' must be a relative path within the source: {quote(folder)}"
    return ""
