"""An invocation as a scenario: a replay of the scenario's inputs leads to the same debug log.

No handler records data for the export. `export_log` reads the log. The record has the exact start and end, and the
suffix of the invocation's ID.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import failed_precondition
from luci_scheduler.api.export_log import Deliveries, NotReplayableError, begins_with, first_match, read_json
from luci_scheduler.api.service import get_invocation_log, get_job
from luci_scheduler.core import debug_log, log_lines
from luci_scheduler.core.debug_log import LogEntry
from luci_scheduler.core.foreign_text import escaped
from luci_scheduler.core.identifiers import InvocationId, JobId, invocation_created, split_job_id
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition, TriggeringPolicy
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.managers.registry import kind_of

__all__ = ["Exported", "export_invocation", "to_scenario"]

_TOPIC_NAME = re.compile(r'"projects/([^/"]+)/topics/scheduler\.buildbucket\.([^~"]+)~([^"]+)"')
_ABORTED = (log_lines.ABORTED, log_lines.ABORTED_V1, log_lines.LAUNCH_SKIPPED)
_CLEANUP = (log_lines.CLEANUP_DONE, log_lines.CLEANUP_REFUSED, log_lines.CLEANUP_GAVE_UP)
"""These lines follow the line about the invocation's end."""
_CONFIG_FILE = "luci-scheduler.cfg"


@dataclass(frozen=True, slots=True)
class Exported:
    """The texts of two files: a scenario, and the config that the scenario names."""

    scenario: str
    config: str


def export_invocation(context: Context, job_id: JobId, invocation_id: InvocationId) -> Exported:
    """Return an invocation as a scenario. This costs three reads.

    Raises:
        ApiError: NOT_FOUND; FAILED_PRECONDITION if a scenario cannot describe the invocation.
    """
    policy = get_job(context, job_id).definition.policy
    found = get_invocation_log(context, job_id, invocation_id)
    invocation, log = found.invocation, found.log
    try:
        return to_scenario(invocation, log, policy)
    except NotReplayableError as error:
        raise failed_precondition(f"the invocation cannot be replayed: {error}") from error


def to_scenario(invocation: Invocation, log: str, policy: TriggeringPolicy | None = None) -> Exported:
    """Reconstruct the scenario of an invocation that ran under the default limits.

    Args:
        invocation: its record.
        log: its whole debug log.
        policy: the job's triggering policy; the default policy if None.

    Raises:
        NotReplayableError: the invocation was not started by one commit for a Buildbucket job, was aborted by a
            person, is still being launched, or had its build canceled after its end; or its log was cut.
    """
    trigger = _only_commit(invocation)
    entries = _checked_entries(log, invocation)
    service, is_v1 = _service(invocation, entries)
    deliveries = Deliveries(invocation, is_v1=is_v1)
    delivered = deliveries.of(entries, trigger)
    document = {
        "service": service | deliveries.check_interval(),
        "config": _config_place(invocation),
        "chance": {"suffixes": [invocation_created(invocation.id)[1]], **deliveries.check_delays()},
        "deliveries": delivered,
        "drain": False,
    }
    # The log's JSON is parsed for this, and its escaped control characters are literal again: escape them once more.
    scenario = escaped(json.dumps(document, indent=1, ensure_ascii=False), lines=True)
    return Exported(f"{scenario}\n", _config(invocation, trigger, policy or TriggeringPolicy()))


def _only_commit(invocation: Invocation) -> Trigger:
    if not kind_of(invocation.task).is_replayable:
        raise NotReplayableError(f"a scenario has Buildbucket jobs only, and this is a {invocation.task.kind} job")
    triggers = invocation.incoming_triggers
    if len(triggers) != 1 or not triggers[0].is_commit:
        kinds = ", ".join(trigger.kind for trigger in triggers) or "none"
        raise NotReplayableError(f"a scenario has one commit for an invocation, and this one's triggers are: {kinds}")
    if extra := triggers[0].payload.keys() - {"repo", "ref", "revision"}:
        raise NotReplayableError(f"its trigger has {', '.join(sorted(extra))}, which a commit event does not have")
    return triggers[0]


def _checked_entries(log: str, invocation: Invocation) -> list[LogEntry]:
    if debug_log.is_cut(log):
        raise NotReplayableError("its log was so long that its middle was cut out")
    entries = list(debug_log.entries(log, invocation.started))
    if not entries or log_lines.QUEUED.match(entries[0].text) is None:
        raise NotReplayableError("its log does not begin with the line about its creation")
    if begins_with(entries, *_ABORTED):
        raise NotReplayableError("a person aborted it, and a scenario has no aborts")
    if begins_with(entries, *_CLEANUP):
        raise NotReplayableError("its build was canceled after its end, and a scenario has no cleanups")
    return entries


def _service(invocation: Invocation, entries: Sequence[LogEntry]) -> tuple[dict[str, Any], bool]:
    """Return the scenario's settings of the service, and whether the server speaks Buildbucket v1."""
    if begins_with(entries, log_lines.NO_TOPIC):
        raise NotReplayableError("its server sends no notifications, and a scenario needs a topic")
    logged = first_match(entries, log_lines.TOPIC)
    topic = _TOPIC_NAME.fullmatch(logged["topic"]) if logged else None
    request_text = first_match(entries, log_lines.REQUEST)
    request = read_json(request_text["request"]) if request_text else None
    if topic is None or request is None:
        raise NotReplayableError("it never requested a build")
    is_v1 = "client_operation_id" in request
    server = {
        "host": invocation.task.fields.get("server", ""),
        "publisher": f"{topic[2]}@{topic[3]}",
        "protocol": "v1" if is_v1 else "v2",
    }
    names = {"app_id": _tags(request).get("user_agent", ""), "hostname": _hostname(request, is_v1=is_v1)}
    return {
        "project": topic[1],
        **{name: value for name, value in names.items() if value},
        "buildbucket": [server],
    }, is_v1


def _tags(request: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a request: v1 has ``key:value`` strings, v2 has objects."""
    pairs = [
        tag.partition(":")[::2] if isinstance(tag, str) else (tag.get("key"), tag.get("value"))
        for tag in request.get("tags", [])
    ]
    return dict(pairs)


def _hostname(request: Mapping[str, Any], *, is_v1: bool) -> str:
    properties = json.loads(request["parameters_json"])["properties"] if is_v1 else request.get("properties", {})
    return str(properties.get("$recipe_engine/scheduler", {}).get("hostname", ""))


def _config_place(invocation: Invocation) -> dict[str, str]:
    return {
        "project": split_job_id(invocation.job_id)[0],
        "file": _CONFIG_FILE,
        "revision": invocation.revision or "unknown",
        **({"revision_url": invocation.revision_url} if invocation.revision_url else {}),
    }


def _config(invocation: Invocation, trigger: Trigger, policy: TriggeringPolicy) -> str:
    """Return a config with the job as it was for this invocation, and a gitiles trigger for the commit."""
    name = split_job_id(invocation.job_id)[1]
    realm = "" if invocation.realm == "@legacy" else f"  realm: {_quoted(invocation.realm)}\n"
    lines = [
        f"# {invocation.job_id} as it was defined for invocation {invocation.id}.",
        "trigger {",
        f"  id: {_quoted(_poller_name(name))}",
        "  gitiles {",
        f"    repo: {_quoted(trigger.payload['repo'])}",
        f"    refs: {_quoted('regexp:' + re.escape(trigger.payload['ref']))}",
        "  }",
        f"  triggers: {_quoted(name)}",
        "}",
        "job {",
        f"  id: {_quoted(name)}",
        *_task(invocation.task),
        *_policy(policy),
        "}",
    ]
    return "".join(f"{line}\n{realm if line.startswith('  id: ') else ''}" for line in lines)


def _poller_name(job: str) -> str:
    return "exported-commits" if job != "exported-commits" else "exported-commits-2"


def _task(task: TaskDefinition) -> list[str]:
    values = [
        (name, item)
        for name, value in task.fields.items()
        for item in (value if isinstance(value, list | tuple) else [value])
    ]
    return [f"  {task.kind} {{", *[f"    {name}: {_quoted(item)}" for name, item in values], "  }"]


def _policy(policy: TriggeringPolicy) -> list[str]:
    if policy == replace(TriggeringPolicy(), max_concurrent_invocations=policy.max_concurrent_invocations):
        return []  # a scenario has one invocation: the number of concurrent ones does not matter
    values = [f"    kind: {policy.kind}", f"    max_batch_size: {policy.max_batch_size}"]
    if policy.log_base:
        values.append(f"    log_base: {policy.log_base}")
    return ["  triggering_policy {", *values, "  }"]


def _quoted(text: Any) -> str:
    return json.dumps(str(text), ensure_ascii=False)
