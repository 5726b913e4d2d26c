"""Probes: records that prove from outside that requests reach a function and are authenticated there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import MINUTE, Instant

__all__ = [
    "ATTRIBUTE",
    "INVOCATION",
    "LABEL",
    "LIFETIME",
    "MAX_LABEL",
    "MAX_MARKS",
    "Finding",
    "Mark",
    "Probe",
    "job_of",
]

ATTRIBUTE = "probe"
"""The attribute of a Pub/Sub message that makes it a probe; its value is the probe's ID."""

LABEL = "probe-label"
"""The attribute that distinguishes several probe messages to one function."""

LIFETIME = 10 * MINUTE
"""How long functions mark a probe, from its creation. Later requests are ignored."""

MAX_LABEL = 255  # characters; labels are the names of topics, which are not longer
MAX_MARKS = 32
"""The largest number of marks of a probe. It bounds the document, because publishers choose the labels."""

INVOCATION = InvocationId(1)
"""The invocation in the token that a mark holds; it does not exist."""


@frozen
class Mark:
    """The arrival of an authenticated probe at a function."""

    at: Instant
    revision: str = ""
    """The revision of the function; empty in the local cloud."""
    schema: int = 0
    """The version of the documents that the function writes."""
    task_version: int = 0
    """The version of the tasks that the function enqueues (`core.queue_tasks.VERSION`)."""
    token: str = field(default="", repr=False)
    """A notification token for the probe, signed by the function with its current key."""
    unexplained: tuple[str, ...] = ()
    """The earlier marks whose tokens no key of this function explains."""


@frozen
class Finding:
    """The result of one call that ``on_task`` makes for a probe."""

    check: str
    """``index``, ``github``, ``gitiles``, ``buildbucket`` or ``cloud_build``."""
    subject: str
    """The object of the call: a query, a host, a repository, a bucket of a server, or a place or trigger of builds."""
    problem: str = ""
    """The reason of the failure; empty if the call succeeded."""
    is_permission: bool = False
    """Whether the service refused our account."""
    note: str = ""
    """The answer of a call that succeeded, for people; usually empty."""


@frozen
class Probe:
    """A probe with everything that was recorded for it."""

    id: str
    created: Instant
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """``<function>`` or ``<function> <label>`` → mark."""
    findings: tuple[Finding, ...] = ()
    done: bool = False
    """Whether ``on_task`` has made all its calls."""


def job_of(probe_id: str) -> JobId:
    """Return the job in the token that a mark of a probe holds; no config can define it."""
    return JobId(f"@probe/{probe_id}")
