"""The reasons for which triggers are discarded. Markers keep these texts, and pages show them."""

from __future__ import annotations

import re

from luci_scheduler.core.go_text import format_duration

__all__ = [
    "JOB_DISABLED",
    "JOB_MISSING",
    "JOB_PAUSED",
    "NOT_ON_REF",
    "NOT_SERVED",
    "TOO_COSTLY",
    "by_policy",
    "is_by_age",
    "is_too_many",
    "pending_too_long",
    "too_many",
]

JOB_MISSING = "the job does not exist"
JOB_DISABLED = "the job is disabled"
JOB_PAUSED = "the job is paused"
NOT_SERVED = "the repository's host does not serve the commit"
"""The host's answer follows this text."""
NOT_ON_REF = "the commit is not on the ref that is named with it"
"""The ref's name follows this text."""
TOO_COSTLY = (
    "the project's patterns of refs and paths cost too much for this commit: simplify them in luci-scheduler.cfg"
)
"""The limits are in `core.pattern_budget`."""

# Stored markers hold these texts, so a changed text must still match its old form.
_TOO_MANY = re.compile(r"more than [0-9]+ triggers were pending")
_AGE = "it was pending for longer than "
_BY_AGE = re.compile(rf"the policy \S+ discarded it, as {_AGE}.*")


def by_policy(kind: str, cause: str) -> str:
    """Return the reason of a trigger that a policy discards; ``cause`` is a clause such as ``it was too old``."""
    return f"the policy {kind} discarded it, as {cause}"


def pending_too_long(kind: str, timeout: int) -> str:
    """Return the reason of a trigger that a policy discards because of its age; ``timeout`` is in nanoseconds."""
    return by_policy(kind, f"{_AGE}{format_duration(timeout)}")


def is_by_age(reason: str) -> bool:
    """Whether a policy discarded the trigger because of its age."""
    return _BY_AGE.fullmatch(reason) is not None


def too_many(limit: int) -> str:
    """Return the reason of the oldest triggers of a job that has more pending triggers than it keeps."""
    return f"more than {limit} triggers were pending"


def is_too_many(reason: str) -> bool:
    """Whether the trigger was dropped because too many were pending."""
    return _TOO_MANY.fullmatch(reason) is not None
