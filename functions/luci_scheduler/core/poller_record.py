"""The state that a gitiles job keeps from one poll to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId

__all__ = ["Backlog", "PollerRecord"]


@frozen
class Backlog:
    """The progress through a range of commits that is too long for one poll, counted from its old end."""

    target: str
    """The revision at the new end. The old end is the known revision of the ref."""
    taken: int
    """The number of commits that triggers were emitted for, from the oldest on."""


@frozen
class PollerRecord:
    """A gitiles job's record of the repository that it polls."""

    job_id: JobId
    repo: str
    """Normalized URL. The job ignores a record of another repository."""
    known: Mapping[str, str] = field(default_factory=dict)
    """Ref → the revision up to which triggers were emitted."""
    refs: tuple[str, ...] = ()
    """The entries of ``refs`` in the config at the last change of ``known``."""
    commits: int = 0
    """The number of commits to this record."""
    backlog: Mapping[str, Backlog] = field(default_factory=dict)
    """Ref → the range that takes several polls; used only if the config enables it."""
