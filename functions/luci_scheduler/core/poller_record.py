"""What a gitiles job remembers from one poll to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from luci_scheduler.core.identifiers import JobId

__all__ = ["Backlog", "PollerRecord"]


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far a range of commits, which is too long for one poll, has been taken up from its old end."""

    target: str
    """The revision at the new end; the old end is what is known of the ref."""
    taken: int
    """How many commits have been taken up, counted from the oldest."""


@dataclass(frozen=True, slots=True)
class PollerRecord:
    """What a gitiles job knows of the repository that it polls."""

    job_id: JobId
    repo: str
    """Normalised URL; a record of another repository is worth nothing to the job."""
    known: Mapping[str, str] = field(default_factory=dict)
    """Ref → the revision up to which triggers were emitted."""
    refs: tuple[str, ...] = ()
    """The refs that the config asked for at the last change of ``known``."""
    commits: int = 0
    """Raised by every commit that touches the record."""
    backlog: Mapping[str, Backlog] = field(default_factory=dict)
    """Ref → the range that is being taken up over several polls; only where that is switched on."""
