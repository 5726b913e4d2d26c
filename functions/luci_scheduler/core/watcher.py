"""Watchers: which jobs the commits of a repository reach, and by which gitiles trigger."""

from __future__ import annotations

from dataclasses import dataclass, field

from luci_scheduler.core.identifiers import JobId

__all__ = ["Watcher"]


@dataclass(frozen=True, slots=True)
class Watcher:
    """A job that watches a repository, and how: the refs and paths of the gitiles trigger that leads to it."""

    job_id: JobId
    trigger_job_id: JobId
    """The gitiles job (``trigger`` in the config) that names it."""
    repo: str
    """The repository as configured; it is part of trigger IDs."""
    refs: tuple[str, ...]
    """Literal refs and ``regexp:`` entries."""
    path_regexps: tuple[str, ...] = ()
    """Patterns of paths, one of which a commit must touch; empty: it need not."""
    path_regexps_exclude: tuple[str, ...] = ()
    """Patterns of paths that do not count."""
    paused: bool = field(default=False, kw_only=True)
    """Whether the gitiles job is paused: it lets nothing through."""
