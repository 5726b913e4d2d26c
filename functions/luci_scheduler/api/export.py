"""An invocation as a scenario: a replay of the scenario's inputs leads to the same debug log.

No handler records data for the export. The record, the log and the job determine the scenario. Where they leave
something open, the scenario states its assumptions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Any

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import failed_precondition
from luci_scheduler.api.export_builds import Builds
from luci_scheduler.api.export_config import config_of, policy_for
from luci_scheduler.api.export_deliveries import Deliveries, Launch
from luci_scheduler.api.export_log import (
    ABORTS,
    NotReplayableError,
    begins_with,
    entries_of,
    first_match,
    read_json,
)
from luci_scheduler.api.export_polls import Poll
from luci_scheduler.api.export_tasks import fetch, sleep
from luci_scheduler.api.service import get_invocation_log, get_job
from luci_scheduler.core import log_lines
from luci_scheduler.core.debug_log import LogEntry
from luci_scheduler.core.era import Era
from luci_scheduler.core.foreign_text import escaped, redacted
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId, invocation_created, split_job_id
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TriggeringPolicy
from luci_scheduler.managers.buildbucket.kind import BuildbucketKind
from luci_scheduler.managers.noop import NoopKind
from luci_scheduler.managers.registry import is_poll, kind_of, launch_time
from luci_scheduler.managers.task_kind import TaskKind
from luci_scheduler.managers.url_fetch.kind import UrlFetchKind

__all__ = ["Exported", "Facts", "export_invocation", "to_scenario"]

_TOPIC_NAME = re.compile(r"projects/([^/]+)/topics/(.+)")
_USUAL_TOPIC = re.compile(r"scheduler\.buildbucket\.([^~]+)~(.+)")
_CONFIG_FILE = "luci-scheduler.cfg"
_SOME_PROJECT, _SOME_PUBLISHER = "exported", "buildbucket@example.com"
_V1_INTERVAL = 60  # seconds between status checks by default (the original's)
_DRAWN = range(60, 600)  # the seconds from which the original draws in v2
_V1_TAG = "buildset:commit/git/"


@frozen
class Exported:
    """The texts of two files: a scenario, and the config that the scenario names."""

    scenario: str
    config: str


@frozen
class Facts:
    """Facts that neither the record nor the log holds."""

    policy: TriggeringPolicy = field(default_factory=TriggeringPolicy)
    """The job's triggering policy."""
    era: Era = Era.V2
    """The era of the job's task."""
    refs: Mapping[str, str] = field(default_factory=dict)
    """The refs that a gitiles job knows now, each with its revision."""


def export_invocation(context: Context, job_id: JobId, invocation_id: InvocationId) -> Exported:
    """Return an invocation as a scenario. This costs three reads, and one more for a gitiles job.

    Raises:
        ApiError: NOT_FOUND; FAILED_PRECONDITION if a scenario cannot describe the invocation.
    """
    job = get_job(context, job_id)
    found = get_invocation_log(context, job_id, invocation_id)
    invocation, log = found.invocation, found.log
    runtime = context.runtime
    known = runtime.store.poller(job_id) if is_poll(invocation.task) else None
    refs = known.value.known if known else {}
    try:
        return to_scenario(invocation, log, Facts(job.definition.policy, runtime.era_of(invocation.task), refs))
    except NotReplayableError as error:
        raise failed_precondition(f"the invocation cannot be replayed: {error}") from error


def to_scenario(invocation: Invocation, log: str, facts: Facts | None = None) -> Exported:
    """Reconstruct the scenario of an invocation that ran under the default limits.

    Args:
        invocation: its record.
        log: its whole debug log.
        facts: what else is known; the defaults if None.

    Raises:
        NotReplayableError: the log was cut, lacks an answer, or shows a case that no scenario describes
            (docs/reference/command.md lists them).
    """
    facts = facts or Facts()
    entries = entries_of(log, invocation)
    is_v1 = _is_v1(invocation, entries, facts.era)
    service = _service(invocation, entries, is_v1=is_v1)
    builds = Builds(invocation, is_v1=is_v1) if _has_builds(invocation) else None
    poll = Poll(invocation, entries, facts.refs, is_v1=is_v1) if is_poll(invocation.task) else None
    deliveries = _deliveries(invocation, builds, poll)
    delivered = deliveries.all(entries)
    policy = policy_for(invocation, facts.policy)
    assumptions = [*deliveries.assumptions, *_policy_assumption(facts.policy, policy)]
    if poll is not None:
        assumptions += poll.assumptions
        service["polling"] = poll.settings()
    checks = _checks(builds, service) if builds else {}
    document = {
        **({"assumptions": assumptions} if assumptions else {}),
        "service": {**service, **checks.get("service", {})},
        "config": _config_place(invocation),
        "chance": {"suffixes": [invocation_created(invocation.id)[1]], **checks.get("chance", {})},
        **({"pollers": {split_job_id(invocation.job_id)[1]: known}} if poll and (known := poll.poller()) else {}),
        "deliveries": delivered,
        "drain": False,
    }
    return Exported(_text(document), redacted(config_of(invocation, policy, deliveries.commit)))


def _text(document: Mapping[str, Any]) -> str:
    # The log's JSON is parsed for this, and its escaped control characters are literal again: escape them once more.
    text = redacted(escaped(json.dumps(document, indent=1, ensure_ascii=False), lines=True))
    try:
        json.loads(text)
    except ValueError as error:
        raise NotReplayableError("it holds a secret that cannot be left out") from error
    return f"{text}\n"


def _deliveries(invocation: Invocation, builds: Builds | None, poll: Poll | None) -> Deliveries:
    """Return the builder of the deliveries of an invocation's kind."""
    task = invocation.task
    is_inline = not launch_time(task)
    if builds is not None:
        return Deliveries(invocation, builds, None, dies_in="call[0]", is_inline=is_inline)
    if poll is not None:
        return Deliveries(invocation, None, poll.launch, dies_in="gitiles[0]", is_inline=is_inline)
    launch_of = _LAUNCHES.get(type(kind_of(task)))
    if launch_of is None:
        raise NotReplayableError(f"an export has no jobs of the kind {task.kind}")
    launch, dies_in = launch_of(invocation)
    return Deliveries(invocation, None, launch, dies_in=dies_in, is_inline=is_inline)


_LAUNCHES: Mapping[type[TaskKind], Callable[[Invocation], tuple[Launch, str]]] = {
    UrlFetchKind: lambda invocation: (partial(fetch, invocation=invocation), "fetch[0]"),
    NoopKind: lambda invocation: (
        partial(sleep, invocation=invocation, duration=launch_time(invocation.task)),
        "commit[{}]",
    ),
}
"""The launches of the kinds that call neither Buildbucket nor Gitiles, and the operation in which one may die."""


def _policy_assumption(own: TriggeringPolicy, used: TriggeringPolicy) -> Sequence[str]:
    if own.kind == used.kind and own.max_batch_size == used.max_batch_size:
        return ()
    text = f"The config has the policy {used.kind} instead of {own.kind}."
    return (f"{text} It is not known which other triggers waited when the job's own policy chose these.",)


def _has_builds(invocation: Invocation) -> bool:
    return isinstance(kind_of(invocation.task), BuildbucketKind)


def _is_v1(invocation: Invocation, entries: Sequence[LogEntry], era: Era) -> bool:
    """Return whether the wording and the tags are those of v1: the log decides, and then the record."""
    request = first_match(entries, log_lines.REQUEST)
    if request is not None:
        return "client_operation_id" in read_json(request["request"])
    if is_poll(invocation.task) and begins_with(entries, log_lines.TIP_EMITTED):
        return True  # a rule of 2021 alone
    if begins_with(entries, *ABORTS):
        return begins_with(entries, log_lines.ABORTED_V1) is not None
    if any(trigger.is_commit for trigger in invocation.incoming_triggers):
        return any(tag.startswith(_V1_TAG) for tag in invocation.tags)
    return era is Era.V1


def _service(invocation: Invocation, entries: Sequence[LogEntry], *, is_v1: bool) -> dict[str, Any]:
    """Return the scenario's settings of the service."""
    logged = first_match(entries, log_lines.TOPIC)
    name = str(json.loads(logged["topic"])) if logged else ""
    topic = _TOPIC_NAME.fullmatch(name)
    has_server = _has_builds(invocation) and not begins_with(entries, log_lines.TOPIC_FAILED)
    server = {
        "host": invocation.task.fields.get("server", ""),
        **_publisher(name, topic[2] if topic else ""),
        **({"notifications": False} if begins_with(entries, log_lines.NO_TOPIC) else {}),
        "protocol": "v1" if is_v1 else "v2",
    }
    return {
        "project": topic[1] if topic else _SOME_PROJECT,
        **_names(entries, is_v1=is_v1),
        "buildbucket": [server] if has_server else [],
    }


def _names(entries: Sequence[LogEntry], *, is_v1: bool) -> dict[str, str]:
    """Return the names of the service that its requests for builds show."""
    request_text = first_match(entries, log_lines.REQUEST)
    if request_text is None:
        return {}
    request = read_json(request_text["request"])
    names = {"app_id": _tags(request).get("user_agent", ""), "hostname": _hostname(request, is_v1=is_v1)}
    return {name: value for name, value in names.items() if value}


def _publisher(name: str, short: str) -> dict[str, str]:
    usual = _USUAL_TOPIC.fullmatch(short)
    if usual is not None:
        return {"publisher": f"{usual[1]}@{usual[2]}"}
    return {"publisher": _SOME_PUBLISHER, **({"topic": name} if name else {})}


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


def _checks(builds: Builds, service: Mapping[str, Any]) -> dict[str, Any]:
    """Return the setting for the seconds between status checks, or the drawn seconds.

    Both are empty if the seconds are the protocol's defaults.
    """
    delays = builds.delays
    servers = service["buildbucket"]
    is_fixed = any(server["protocol"] == "v1" or not server.get("notifications", True) for server in servers)
    if not delays:
        return {}
    if not is_fixed and all(delay in _DRAWN for delay in delays):
        return {"chance": {"check_delays": delays}}
    if len(set(delays)) > 1:
        raise NotReplayableError("the time between its status checks was changed while it ran")
    is_usual = is_fixed and delays[0] == _V1_INTERVAL
    return {} if is_usual else {"service": {"check_interval_seconds": delays[0]}}


def _config_place(invocation: Invocation) -> dict[str, str]:
    return {
        "project": split_job_id(invocation.job_id)[0],
        "file": _CONFIG_FILE,
        "revision": invocation.revision or "unknown",
        **({"revision_url": invocation.revision_url} if invocation.revision_url else {}),
    }
