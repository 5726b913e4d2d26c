"""Identifiers of jobs, invocations and timers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NewType

from luci_scheduler.core.instants import MILLISECOND, Instant, parse_rfc3339

__all__ = [
    "NO_INVOCATION",
    "PROJECT_NAME",
    "InvocationId",
    "JobId",
    "invocation_created",
    "make_invocation_id",
    "project_of",
    "split_job_id",
    "suffixes",
    "timer_id",
    "timer_mutation",
]

PROJECT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
"""The name of a project: wider than LUCI's rule, because a folder's name is also a project's name."""

JobId = NewType("JobId", str)
"""``<project>/<name>``."""

InvocationId = NewType("InvocationId", int)
"""63 bits: 43 of inverted milliseconds since 2015, 16 random, 4 zero. Newer invocations have smaller IDs."""

NO_INVOCATION = InvocationId(0)
"""The value of a field without an invocation. No invocation has this ID before the year 2293."""

_EPOCH = parse_rfc3339("2015-01-01T00:00:00Z")
_MILLISECONDS_MASK = (1 << 43) - 1


def make_invocation_id(created: Instant, suffix: int) -> InvocationId:
    """Make the ID of an invocation created at ``created``, with a random 16-bit ``suffix``."""
    milliseconds = (created - _EPOCH) // MILLISECOND
    # Inverted time makes newer IDs smaller, so that an ascending query returns the newest first.
    return InvocationId((~milliseconds & _MILLISECONDS_MASK) << 20 | (suffix & 0xFFFF) << 4)


def suffixes(start: int, step: int) -> Iterator[int]:
    """Yield suffixes of invocation IDs: all 65,536 numbers before one repeats.

    An invocation's ID is its idempotency key at Buildbucket, which does not know jobs. Two jobs that start within one
    millisecond, for example by one commit, must not draw the same suffix. Both arguments are random numbers.
    """
    step |= 1  # an odd step visits every number
    return ((start + number * step) & 0xFFFF for number in itertools.count())


def invocation_created(invocation_id: InvocationId) -> tuple[Instant, int]:
    """Return the creation instant (whole milliseconds) and the random suffix in an ID."""
    milliseconds = ~(invocation_id >> 20) & _MILLISECONDS_MASK
    return Instant(_EPOCH + milliseconds * MILLISECOND), invocation_id >> 4 & 0xFFFF


def split_job_id(job_id: str) -> tuple[str, str]:
    """Return the project and the name of a job.

    Raises:
        ValueError: the text is not ``<project>/<name>``.
    """
    project, slash, name = job_id.partition("/")
    if not (project and slash and name):
        raise ValueError(f"not a job ID (project/name): {job_id!r}")
    return project, name


def project_of(job_id: str) -> str:
    """Return the project of a job."""
    return split_job_id(job_id)[0]


def timer_id(job_id: JobId, invocation_id: InvocationId, mutation: int, index: int) -> str:
    """Return the ID of the ``index``-th timer since the save that left the mutation counter at ``mutation``."""
    return f"{job_id}:{invocation_id}:{mutation}:{index}"


def timer_mutation(identifier: str) -> int:
    """Return the mutation counter in a timer's ID.

    Raises:
        ValueError: the text is not a timer's ID.
    """
    parts = identifier.rsplit(":", 3)
    if len(parts) != 4:  # noqa: PLR2004 - job:invocation:mutation:index
        raise ValueError(f"not a timer ID: {identifier!r}")
    return int(parts[2])
