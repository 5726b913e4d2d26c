"""The config of an exported invocation: the job as it was, and the jobs that it triggers. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from luci_scheduler.core.fetch_target import shown_url
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.instants import DAY, SECOND
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition, TriggeringPolicy
from luci_scheduler.core.policy.registry import policy_class
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.managers.registry import kind_of

__all__ = ["config_of", "policy_for"]

_GREEDY = TriggeringPolicy().kind
_LONG = 3650 * DAY
_COMMITS = "exported-commits"


def policy_for(invocation: Invocation, policy: TriggeringPolicy) -> TriggeringPolicy:
    """Return a policy that makes one invocation of an invocation's triggers: the job's own, if that does.

    Other triggers may have waited with these, and the config may have changed since.
    """
    count = len(invocation.incoming_triggers)
    if count == 1:
        # The trigger waited for less than the timeout, which may be shorter by now.
        return replace(policy, pending_timeout=_LONG) if policy_class(policy.kind).takes_newest else policy
    if policy.kind == _GREEDY and policy.max_batch_size >= count:
        return policy
    usual = TriggeringPolicy()
    return replace(usual, max_batch_size=max(count, usual.max_batch_size))


def config_of(invocation: Invocation, policy: TriggeringPolicy, commit: Trigger | None) -> str:
    """Return a config with the job as it was for an invocation.

    Args:
        invocation: the record.
        policy: a policy that makes one invocation of its triggers.
        commit: the trigger that arrives as a commit event, for which a gitiles trigger watches; None without one.
    """
    blocks = [f"# {invocation.job_id} as it was defined for invocation {invocation.id}."]
    name = split_job_id(invocation.job_id)[1]
    if commit is not None:
        blocks.append(_watcher(invocation, name, commit))
    blocks.append(_job(invocation, name, policy))
    blocks += [_triggered(split_job_id(job_id)[1]) for job_id in invocation.triggered_jobs]
    return "\n".join(blocks) + "\n"


def _watcher(invocation: Invocation, name: str, commit: Trigger) -> str:
    return _block(
        "trigger",
        [
            f"  id: {_quoted(_COMMITS if name != _COMMITS else f'{_COMMITS}-2')}",
            *_realm(invocation),
            "  gitiles {",
            f"    repo: {_quoted(commit.payload['repo'])}",
            f"    refs: {_quoted('regexp:' + re.escape(commit.payload['ref']))}",
            "  }",
            f"  triggers: {_quoted(name)}",
        ],
    )


def _job(invocation: Invocation, name: str, policy: TriggeringPolicy) -> str:
    kind = kind_of(invocation.task)
    is_trigger = bool(invocation.triggered_jobs) or not kind.job_field
    lines = [
        f"  id: {_quoted(name)}",
        *_realm(invocation),
        *(['  schedule: "triggered"'] if is_trigger else []),
        *_task(invocation.task),
        *_policy(policy),
        *[f"  triggers: {_quoted(split_job_id(job_id)[1])}" for job_id in invocation.triggered_jobs],
    ]
    return _block("trigger" if is_trigger else "job", lines)


def _triggered(name: str) -> str:
    """Return a job that the exported job triggers; a replay does not run it."""
    return _block("job", [f"  id: {_quoted(name)}", "  noop {", "  }"])


def _block(kind: str, lines: Iterable[str]) -> str:
    return "\n".join([f"{kind} {{", *lines, "}"])


def _realm(invocation: Invocation) -> Sequence[str]:
    return () if invocation.realm == "@legacy" else (f"  realm: {_quoted(invocation.realm)}",)


def _task(task: TaskDefinition) -> list[str]:
    values = [
        (name, item)
        for name, value in task.fields.items()
        for item in (value if isinstance(value, list | tuple) else [value])
    ]
    return [f"  {task.kind} {{", *[f"    {name}: {_value(name, item)}" for name, item in values], "  }"]


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    # The address of a fetch may hold a password, which the log does not show either.
    return _quoted(shown_url(str(value)) if name == "url" else value)


def _policy(policy: TriggeringPolicy) -> list[str]:
    if policy == replace(TriggeringPolicy(), max_concurrent_invocations=policy.max_concurrent_invocations):
        return []  # a scenario has one invocation: the number of concurrent ones does not matter
    values = [f"    kind: {policy.kind}", f"    max_batch_size: {policy.max_batch_size}"]
    if policy.log_base:
        values.append(f"    log_base: {policy.log_base}")
    if policy_class(policy.kind).takes_newest:
        values.append(f"    pending_timeout {{ seconds: {policy.pending_timeout // SECOND} }}")
    return ["  triggering_policy {", *values, "  }"]


def _quoted(text: Any) -> str:
    return json.dumps(str(text), ensure_ascii=False)
