"""The parts of a build request that do not depend on the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from luci_scheduler.core import log_lines
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.kv_lists import unpack_kv_list

__all__ = [
    "MAX_TRIGGERS",
    "BuildRequest",
    "agree",
    "common_tags",
    "merged_properties",
    "our_tags",
    "shown_triggers",
]

MAX_TRIGGERS = 100
"""The largest number of incoming triggers that a build receives: the newest of them (the original's limit)."""

Log = Callable[[str], object]


@frozen
class BuildRequest:
    """Everything that a client needs to request the build of an invocation, or to find it again."""

    task: Mapping[str, Any]
    """Fields of the task definition: server, bucket, builder, properties, tags."""
    job_id: JobId
    invocation_id: InvocationId
    realm: str
    """``<project>:<realm>``."""
    app_id: str
    hostname: str
    topic: str
    """The topic of the build's notifications; empty if the server sends none."""
    token: str = field(repr=False)
    properties: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    """Sorted, as the invocation stores them."""
    triggers: Sequence[Mapping[str, Any]] = ()
    """Incoming triggers in their public form, the oldest first."""
    until: Instant | None = None
    """The deadline that all calls of an attempt share; None: each call has its own."""
    hosts: CommitHosts = DEFAULT_HOSTS
    """The commit hosts of the installation."""
    number: int = 1
    """Counts the requests of an invocation. The second follows an answer with the build of another invocation."""

    @property
    def request_id(self) -> str:
        """The ID by which Buildbucket recognizes a repeated request. The first request uses the invocation's ID."""
        return str(self.invocation_id) if self.number == 1 else f"{self.invocation_id}-{self.number}"

    @property
    def project(self) -> str:
        """The job's project."""
        return project_of(self.job_id)


def shown_triggers(request: BuildRequest, log: Log) -> list[Mapping[str, Any]]:
    """Return the triggers that the build receives; if there are too many, log it."""
    if len(request.triggers) > MAX_TRIGGERS:
        log(log_lines.CAPPING_TRIGGERS.format(count=len(request.triggers), kept=MAX_TRIGGERS))
    return list(request.triggers[-MAX_TRIGGERS:])


def common_tags(request: BuildRequest) -> list[tuple[str, str]]:
    """Return the tags of both protocols, in order. They precede the tags of the task and of the request."""
    return [
        ("scheduler_invocation_id", str(request.invocation_id)),
        ("scheduler_job_id", request.job_id),
        ("user_agent", request.app_id),
    ]


def our_tags(request: BuildRequest) -> dict[str, str]:
    """Return the tags that identify a build of this invocation."""
    return {"scheduler_invocation_id": str(request.invocation_id), "scheduler_job_id": request.job_id}


def agree(tags: Iterable[tuple[str, str]], ours: Mapping[str, str]) -> bool:
    """Whether a build's tags agree with ours: for each of our keys, the build has our value or lacks the key."""
    named: dict[str, set[str]] = {}
    for key, value in tags:
        named.setdefault(key, set()).add(value)
    return all(value in named.get(key, {value}) for key, value in ours.items())


def merged_properties(request: BuildRequest) -> dict[str, Any]:
    """Return the properties of the config, overridden by the request's properties."""
    return {**dict(unpack_kv_list(request.task.get("properties") or ())), **request.properties}
