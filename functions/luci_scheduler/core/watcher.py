"""Watchers: which jobs the commits of a repository reach, and through which gitiles trigger."""

from __future__ import annotations

from dataclasses import field

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId

__all__ = ["Watcher"]


@frozen
class Watcher:
    """A job that watches a repository, with the refs and paths of the gitiles trigger that leads to it."""

    job_id: JobId
    trigger_job_id: JobId
    """The gitiles job (``trigger`` in the config) that names it."""
    repo: str
    """The repository as configured. It is part of trigger IDs."""
    refs: tuple[str, ...]
    """Literal refs and ``regexp:`` entries."""
    path_regexps: tuple[str, ...] = ()
    """Patterns of paths. A commit must touch a matching path; with no patterns, any commit passes."""
    path_regexps_exclude: tuple[str, ...] = ()
    """Patterns of paths that do not count."""
    paused: bool = field(default=False, kw_only=True)
    """Whether the gitiles job is paused. A paused trigger ignores all commits."""
