"""What a build request is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
"""Incoming triggers that a build is told of: the newest (the original's limit)."""

Log = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """An invocation's part and the service's part of a build request."""

    task: Mapping[str, Any]
    """Fields of the task definition: server, bucket, builder, properties, tags."""
    job_id: JobId
    invocation_id: InvocationId
    realm: str
    """``<project>:<realm>``."""
    app_id: str
    hostname: str
    topic: str
    token: str = field(repr=False)
    properties: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    """As the invocation keeps them: sorted."""
    triggers: Sequence[Mapping[str, Any]] = ()
    """Incoming triggers in their public form, the oldest first."""
    until: Instant | None = None
    """When what is asked about it has to be over; None: at the deadline of each call."""
    request: int = 1
    """Which request of the invocation it is: the second one is made where the first was answered with another's build."""

    @property
    def request_id(self) -> str:
        """The request's ID, under which Buildbucket recognizes a repetition: the invocation's own for the first request."""
        return str(self.invocation_id) if self.request == 1 else f"{self.invocation_id}-{self.request}"

    @property
    def project(self) -> str:
        """The job's project."""
        return project_of(self.job_id)


def shown_triggers(given: BuildRequest, log: Log) -> list[Mapping[str, Any]]:
    """Return the triggers that the build is told of."""
    if len(given.triggers) > MAX_TRIGGERS:
        log(f"Capping {len(given.triggers)} triggers passed to the build to just {MAX_TRIGGERS} latest ones")
    return list(given.triggers[-MAX_TRIGGERS:])


def common_tags(given: BuildRequest) -> list[tuple[str, str]]:
    """Return the tags of both protocols, in their order, before the task's and the request's own."""
    return [
        ("scheduler_invocation_id", str(given.invocation_id)),
        ("scheduler_job_id", given.job_id),
        ("user_agent", given.app_id),
    ]


def our_tags(given: BuildRequest) -> dict[str, str]:
    """Return the tags that only a build of the invocation has."""
    return {"scheduler_invocation_id": str(given.invocation_id), "scheduler_job_id": given.job_id}


def agree(tags: Iterable[tuple[str, str]], ours: Mapping[str, str]) -> bool:
    """Whether a build's tags agree with ours: each key of ours has our value among its own, or the build lacks the key."""
    named: dict[str, set[str]] = {}
    for key, value in tags:
        named.setdefault(key, set()).add(value)
    return all(value in named.get(key, {value}) for key, value in ours.items())


def merged_properties(given: BuildRequest) -> dict[str, Any]:
    """Return the config's properties with the request's over them."""
    return {**dict(unpack_kv_list(given.task.get("properties") or ())), **given.properties}
